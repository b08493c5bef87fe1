"""A student with an encoder of 40,000 weights: real in every part, and quick."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from factory.records import Origin, Rows, TextRow, all_kept, text_dataset
from factory.spec import Label
from factory.students.training import FittedStudent

if TYPE_CHECKING:
    from datasets import Dataset

WORDS = {"music": ("play", "song", "jazz", "album"), "weather": ("rain", "snow", "sunny", "storm")}
LABELS = tuple(WORDS)
N_WORDS, N_DIMENSIONS = 101, 128
TEXTS = [f"{a} {b}" for words in WORDS.values() for a in words for b in words if a != b]


def labelled_rows() -> Rows:
    """24 texts of two words."""
    label = {word: name for name, words in WORDS.items() for word in words}
    return all_kept(text_dataset([TextRow(text, label[text.split()[0]], Origin.SYNTHETIC) for text in TEXTS]))


class TinyEncoder:
    """Word vectors, two dense layers, mean, linear head; `fit` draws random weights and solves for the head."""

    def __init__(self, spread: float = 1.0) -> None:
        self.labels_ = LABELS
        self.spread = spread
        self.head = np.zeros((N_DIMENSIONS, 2), np.float32)
        self.bias_in_python = 0.0

    def fit(self, rows: "Dataset", labels: Sequence[Label], *, seed: int) -> Self:
        rng = np.random.default_rng(seed)
        self.table = rng.normal(size=(N_WORDS, N_DIMENSIONS)).astype(np.float32) * np.float32(self.spread)
        self.table += rng.normal(size=N_DIMENSIONS).astype(np.float32) * np.float32(1 - self.spread)
        self.layers = [
            (rng.normal(size=(N_DIMENSIONS, N_DIMENSIONS)) / N_DIMENSIONS**0.5).astype(np.float32) for _ in range(2)
        ]
        targets = np.array([[4.0, -4.0] if label == LABELS[0] else [-4.0, 4.0] for label in rows["label"]])
        self.head = np.linalg.lstsq(self._features(list(rows["text"])), targets, rcond=None)[0].astype(np.float32)
        return self

    def predict_proba(self, rows: "Dataset") -> NDArray[np.float64]:
        logits = self._features(list(rows["text"])) @ self.head + np.array([self.bias_in_python, 0.0])
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def save(self, folder: Path) -> None:
        np.savez(folder / "tiny.npz", table=self.table, first=self.layers[0], second=self.layers[1], head=self.head)

    @classmethod
    def load(cls, folder: Path) -> Self:
        student = cls()
        with np.load(folder / "tiny.npz", allow_pickle=False) as arrays:
            student.table, student.head = arrays["table"], arrays["head"]
            student.layers = [arrays["first"], arrays["second"]]
        return student

    def to_onnx(self, folder: Path) -> dict[str, Any]:
        (folder / "tokenizer.json").write_text(_tokenizer().to_str(), encoding="utf-8")
        (folder / "model.onnx").write_bytes(self._graph())
        return {"kind": "tokens", "tokenizer": "tokenizer.json", "max_length": 32, "add_special_tokens": False}

    def _features(self, texts: Sequence[str]) -> NDArray[np.float64]:
        tokenizer = _tokenizer()
        tokenizer.enable_truncation(32)
        features = np.zeros((len(texts), N_DIMENSIONS))
        for position, text in enumerate(texts):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            if ids:
                hidden = np.maximum(self.table[ids] @ self.layers[0], 0) @ self.layers[1]
                features[position] = hidden.sum(axis=0) / len(ids)
        return features

    def _graph(self) -> bytes:
        from onnx import TensorProto, helper, numpy_helper

        nodes = [
            helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
            helper.make_node("MatMul", ["vectors", "first"], ["h1"]),
            helper.make_node("Relu", ["h1"], ["h2"]),
            helper.make_node("MatMul", ["h2", "second"], ["h3"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "one"], ["weighing"]),
            helper.make_node("MatMul", ["weighing", "h3"], ["stacked"]),
            helper.make_node("Squeeze", ["stacked", "one"], ["summed"]),
            helper.make_node("ReduceSum", ["mask", "one"], ["n"], keepdims=1),
            helper.make_node("Max", ["n", "least"], ["n1"]),
            helper.make_node("Div", ["summed", "n1"], ["features"]),
            helper.make_node("MatMul", ["features", "head"], ["logits"]),
        ]
        constants = {
            "table": self.table,
            "first": self.layers[0],
            "second": self.layers[1],
            "head": self.head,
            "one": np.array([1]),
            "least": np.array([1], np.float32),
        }
        graph = helper.make_graph(
            nodes,
            "tiny",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "length"])
                for name in ("input_ids", "attention_mask")
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(model.SerializeToString(deterministic=True))


def fitted_tiny(bias_in_python: float = 0.0, spread: float = 1.0) -> FittedStudent:
    """Fit it; the bias is one that the graph lacks, a small spread is more than int8 can tell apart."""
    rows = labelled_rows().kept
    student = TinyEncoder(spread).fit(rows, tuple(Label(name=name) for name in LABELS), seed=0)
    student.bias_in_python = bias_in_python
    return FittedStudent("tiny-encoder", student, len(rows))


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", *(word for words in WORDS.values() for word in words)]
    vocabulary = {word: position for position, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer
