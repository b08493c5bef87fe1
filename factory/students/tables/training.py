"""The stages that tune and fit a student of a table, and let it predict rows it was not fitted on."""

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from factory.events import Progressed, emit
from factory.records import Origin, Predictions, Rows, column_of, without_soft_labels
from factory.records_table import rows_at
from factory.spec import Model
from factory.spec_table import Table
from factory.store import Stage
from factory.students import TABLE_STUDENTS, make_table_student, with_defaults
from factory.students.tables.folds import MOST_FOLDED_ROWS, fold_numbers
from factory.students.tables.search import Tuned, search
from factory.students.training import FittedStudent
from factory.tables.priors import Priors

MOST_SEEN = 250_000
"""Rows that a student learns from where it is only judged: what is released learns from all."""


class FitTableParams(Model):
    """What fitting depends on besides the rows."""

    student: str
    """A name in `TABLE_STUDENTS`."""
    params: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    """Its hyperparameters, completed with its defaults; those that are null and searched for come from the tuning."""
    table: Table
    soft_labels: bool = False
    """Fit to `label_probs` where a row has them, instead of to its label."""
    seed: int

    @field_validator("params")
    @classmethod
    def _complete(cls, params: dict[str, Any], known: ValidationInfo) -> dict[str, Any]:
        return with_defaults(known.data.get("student", ""), params)


class CrossPredictTableParams(FitTableParams):
    """What out-of-fold predictions depend on."""

    n_folds: Annotated[int, Field(ge=2)] = 5


def tune(params: FitTableParams, *, rows: Rows) -> Tuned:
    """Search for the hyperparameters that the spec leaves open, on training rows."""
    kept = rows.kept if params.soft_labels else without_soft_labels(rows.kept)
    return search(TABLE_STUDENTS[params.student], params.params, kept, params.table, seed=params.seed)


def fit_table(
    params: FitTableParams, *, rows: Rows, tuned: Tuned | None = None, priors: Priors | None = None
) -> FittedStudent:
    """Fit a student on the kept rows.

    Args:
        params: Which student.
        rows: What to learn from; a student with priors needs none.
        tuned: What the search found.
        priors: What a teacher believes of the columns, for students that take it.

    Returns:
        The student.
    """
    emit(Progressed("fit", 0, 1, "students", params.student))
    kept = rows.kept if params.soft_labels else without_soft_labels(rows.kept)
    student = make_table_student(params.student, _hyperparameters(params, tuned, priors))
    student.fit(kept, params.table, seed=params.seed)
    return FittedStudent(params.student, student, len(kept))


def cross_predict_table(
    params: CrossPredictTableParams, *, rows: Rows, tuned: Tuned | None = None, priors: Priors | None = None
) -> Predictions:
    """Predict kept rows by a student that has not seen them, nor the row they were varied from.

    Args:
        params: Which student, in how many folds.
        rows: Training rows, all of them answered.
        tuned: What the search found; it saw all rows, which flatters the student a little.
        priors: What a teacher believes of the columns, for students that take it.

    Returns:
        Out-of-fold probabilities or numbers in order of the rows; of a large table those of one part of it, by a
        student that learned from `MOST_SEEN` of the other rows. Where a teacher wrote some of the rows, those of the
        real ones: how well a student does on written rows says little.
    """
    import pyarrow.compute as pc

    kept = rows.kept if params.soft_labels else without_soft_labels(rows.kept)
    folds = fold_numbers(kept, params.n_folds, seed=params.seed)
    is_large = bool(len(kept) > MOST_FOLDED_ROWS)
    held_folds = [0] if is_large else np.unique(folds).tolist()
    answers = np.zeros((len(kept), max(1, len(params.table.labels))))
    for number, fold in enumerate(held_folds):
        emit(Progressed("cross-predict", number, len(held_folds), "folds", note=params.student))
        student = make_table_student(params.student, _hyperparameters(params, tuned, priors))
        student.fit(rows_at(kept, _seen(folds != fold, params.seed)), params.table, seed=params.seed)
        held = np.flatnonzero(folds == fold)
        answers[held] = student.predict_proba(rows_at(kept, held))
    emit(Progressed("cross-predict", len(held_folds), len(held_folds), "folds", note=params.student))
    ids = column_of(kept, "id").to_pylist()
    is_written = pc.equal(column_of(kept, "origin"), Origin.SYNTHETIC.value)
    is_real = ~np.asarray(is_written.to_numpy(zero_copy_only=False), dtype=bool)
    if is_large or not is_real.all():
        held = np.flatnonzero((folds == 0) & is_real if is_large else is_real)
        return Predictions(params.table.label_names, tuple(ids[position] for position in held), answers[held])
    return Predictions(params.table.label_names, tuple(ids), answers)


def _hyperparameters(params: FitTableParams, tuned: Tuned | None, priors: Priors | None) -> dict[str, Any]:
    found = {**params.params, **(tuned.params if tuned else {})}
    return {**found, "priors": priors.as_json()} if priors is not None else found


def _seen(is_seen: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """Return the positions of rows to learn from: all of them, or as many as tell students apart."""
    seen = np.flatnonzero(is_seen)
    if len(seen) <= MOST_SEEN:
        return seen
    return np.sort(np.random.default_rng(seed).choice(seen, MOST_SEEN, replace=False))


TUNE = Stage("tune", 1, FitTableParams, tune, Tuned)
FIT_TABLE = Stage("fit", 4, FitTableParams, fit_table, FittedStudent)
CROSS_PREDICT_TABLE = Stage("cross-predict", 4, CrossPredictTableParams, cross_predict_table, Predictions)
