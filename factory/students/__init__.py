"""Small models behind one protocol.

To add a student: write `students/<name>.py`, add a line to `STUDENTS`, run `pytest tests/test_students.py`.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from factory.errors import FactoryError
from factory.spec import Label
from factory.spec_table import Table
from factory.students.blend import Blend
from factory.students.sentence_linear import SentenceLinear
from factory.students.setfit import SetFitStudent
from factory.students.static_embedding import StaticEmbedding
from factory.students.tables.base import TableStudent
from factory.students.tables.ebm import TableEBM
from factory.students.tables.hist_gradient_boosting import TableHistGradientBoosting
from factory.students.tables.lightgbm import TableLightGBM
from factory.students.tables.linear import TableLinear
from factory.students.tables.scorecard import Scorecard
from factory.students.tfidf_linear import TfidfLinear

if TYPE_CHECKING:
    from datasets import Dataset


class Student(Protocol):
    """A pydantic dataclass of hyperparameters (unknown ones refused); `fit` sets the names that end in `_`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    max_folds: ClassVar[int]
    """Most folds of out-of-fold training that the time it takes to fit allows."""
    labels_: tuple[str, ...]
    """Column order of `predict_proba`: spec order."""

    def fit(self, rows: "Dataset", labels: Sequence[Label], *, seed: int) -> Self:
        """Learn from text rows; calling it again forgets.

        Args:
            rows: Columns of `records.text_features`; `label` is never null. `label_probs` (soft labels, null allowed)
                and `weight` are used by the students that can.
            labels: The task's labels in spec order; some may have no row.
            seed: The only source of randomness.

        Returns:
            The student itself.
        """

    def predict_proba(self, rows: "Dataset") -> NDArray[np.float64]:
        """Return probabilities, shape (n_rows, n_labels), rows sum to 1, columns in spec label order.

        Only the input columns of the task kind are read, such as `text`.

        Raises:
            NotFitted: `fit` has not been called.
        """

    def save(self, folder: Path) -> None:
        """Write the fitted student without pickle; same student, same bytes."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""

    def to_onnx(self, folder: Path) -> dict[str, Any]:
        """Write `model.onnx` (float32, output `logits` of shape (n_rows, n_labels)) and its vocabulary.

        Returns:
            The `inputs` part of the artifact's config.json: how `release/predict.py` turns a text into the inputs of
            the graph. `softmax(logits)` equals `predict_proba`.
        """


STUDENTS: dict[str, type[Student]] = {
    "tfidf-linear": TfidfLinear,
    "static-embedding": StaticEmbedding,
    "sentence-linear": SentenceLinear,
    "blend": Blend,
    "setfit": SetFitStudent,
}


class TableLearner(Protocol):
    """A student of a table: as `Student`, but it learns typed columns, and may answer with a number."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    labels_: tuple[str, ...]
    """Column order of `predict_proba`: spec order; empty for a regression."""

    def fit(self, rows: "Dataset", table: Table, *, seed: int) -> Self:
        """Learn from rows of a table; calling it again forgets.

        Args:
            rows: Columns of `records_table.table_dataset`; `label` is never null.
            table: What the rows hold; some labels may have no row.
            seed: The only source of randomness.

        Returns:
            The student itself.
        """

    def predict_proba(self, rows: "Dataset") -> NDArray[np.float64]:
        """Return probabilities, shape (n_rows, n_labels), rows sum to 1; or numbers, shape (n_rows, 1).

        Raises:
            NotFitted: `fit` has not been called.
        """

    def save(self, folder: Path) -> None:
        """Write the fitted student without pickle; same student, same bytes."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""

    def to_onnx(self, folder: Path) -> dict[str, Any]:
        """Write `model.onnx` (input `cells`, output `logits`).

        Returns:
            The `inputs` part of the artifact's config.json: how `release/table_cells.py` turns a row into `cells`.
            `softmax(logits)` equals `predict_proba`; of a regression the logits are the numbers.
        """

    def explanation(self, rows: "Dataset", *, seed: int = 0) -> dict[str, NDArray[Any]]:
        """Return the arrays with which a release says what each column added (`release/table_explain.py`)."""


TABLE_STUDENTS: dict[str, type[TableStudent]] = {
    "linear": TableLinear,
    "hist-gradient-boosting": TableHistGradientBoosting,
    "lightgbm": TableLightGBM,
    "ebm": TableEBM,
    "scorecard": Scorecard,
}


def make_table_student(name: str, params: Mapping[str, Any]) -> TableLearner:
    """Make an unfitted student of a table; see `make_student`."""
    if name not in TABLE_STUDENTS:
        raise FactoryError(f"students: expected one of {', '.join(TABLE_STUDENTS)}, got {name!r}")
    return TABLE_STUDENTS[name](**params)


def make_student(name: str, params: Mapping[str, Any]) -> Student:
    """Make an unfitted student.

    Args:
        name: A name in `STUDENTS`.
        params: Its hyperparameters; those left out keep their defaults.

    Returns:
        The student.

    Raises:
        FactoryError: There is no such student.
        pydantic.ValidationError: A hyperparameter is unknown or out of range.
    """
    if name not in STUDENTS:
        nearest = difflib.get_close_matches(name, STUDENTS, n=1, cutoff=0)
        raise FactoryError(
            f"students: expected one of {', '.join(STUDENTS)}, got {name!r}", hint=f"did you mean {nearest[0]}?"
        )
    return STUDENTS[name](**params)


def with_defaults(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Complete hyperparameters, so that a fingerprint of them changes when a default does.

    Args:
        name: Of a student, of texts or of tables.
        params: Its hyperparameters; not checked, since a stored build may name one that this version does not have.

    Returns:
        All of them; for a student that this version does not have, those that were given.
    """
    known: dict[str, Callable[[], Student] | Callable[[], TableLearner]] = {**STUDENTS, **TABLE_STUDENTS}
    return {**(asdict(known[name]()) if name in known else {}), **params}
