"""What all students of tables share: reading rows, answering, saving, and their graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from factory.records_table import cells_of, rows_at
from factory.spec_table import Table
from factory.students.graphs import MODEL
from factory.students.linear import ABSENT_LOGIT, softmax
from factory.students.tables.encoding import Encoding, Input, Matrix
from factory.students.tables.targets import Answers, answers_of
from factory.students.targets import read_json, require_fitted, write_json

if TYPE_CHECKING:
    from datasets import Dataset

FITTED = "model.npz"
FEW_ROWS = 20_000
"""Up to so many rows one thread is faster: more wait for each other longer than they work."""
MOST_CHECKED = 1_000
"""Training rows on which what was fitted is compared with the library that fitted it."""
MOST_COUNTED = 2_000
"""Training rows that say what is usual, where an answer is explained; of more, as many are drawn."""


@dataclass(frozen=True)
class Range:
    """What a hyperparameter may be."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


class Fitted(Protocol):
    """What is left of a library's model: arrays that can be saved, asked and written as a graph."""

    def scores(self, matrix: Matrix) -> NDArray[np.float64]:
        """Return raw scores, shape (n_rows, n_targets)."""

    def save(self, path: Path) -> None:
        """Write an npz file."""

    def model(self) -> Any:
        """Return an ONNX model of `cells` to `logits`."""


class TableStudent:
    """Base of students of tables; the contract is `factory.students.TableLearner`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    max_folds: ClassVar[int] = 5
    fitted_type: ClassVar[Any]
    """Has `load`, which reads what `Fitted.save` wrote."""
    space: ClassVar[Mapping[str, Range]] = MappingProxyType({})
    """What is searched for where a hyperparameter is null."""
    defaults: ClassVar[Mapping[str, float]] = MappingProxyType({})
    """What is taken for it where nothing is searched for, and tried first."""
    balanced: bool
    encoding_: Encoding
    fitted_: Fitted
    labels_: tuple[str, ...]

    def learn(self, matrix: Matrix, inputs: tuple[Input, ...], answers: Answers, n_labels: int, *, seed: int) -> Fitted:
        """Fit the library's model and turn it into arrays.

        Args:
            matrix: Inputs of the training rows, shape (n_rows, n_inputs).
            inputs: What they are.
            answers: What is to be learned.
            n_labels: 0 for a regression.
            seed: The only source of randomness.

        Returns:
            The arrays.
        """
        raise NotImplementedError

    def fit(self, rows: "Dataset", table: Table, *, seed: int) -> Self:
        """Learn from rows of a table; calling it again forgets."""
        cells = cells_of(rows)
        answers = answers_of(rows, table, balanced=self.balanced)
        self.encoding_ = Encoding.fit(cells, table.columns)
        matrix = self.encoding_.matrix(cells)
        self.fitted_ = self.learn(matrix, self.encoding_.inputs, answers, len(table.labels), seed=seed)
        self.labels_ = table.label_names
        return self

    def predict_proba(self, rows: "Dataset") -> NDArray[np.float64]:
        """Return probabilities, shape (n_rows, n_labels), or numbers, shape (n_rows, 1)."""
        require_fitted(self)
        scores = self.fitted_.scores(self.encoding_.matrix(cells_of(rows)))
        return softmax(scores) if self.labels_ else scores

    def save(self, folder: Path) -> None:
        """Write hyperparameters and encoding as JSON, the model as arrays."""
        require_fitted(self)
        params = TypeAdapter(type(self)).dump_python(self, mode="json")
        write_json(
            folder / "config.json", {"params": params, "labels": self.labels_, "encoding": self.encoding_.as_json()}
        )
        self.fitted_.save(folder / FITTED)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        config = read_json(folder / "config.json")
        student = cls(**config["params"])
        student.encoding_ = Encoding.from_json(config["encoding"])
        student.fitted_ = cls.fitted_type.load(folder / FITTED)
        student.labels_ = tuple(config["labels"])
        return student

    def to_onnx(self, folder: Path) -> dict[str, Any]:
        """Write `model.onnx`; return how `table_cells.py` turns a row into its input `cells`."""
        require_fitted(self)
        (folder / MODEL).write_bytes(self.fitted_.model().SerializeToString(deterministic=True))
        return {"kind": "cells", **self.encoding_.as_json()}

    def explanation(self, rows: "Dataset", *, seed: int = 0) -> dict[str, NDArray[Any]]:
        """Return the arrays with which a release says what each column added (`release/table_explain.py`)."""
        from factory.students.tables.explained import explained

        require_fitted(self)
        if len(rows) > MOST_COUNTED:
            rows = rows_at(rows, np.sort(np.random.default_rng(seed).choice(len(rows), MOST_COUNTED, replace=False)))
        return explained(self.fitted_, self.encoding_, self.encoding_.matrix(cells_of(rows)))


def targets_and_base(
    base: NDArray[np.float64], classes: NDArray[Any], n_labels: int
) -> tuple[list[int], NDArray[np.float64]]:
    """Say which score of a library belongs to which target, and where the sums start.

    Args:
        base: What the library adds to each of its scores, shape (n_scores,); one score for two labels.
        classes: Columns of the labels that had training rows, ascending; anything for a regression.
        n_labels: 0 for a regression.

    Returns:
        The target of each score, and the base of all targets; a label without rows gets a tiny constant probability.
    """
    if not n_labels:
        return [0], base
    present = np.asarray(classes).astype(np.int64)
    targets = present[-len(base) :].tolist()
    spread = np.full(n_labels, ABSENT_LOGIT)
    spread[present] = 0.0
    spread[targets] = base
    return targets, spread


def spread_out(raw: NDArray[np.float64], classes: NDArray[Any], n_labels: int) -> NDArray[np.float64]:
    """Return a library's raw scores with a column for each label; of numbers with one column."""
    flat = np.asarray(raw, dtype=np.float64).reshape(len(raw), -1)
    targets, base = targets_and_base(np.zeros(flat.shape[1]), classes, n_labels)
    spread = np.tile(base, (len(flat), 1))
    spread[:, targets] = flat
    return spread
