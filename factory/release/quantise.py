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

Replace = Callable[["NodeProto", NDArray[np.float32], "_Editor"], list["NodeProto"]]


def has_encoder(model: "ModelProto") -> bool:
    """Whether the graph multiplies activations with big weight matrices, as transformers do and sparse students not."""
    weights = _constants(model)
    return any(node.op_type == "MatMul" and _is_big(node.input[1], weights) for node in model.graph.node)


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
    editor = _Editor(model)
    for node in list(model.graph.node):
        if node.op_type == "Gather" and _is_big(node.input[0], editor.weights):
            editor.replace(node, node.input[0], _gather_rows)
        elif node.op_type == "MatMul" and _is_big(node.input[1], editor.weights):
            editor.replace(node, node.input[1], RECIPES[recipe])
    editor.finish()
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


class _Editor:
    """Swaps nodes of a graph and adds each constant once."""

    def __init__(self, model: "ModelProto") -> None:
        self.model = model
        self.weights = _constants(model)
        self._nodes = {id(node): [node] for node in model.graph.node}
        self._order = list(model.graph.node)
        self._added: set[str] = set()
        self.quantised: dict[str, list[str]] = {}
        """Activations that already have an int8 form: their name, and the names of values and scales."""

    def replace(self, node: "NodeProto", weight: str, by: Replace) -> None:
        """Put other nodes in place of one."""
        from onnx import numpy_helper

        self._nodes[id(node)] = by(node, numpy_helper.to_array(self.weights[weight]), self)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant to the graph, unless it is there."""
        from onnx import numpy_helper

        if name not in self._added:
            self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
            self._added.add(name)
        return name

    def finish(self) -> None:
        """Write the nodes back and drop weights that nothing reads any more."""
        from onnx import helper

        graph = self.model.graph
        nodes = [new for old in self._order for new in self._nodes[id(old)]]
        used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
        constants = [constant for constant in graph.initializer if constant.name in used]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(constants)
        if all(opset.domain != "com.microsoft" for opset in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _gather_rows(node: "NodeProto", table: NDArray[np.float32], editor: _Editor) -> list["NodeProto"]:
    """Look up int8 rows and their scales, then multiply."""
    from onnx import TensorProto, helper

    name, ids, out = node.input[0], node.input[1], node.output[0]
    scales = _scales(table, axis=1)
    rows = editor.constant(f"{name}_int8", np.rint(table / scales).astype(np.int8))
    sizes = editor.constant(f"{name}_scales", scales)
    return [
        helper.make_node("Gather", [rows, ids], [f"{out}_int8"]),
        helper.make_node("Cast", [f"{out}_int8"], [f"{out}_float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [sizes, ids], [f"{out}_scales"]),
        helper.make_node("Mul", [f"{out}_float", f"{out}_scales"], [out]),
    ]


def _multiply_per_token(node: "NodeProto", weights: NDArray[np.float32], editor: _Editor) -> list["NodeProto"]:
    """Multiply uint8 activations, scaled by token, with int8 weights, scaled by column."""
    from onnx import TensorProto, helper

    source, name, out = node.input[0], node.input[1], node.output[0]
    zero_point = editor.constant("int8_zero_point", np.array(128, np.uint8))
    nodes = []
    if source not in editor.quantised:
        editor.quantised[source] = [f"{source}_int8", f"{source}_scales"]
        nodes = _quantise_tokens(source, zero_point, editor)
    values, token_scales = editor.quantised[source]
    column_scales = _scales(weights, axis=0)
    columns = editor.constant(f"{name}_int8", np.rint(weights / column_scales).astype(np.int8))
    sizes = editor.constant(f"{name}_scales", column_scales[0])
    return [
        *nodes,
        helper.make_node("MatMulInteger", [values, columns, zero_point], [f"{out}_int32"]),
        helper.make_node("Cast", [f"{out}_int32"], [f"{out}_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{out}_float", sizes], [f"{out}_columns"]),
        helper.make_node("Mul", [f"{out}_columns", token_scales], [out]),
    ]


def _quantise_tokens(source: str, zero_point: str, editor: _Editor) -> list["NodeProto"]:
    """Divide each token's activations by their largest magnitude and round them around 128 to uint8."""
    from onnx import helper

    # Signed activations would do without the zero point, but onnxruntime has no fast kernel for them (8 times slower).
    one = editor.constant("int8_one", np.array(1, np.float32))
    largest = editor.constant("int8_largest", np.array(127, np.float32))
    smallest = editor.constant("int8_smallest", np.array(1e-9, np.float32))
    values, scales = editor.quantised[source]
    return [
        helper.make_node("Abs", [source], [f"{source}_abs"]),
        helper.make_node("ReduceMax", [f"{source}_abs"], [f"{source}_max"], axes=[-1], keepdims=1),
        helper.make_node("Max", [f"{source}_max", smallest], [f"{source}_range"]),
        helper.make_node("Div", [f"{source}_range", largest], [scales]),
        helper.make_node("Div", [source, scales], [f"{source}_divided"]),
        helper.make_node("QuantizeLinear", [f"{source}_divided", one, zero_point], [values]),
    ]


def _multiply_per_block(node: "NodeProto", weights: NDArray[np.float32], editor: _Editor) -> list["NodeProto"]:
    """Multiply with blocks of int8 weights; onnxruntime scales the activations by block too (accuracy level 4)."""
    from onnx import helper

    n_in, n_out = weights.shape
    if n_in % BLOCK:
        return [node]
    blocks = weights.T.reshape(n_out, n_in // BLOCK, BLOCK)
    scales = _scales(blocks, axis=2)
    # The operator stores unsigned bytes with an implied zero point of 128.
    values = editor.constant(f"{node.input[1]}_int8", (np.rint(blocks / scales) + 128).astype(np.uint8))
    sizes = editor.constant(f"{node.input[1]}_scales", scales[:, :, 0])
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


def _constants(model: "ModelProto") -> dict[str, Any]:
    return {constant.name: constant for constant in model.graph.initializer}


def _is_big(name: str, constants: Mapping[str, Any]) -> bool:
    from onnx import TensorProto

    tensor = constants.get(name)
    is_matrix = tensor is not None and tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
    return bool(is_matrix and tensor.dims[0] * tensor.dims[1] >= SMALLEST)
