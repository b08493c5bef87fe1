"""A scorecard: curves over the inputs of a table that add up to the answer, as arrays and as a graph.

A curve over numbers is a sum of ramps, each of which rises from 0 to 1 between two numbers; over categories it is a yes
or no for each value. So the whole card is one weighted sum, every column's share of an answer can be read off exactly,
and the exported graph is a handful of nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from factory.students.tables.encoding import Matrix
from factory.students.tables.trees import make_model


@dataclass(frozen=True)
class Term:
    """A number between 0 and 1 made of one input."""

    input: int
    low: float = 0.0
    """Up to here a ramp is 0."""
    high: float = 1.0
    """From here on it is 1."""
    fill: float = 0.0
    """What a ramp is for a missing number."""
    code: int = -1
    """Of a category: 1 where the input is this code. -1: a ramp."""
    is_missing: bool = False
    """1 where the input is missing."""


def expand_terms(matrix: Matrix, terms: Sequence[Term]) -> NDArray[np.float64]:
    """Return the terms of some rows, shape (n_rows, n_terms), each 0 to 1."""
    found = np.empty((len(matrix), len(terms)))
    for position, term in enumerate(terms):
        column = matrix[:, term.input].astype(np.float64)
        unknown = np.isnan(column)
        if term.is_missing:
            found[:, position] = unknown
        elif term.code >= 0:
            found[:, position] = column == term.code
        else:
            ramp = np.clip((column - term.low) / (term.high - term.low), 0.0, 1.0)
            found[:, position] = np.where(unknown, term.fill, ramp)
    return found


@dataclass(frozen=True)
class Card:
    """Terms, what each is worth for each target, and where the sums start."""

    terms: tuple[Term, ...]
    weights: NDArray[np.float64]
    """Shape (n_terms, n_targets)."""
    base: NDArray[np.float64]
    """Shape (n_targets,)."""
    n_inputs: int

    def scores(self, matrix: Matrix) -> NDArray[np.float64]:
        """Return the sums for some rows, shape (n_rows, n_targets)."""
        return np.asarray(expand_terms(matrix, self.terms) @ self.weights + self.base)

    def shares(self, matrix: Matrix) -> NDArray[np.float64]:
        """Return what each input adds to the sums of some rows, shape (n_rows, n_inputs, n_targets).

        Together with `base` they are the sums: an exact explanation.
        """
        found = np.zeros((len(matrix), self.n_inputs, len(self.base)))
        expanded = expand_terms(matrix, self.terms)
        for position, term in enumerate(self.terms):
            found[:, term.input] += expanded[:, position, None] * self.weights[position]
        return found

    def save(self, path: Path) -> None:
        """Write an npz file."""
        terms = [(one.input, one.low, one.high, one.fill, one.code, one.is_missing) for one in self.terms]
        np.savez(
            path,
            terms=np.array(terms, dtype=np.float64).reshape(-1, 6),
            weights=self.weights,
            base=self.base,
            n_inputs=np.array(self.n_inputs),
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as saved:
            terms = tuple(
                Term(int(position), float(low), float(high), float(fill), int(code), bool(is_missing))
                for position, low, high, fill, code, is_missing in saved["terms"]
            )
            return cls(terms, saved["weights"], saved["base"], int(saved["n_inputs"]))

    def model(self) -> Any:
        """Return the ONNX model: gather the input of each term, make the term of it, weigh and add."""
        from onnx import TensorProto, helper, numpy_helper

        terms = self.terms or (Term(0, is_missing=True),)
        codes = np.array([one.code for one in terms], dtype=np.float32)
        weights = self.weights if self.terms else np.zeros((1, len(self.base)))
        constants = {
            "positions": np.array([one.input for one in terms], dtype=np.int64),
            "codes": codes,
            "is_code": codes >= 0,
            "is_missing": np.array([one.is_missing for one in terms]),
            "low": np.array([one.low for one in terms], dtype=np.float32),
            "span": np.array([one.high - one.low for one in terms], dtype=np.float32),
            "fill": np.array([one.fill for one in terms], dtype=np.float32),
            "zero": np.array(0.0, dtype=np.float32),
            "one": np.array(1.0, dtype=np.float32),
            "weights": weights.astype(np.float32),
            "base": self.base.astype(np.float32),
        }
        nodes = [
            helper.make_node("Gather", ["cells", "positions"], ["found"], axis=1),
            helper.make_node("IsNaN", ["found"], ["unknown"]),
            helper.make_node("Cast", ["unknown"], ["as_missing"], to=TensorProto.FLOAT),
            helper.make_node("Equal", ["found", "codes"], ["equal"]),
            helper.make_node("Cast", ["equal"], ["as_code"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["found", "low"], ["above"]),
            helper.make_node("Div", ["above", "span"], ["along"]),
            helper.make_node("Clip", ["along", "zero", "one"], ["ramp"]),
            helper.make_node("Where", ["unknown", "fill", "ramp"], ["known"]),
            helper.make_node("Where", ["is_code", "as_code", "known"], ["one_of_two"]),
            helper.make_node("Where", ["is_missing", "as_missing", "one_of_two"], ["terms"]),
            helper.make_node("Gemm", ["terms", "weights", "base"], ["logits"]),
        ]
        return make_model(
            nodes,
            helper.make_tensor_value_info("cells", TensorProto.FLOAT, ["n", self.n_inputs]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(self.base)]),
            [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
        )
