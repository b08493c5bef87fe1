"""ONNX graphs of the students; `softmax(logits)` is what `predict_proba` returns."""

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from factory.students.linear import LinearHead

if TYPE_CHECKING:
    from factory.encoders import OpenEncoder

MODEL = "model.onnx"
OPSET = 17
IR_VERSION = 8
"""The oldest file format that holds the opset, for older runtimes."""


def write_weighted_rows(head: LinearHead, path: Path) -> None:
    """Write the graph of a linear head on sparse features: a weighted sum of rows of the weight matrix.

    Inputs: `indices` int64 and `values` float32, both (n_rows, longest row), padded with value 0.
    """
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Gather", ["weights", "indices"], ["rows"]),
        helper.make_node("Unsqueeze", ["values", "one"], ["weighing"]),
        helper.make_node("MatMul", ["weighing", "rows"], ["stacked"]),
        helper.make_node("Squeeze", ["stacked", "one"], ["summed"]),
        helper.make_node("Add", ["summed", "bias"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info("indices", TensorProto.INT64, ["n", "length"]),
        helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n", "length"]),
    ]
    _write(nodes, inputs, {"weights": head.weights, "bias": head.bias, "one": np.array([1])}, path)


def write_static(table: NDArray[np.float32], head: LinearHead, path: Path) -> None:
    """Write the graph of static token vectors: sum, unit length, linear head.

    Inputs: `input_ids` and `attention_mask` int64, both (n_rows, longest row).
    """
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "one"], ["weighing"]),
        helper.make_node("MatMul", ["weighing", "vectors"], ["stacked"]),
        helper.make_node("Squeeze", ["stacked", "one"], ["summed"]),
        helper.make_node("ReduceL2", ["summed"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Max", ["length", "smallest"], ["safe_length"]),
        helper.make_node("Div", ["summed", "safe_length"], ["features"]),
        helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    smallest = np.array([1e-12], dtype=np.float32)
    constants = {"table": table, "weights": head.weights, "bias": head.bias, "one": np.array([1]), "smallest": smallest}
    _write(nodes, inputs, constants, path)


def write_encoder(encoder: "OpenEncoder", head: LinearHead, folder: Path) -> dict[str, Any]:
    """Write `model.onnx` (encoder, pooling, unit length, linear head) and `tokenizer.json`.

    Returns:
        The `inputs` part of the artifact's config.json.
    """
    import torch

    linear = torch.nn.Linear(*head.weights.shape)
    linear.load_state_dict({"weight": torch.from_numpy(head.weights.T.copy()), "bias": torch.from_numpy(head.bias)})

    class Classifier(torch.nn.Module):  # type: ignore[misc]  # torch is not type-checked
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder.module()
            self.head = linear

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.head(self.encoder(input_ids, attention_mask))

    names = ["input_ids", "attention_mask"]
    # The sample has padding, so that no tracer can take a mask of ones for no mask.
    sample = (torch.ones((2, 7), dtype=torch.long), torch.tensor([[1] * 7, [1] * 4 + [0] * 3]))
    with warnings.catch_warnings():
        # The newer exporter needs onnxscript; this one warns about its age and about each constant it finds.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Classifier().eval(),
            sample,
            str(folder / MODEL),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "n", 1: "length"} for name in names} | {"logits": {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
    shutil.copyfile(encoder.folder / "tokenizer.json", folder / "tokenizer.json")
    return token_inputs(encoder.max_length, add_special_tokens=True)


def write_sum(parts: Mapping[Path, float], path: Path) -> None:
    """Write the graph that adds the logits of others, each times its factor.

    Inputs: those of all parts, whose names must differ.
    """
    import onnx
    from onnx import TensorProto, compose, helper

    graph = helper.make_graph([], "student", [], [])
    addends = []
    for position, (part, factor) in enumerate(parts.items()):
        prefixed = compose.add_prefix(onnx.load(part), f"part{position}_", rename_inputs=False).graph
        for own, theirs in ((graph.node, prefixed.node), (graph.initializer, prefixed.initializer)):
            own.extend(theirs)
        for value in prefixed.input:
            _rename_lengths(value, f"part{position}_")
        graph.input.extend(prefixed.input)
        (logits,) = prefixed.output
        scale = helper.make_tensor(f"part{position}_factor", TensorProto.FLOAT, [1], [factor])
        graph.initializer.append(scale)
        graph.node.append(helper.make_node("Mul", [logits.name, scale.name], [f"{logits.name}_scaled"]))
        addends.append(f"{logits.name}_scaled")
    graph.node.append(helper.make_node("Sum", addends, ["logits"]))
    n_labels = logits.type.tensor_type.shape.dim[1].dim_value
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", n_labels]))
    _save(graph, path)


def _rename_lengths(value: Any, prefix: str) -> None:
    """Tell the lengths of one part from those of another: onnxruntime lets tensors of equal shape share a buffer."""
    for dim in value.type.tensor_type.shape.dim:
        if dim.dim_param and dim.dim_param != "n":
            dim.dim_param = prefix + dim.dim_param


def token_inputs(max_length: int, *, add_special_tokens: bool) -> dict[str, Any]:
    """Return the `inputs` part of config.json for a graph that reads token ids."""
    return {
        "kind": "tokens",
        "tokenizer": "tokenizer.json",
        "max_length": max_length,
        "add_special_tokens": add_special_tokens,
    }


def _write(nodes: list[Any], inputs: list[Any], constants: dict[str, NDArray[Any]], path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    n_labels = len(constants["bias"])
    graph = helper.make_graph(
        nodes,
        "student",
        inputs,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", n_labels])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    _save(graph, path)


def _save(graph: Any, path: Path) -> None:
    import onnx
    from onnx import helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "task-model-factory"
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
