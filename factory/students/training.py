"""The stages that fit a student, let it predict, and let it predict rows it was not fitted on."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from factory.encoders import Encoder, load_encoder
from factory.errors import ArtifactCorrupt
from factory.events import Progressed, emit
from factory.records import Predictions, Rows, without_soft_labels
from factory.spec import Label, Model
from factory.store import Resource, Stage
from factory.students import STUDENTS, TABLE_STUDENTS, Student, TableLearner, make_student, with_defaults
from factory.students.folds import assign_folds, families
from factory.students.targets import read_json

if TYPE_CHECKING:
    from datasets import Dataset

CHUNK_ROWS = 1024
"""Rows predicted between two progress events."""


class FitParams(Model):
    """What fitting depends on besides the rows and the encoder."""

    student: str
    """A name in `STUDENTS`."""
    params: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    """Its hyperparameters; completed with its defaults, so that a default that changes is fitted anew."""
    labels: tuple[Label, ...]
    soft_labels: bool = False
    """Fit to `label_probs` where a row has them, instead of to its label."""
    balance: bool = False
    """Give every label the same total weight: in generated rows, counts say which label a teacher writes easily."""
    seed: int

    @field_validator("params")
    @classmethod
    def _complete(cls, params: dict[str, Any], known: ValidationInfo) -> dict[str, Any]:
        return with_defaults(known.data.get("student", ""), params)


class CrossPredictParams(FitParams):
    """What out-of-fold predictions depend on."""

    n_folds: Annotated[int, Field(ge=2)] = 5
    """At most this many folds; a student that is slow to fit has a lower bound of its own."""


class PredictParams(Model):
    """Predicting has no parameters."""


@dataclass(frozen=True)
class FittedStudent:
    """A student and the name of its class, as one artifact."""

    name: str
    student: Student | TableLearner
    n_rows: int
    """How many rows it was fitted on."""
    is_complete: ClassVar[bool] = True

    @property
    def summary(self) -> str:
        """One line for a person."""
        return f"{self.name} fitted on {self.n_rows:,} rows"

    def save(self, folder: Path) -> None:
        """Write `student.json` beside the student's own files."""
        described = {"student": self.name, "n_rows": self.n_rows}
        (folder / "student.json").write_text(json.dumps(described) + "\n", encoding="utf-8")
        self.student.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Args:
            folder: The artifact's folder.

        Returns:
            The student, fitted.

        Raises:
            ArtifactCorrupt: The student is of a class that this version does not have.
        """
        described = read_json(folder / "student.json")
        name = described["student"]
        known: dict[str, type[Student] | type[TableLearner]] = {**STUDENTS, **TABLE_STUDENTS}
        if name not in known:
            raise ArtifactCorrupt(
                f"{folder / 'student.json'}: expected one of {', '.join(known)}, got {name!r}",
                hint="use the version of the factory that fitted it, or fit it again",
            )
        return cls(name, known[name].load(folder), described["n_rows"])


def resources_for(student: str, params: Mapping[str, Any]) -> dict[str, Resource]:
    """Return what fitting a student uses besides rows: its encoder, if it has one; hashing it takes a moment."""
    if student in TABLE_STUDENTS:
        return {}
    encoder = getattr(make_student(student, params), "encoder", None)
    return {} if encoder is None else {"encoder": load_encoder(encoder)}


def fit(params: FitParams, *, rows: Rows, encoder: Encoder | None = None) -> FittedStudent:
    """Fit a student on the kept rows.

    Args:
        params: Which student, on which labels.
        rows: Training rows, all of them labelled.
        encoder: From `resources_for`, so that it enters the fingerprint; the student opens the same one by name.

    Returns:
        The fitted student.
    """
    student = make_student(params.student, params.params)
    student.fit(taught_rows(params, rows), params.labels, seed=params.seed)
    return FittedStudent(params.student, student, len(rows.kept))


def cross_predict(params: CrossPredictParams, *, rows: Rows, encoder: Encoder | None = None) -> Predictions:
    """Predict each kept row by a student that has not seen its text, nor the row it was varied from.

    Args:
        params: Which student, on which labels, in how many folds.
        rows: Training rows, all of them labelled.
        encoder: From `resources_for`, so that it enters the fingerprint; the student opens the same one by name.

    Returns:
        Out-of-fold probabilities, in order of the rows.
    """
    kept = taught_rows(params, rows)
    n_folds = min(params.n_folds, STUDENTS[params.student].max_folds)
    folds = assign_folds(families(kept), list(kept["label"]), n_folds, seed=params.seed)
    n_folds = int(folds.max(initial=-1)) + 1
    probs = np.zeros((len(kept), len(params.labels)))
    for fold in range(n_folds):
        emit(Progressed("cross-predict", fold, n_folds, "folds", note=params.student))
        student = make_student(params.student, params.params)
        student.fit(kept.select(np.flatnonzero(folds != fold)), params.labels, seed=params.seed)
        held = np.flatnonzero(folds == fold)
        probs[held] = student.predict_proba(kept.select(held))
    emit(Progressed("cross-predict", n_folds, n_folds, "folds", note=params.student))
    return Predictions(tuple(label.name for label in params.labels), tuple(kept["id"]), probs)


def predict(params: PredictParams, *, student: FittedStudent, rows: Rows) -> Predictions:
    """Predict the kept rows."""
    probs = _predict_in_chunks(student.student, rows.kept)
    return Predictions(student.student.labels_, tuple(rows.kept["id"]), probs)


def taught_rows(params: FitParams, rows: Rows) -> "Dataset":
    """Return the kept rows with the labels and weights that a student learns from."""
    kept = rows.kept if params.soft_labels else without_soft_labels(rows.kept)
    if not params.balance or not len(kept):
        return kept
    mass: dict[str, float] = defaultdict(float)
    for weight, label in zip(kept["weight"], kept["label"], strict=True):
        mass[label] += weight
    even = sum(mass.values()) / len(mass)
    weights = [
        weight * even / (mass[label] or 1.0) for weight, label in zip(kept["weight"], kept["label"], strict=True)
    ]
    feature = kept.features["weight"]
    return kept.remove_columns("weight").add_column("weight", weights, feature=feature)


def _predict_in_chunks(student: Student | TableLearner, rows: "Dataset") -> NDArray[np.float64]:
    chunks = [np.zeros((0, max(1, len(student.labels_))))]
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = rows.select(range(start, min(start + CHUNK_ROWS, len(rows))))
        chunks.append(student.predict_proba(chunk))
        emit(Progressed("predict", start + len(chunk), len(rows), "rows"))
    return np.vstack(chunks)


FIT = Stage("fit", 6, FitParams, fit, FittedStudent)
CROSS_PREDICT = Stage("cross-predict", 6, CrossPredictParams, cross_predict, Predictions)
PREDICT = Stage("predict", 1, PredictParams, predict, Predictions)
