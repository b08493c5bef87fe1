"""What a student learns from: labels as a matrix of probabilities, with weights."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from factory.errors import ArtifactCorrupt, ArtifactMissing, FactoryError, NotFitted
from factory.spec import Label

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Targets:
    """The label of each row: its soft label where it has one, else certainty; columns in spec order."""

    probs: NDArray[np.float64]
    """Shape (n_rows, n_labels), rows sum to 1."""
    columns: NDArray[np.intp]
    """Column of each row's label, shape (n_rows,)."""
    weights: NDArray[np.float64]
    """Shape (n_rows,), above or equal to 0."""

    def __getitem__(self, positions: NDArray[np.intp]) -> "Targets":
        """Return some of the rows."""
        return Targets(self.probs[positions], self.columns[positions], self.weights[positions])

    def with_anchors(self, weight: float) -> "Targets":
        """Return these rows and then one certain row a label, of the given weight."""
        n_labels = self.probs.shape[1]
        return Targets(
            np.vstack([self.probs, np.eye(n_labels)]),
            np.concatenate([self.columns, np.arange(n_labels)]),
            np.concatenate([self.weights, np.full(n_labels, weight)]),
        )


def targets_of(rows: "Dataset", labels: Sequence[Label]) -> Targets:
    """Read the labels of training rows.

    Args:
        rows: Columns `label`, `label_probs` and `weight` of `records.text_features`.
        labels: The task's labels in spec order.

    Returns:
        The targets, in order of the rows.

    Raises:
        FactoryError: A label is unknown, a soft label has another length than the labels, or the rows hold fewer
            than two labels.
    """
    names = [label.name for label in labels]
    given: list[str] = list(rows["label"])
    unknown = sorted({str(name) for name in given} - set(names))
    if unknown:
        raise FactoryError(
            f"training rows: {len(unknown)} labels are not in the spec: {', '.join(unknown[:5])}; "
            f"expected one of {', '.join(names)}",
            hint="label every row, with a name the spec has, before a student is fitted",
        )
    columns = np.array([names.index(name) for name in given], dtype=np.intp)
    if len(set(given)) < 2:
        raise FactoryError(
            f"training rows: expected rows of at least 2 labels, "
            f"got {len(given)} rows of {sorted(set(given)) or 'none'}",
            hint="look into the rejected rows of the earlier stages, or add seeds for the missing labels",
        )
    probs = np.eye(len(names))[columns]
    for position, soft in enumerate(rows["label_probs"]):
        if soft is None:
            continue
        if len(soft) != len(names) or not sum(soft) > 0 or min(soft) < 0:
            raise FactoryError(
                f"training row {position}: expected label_probs of {len(names)} non-negative numbers, got {soft}",
                hint="soft labels follow the labels of the spec; run the stage that made them again",
            )
        probs[position] = np.asarray(soft) / sum(soft)
    return Targets(probs, columns, np.array(list(rows["weight"]), dtype=np.float64))


def require_fitted(student: object) -> None:
    """Refuse to go on with a student that has learned nothing.

    Raises:
        NotFitted: `fit` has not been called.
    """
    if not hasattr(student, "labels_"):
        raise NotFitted(
            f"{type(student).__name__} has not been fitted: expected a call of `fit` first",
            hint="call `fit(rows, labels, seed=...)`, or `load` a saved student",
        )


def write_json(path: Path, value: object) -> None:
    """Write a small JSON file, same value, same bytes."""
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that `write_json` wrote.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        ArtifactMissing: There is no such file.
        ArtifactCorrupt: It is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactMissing(f"{path}: no such file", hint="give the folder of a saved student") from error
    except ValueError as error:
        raise ArtifactCorrupt(f"{path}: not JSON: {error}", hint="fit and save the student again") from error
    if not isinstance(value, dict):
        raise ArtifactCorrupt(f"{path}: expected a JSON object", hint="fit and save the student again")
    return value
