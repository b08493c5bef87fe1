"""Int8 for the encoder inside an ONNX graph, in two recipes: the fast one first, the more exact one second.

`per-token`  each token's activations get a scale of their own, each weight column too: the vector-wise quantisation of
             Dettmers et al., "LLM.int8()", NeurIPS 2022, arXiv:2208.07339, without its outlier columns.
`per-block`  a scale for every 64 weights and every 64 activations: the group-wise quantisation of Yao et al.,
             "ZeroQuant", NeurIPS 2022, arXiv:2206.01861.

Tables of token vectors get a scale a row in both. onnxruntime's own `quantize_dynamic` has one activation scale for a
whole batch: it is less exact, and what it says of a text depends on the other texts asked with it (docs/decisions/
0004-int8.md has the measured table).
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

BLOCK = 64
SMALLEST = 10_000
"""Weights with fewer entries stay float32: nothing to gain."""

Replace = Callable[["NodeProto", NDArray[np.float32], "_Constants"], list["NodeProto"]]


def has_encoder(model: "ModelProto") -> bool:
    """Whether the graph multiplies activations with big weight matrices, as transformers do and sparse students not."""
    weights = _big_weights(model)
    return any(node.op_type == "MatMul" and node.input[1] in weights for node in model.graph.node)


def quantise(onnx_bytes: bytes, recipe: str) -> bytes:
    """Return the graph with int8 weights; same input, same bytes.

    Args:
        onnx_bytes: A float32 graph of opset 17.
        recipe: A name in `RECIPES`.

    Returns:
        The smaller graph, with the same inputs and outputs.
    """
    import onnx

    model = onnx.load_from_string(onnx_bytes)
    constants = _Constants(model)
    nodes = [new for node in model.graph.node for new in _rewrite(node, recipe, constants)]
    read = {name for node in nodes for name in node.input} | {output.name for output in model.graph.output}
    kept = [constant for constant in [*model.graph.initializer, *constants.added.values()] if constant.name in read]
    model.graph.ClearField("node")
    model.graph.ClearField("initializer")
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    if all(opset.domain != "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


class _Constants:
    """The big weights of a graph and the constants that take their place."""

    def __init__(self, model: "ModelProto") -> None:
        self.weights = _big_weights(model)
        self.added: dict[str, Any] = {}
        self.quantised: dict[str, tuple[str, str]] = {}
        """Activations that already have an int8 form: names of their values and scales."""

    def add(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant, unless it is there, and return its name."""
        from onnx import numpy_helper

        if name not in self.added:
            self.added[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name


def _rewrite(node: "NodeProto", recipe: str, constants: _Constants) -> list["NodeProto"]:
    """Return what takes the place of a node: the node itself, if it reads no big weight."""
    from onnx import numpy_helper

    rewrite, weight = {"Gather": (_gather_rows, 0), "MatMul": (RECIPES[recipe], 1)}.get(node.op_type, (None, 0))
    if rewrite is None or node.input[weight] not in constants.weights:
        return [node]
    return rewrite(node, numpy_helper.to_array(constants.weights[node.input[weight]]), constants)


def _gather_rows(node: "NodeProto", table: NDArray[np.float32], constants: _Constants) -> list["NodeProto"]:
    """Look up int8 rows and their scales, then multiply."""
    from onnx import TensorProto, helper

    name, ids, out = node.input[0], node.input[1], node.output[0]
    scales = _scales(table, axis=1)
    rows = constants.add(f"{name}_int8", np.rint(table / scales).astype(np.int8))
    sizes = constants.add(f"{name}_scales", scales)
    return [
        helper.make_node("Gather", [rows, ids], [f"{out}_row"]),
        helper.make_node("Cast", [f"{out}_row"], [f"{out}_row_float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [sizes, ids], [f"{out}_row_scale"]),
        helper.make_node("Mul", [f"{out}_row_float", f"{out}_row_scale"], [out]),
    ]


def _multiply_per_token(node: "NodeProto", weights: NDArray[np.float32], constants: _Constants) -> list["NodeProto"]:
    """Multiply uint8 activations, scaled by token, with int8 weights, scaled by column."""
    from onnx import TensorProto, helper

    source, name, out = node.input[0], node.input[1], node.output[0]
    zero_point = constants.add("int8_zero_point", np.array(128, np.uint8))
    nodes = []
    if source not in constants.quantised:
        constants.quantised[source] = (f"{source}_tokens", f"{source}_token_scales")
        nodes = _quantise_tokens(source, zero_point, constants)
    values, token_scales = constants.quantised[source]
    column_scales = _scales(weights, axis=0)
    columns = constants.add(f"{name}_int8", np.rint(weights / column_scales).astype(np.int8))
    sizes = constants.add(f"{name}_scales", column_scales[0])
    return [
        *nodes,
        helper.make_node("MatMulInteger", [values, columns, zero_point], [f"{out}_int32"]),
        helper.make_node("Cast", [f"{out}_int32"], [f"{out}_product"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{out}_product", sizes], [f"{out}_columns"]),
        helper.make_node("Mul", [f"{out}_columns", token_scales], [out]),
    ]


def _quantise_tokens(source: str, zero_point: str, constants: _Constants) -> list["NodeProto"]:
    """Divide each token's activations by their largest magnitude and round them around 128 to uint8."""
    from onnx import helper

    # Signed activations would do without the zero point, but onnxruntime has no fast kernel for them (8 times slower).
    one = constants.add("int8_one", np.array(1, np.float32))
    largest = constants.add("int8_largest", np.array(127, np.float32))
    smallest = constants.add("int8_smallest", np.array(1e-9, np.float32))
    values, scales = constants.quantised[source]
    return [
        helper.make_node("Abs", [source], [f"{source}_token_abs"]),
        helper.make_node("ReduceMax", [f"{source}_token_abs"], [f"{source}_token_max"], axes=[-1], keepdims=1),
        helper.make_node("Max", [f"{source}_token_max", smallest], [f"{source}_token_range"]),
        helper.make_node("Div", [f"{source}_token_range", largest], [scales]),
        helper.make_node("Div", [source, scales], [f"{source}_token_divided"]),
        helper.make_node("QuantizeLinear", [f"{source}_token_divided", one, zero_point], [values]),
    ]


def _multiply_per_block(node: "NodeProto", weights: NDArray[np.float32], constants: _Constants) -> list["NodeProto"]:
    """Multiply with blocks of int8 weights; onnxruntime scales the activations by block too (accuracy level 4)."""
    from onnx import helper

    n_in, n_out = weights.shape
    if n_in % BLOCK:
        return [node]
    blocks = weights.T.reshape(n_out, n_in // BLOCK, BLOCK)
    scales = _scales(blocks, axis=2)
    # The operator stores unsigned bytes with an implied zero point of 128.
    values = constants.add(f"{node.input[1]}_int8", (np.rint(blocks / scales) + 128).astype(np.uint8))
    sizes = constants.add(f"{node.input[1]}_scales", scales[:, :, 0])
    attributes = {"K": n_in, "N": n_out, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
    return [
        helper.make_node(
            "MatMulNBits", [node.input[0], values, sizes], list(node.output), domain="com.microsoft", **attributes
        )
    ]


RECIPES: Mapping[str, Replace] = {"per-token": _multiply_per_token, "per-block": _multiply_per_block}
"""In the order in which they are tried."""


def _scales(values: NDArray[np.float32], *, axis: int) -> NDArray[np.float32]:
    """Return what maps the largest magnitude along an axis to 127; 1 where all is zero."""
    largest = np.abs(values).max(axis=axis, keepdims=True) / np.float32(127)
    return np.where(largest > 0, largest, np.float32(1)).astype(np.float32)


def _big_weights(model: "ModelProto") -> dict[str, Any]:
    from onnx import TensorProto

    return {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2 and np.prod(tensor.dims) >= SMALLEST
    }
