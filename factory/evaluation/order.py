"""An order for new data: what a model lacks, for whoever brings it. A JSON file under `outputs/<task>/orders/`.

    labels     how many rows each label lacks to be as frequent in training as it is in production
    samples    texts of production that would teach the most: where the model is unsure and many others lie near
               (information density: Settles and Craven, "An Analysis of Active Learning Strategies", EMNLP 2008)

Samples are named by their ids; their texts stand in an order only when a person asked for it.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from factory.errors import ArtifactCorrupt, ArtifactMissing
from factory.evaluation.drift import Drift, Vectors
from factory.evaluation.metrics import Proba
from factory.evaluation.result import Number, Part

N_NEAREST = 10
MOST_ROWS = 500
"""Asked for, for one label."""


class WantedLabel(Part):
    """A label that needs rows."""

    label: str
    n_rows: int
    why: str


class Sample(Part):
    """A text of production that is worth a label."""

    id: str
    label: str
    """What the model answers."""
    probability: Number
    density: Number
    """Mean likeness to the nearest other texts of production, -1 to 1."""
    text: str | None = None


class Order(Part):
    """What to bring, and why."""

    format: Literal[1] = 1
    task: str
    version: int
    """Of the model that was watched."""
    created_at: str
    """UTC, ISO 8601."""
    why: str
    labels: tuple[WantedLabel, ...]
    samples: tuple[Sample, ...]


def write_order(order: Order, folder: Path) -> Path:
    """Write an order under the time it was made; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{order.created_at.replace(':', '')}.json"
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(order.model_dump_json(indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)
    return path


def read_order(path: Path) -> Order:
    """Read an order.

    Args:
        path: Of the file.

    Returns:
        The order.

    Raises:
        ArtifactMissing: There is no such file.
        ArtifactCorrupt: It is no order of this format.
    """
    try:
        return Order.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactMissing(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ArtifactCorrupt(f"{path}: expected an order: {error}") from error


def wanted_labels(drift: Drift, counts: dict[str, int]) -> tuple[WantedLabel, ...]:
    """Say how many rows each label lacks, the most wanted first.

    Args:
        drift: Shares of labels in production, estimated where that was possible.
        counts: Training rows of each label.

    Returns:
        Labels whose share in production is larger than in training, beyond the noise of the sample.
    """
    n_training = sum(counts.values())
    wanted = []
    for one in drift.labels:
        share = one.production if one.estimated is None else one.estimated
        noise = 2 * (share * (1 - share) / drift.n_production) ** 0.5
        n_has = counts.get(one.label, 0)
        n_lacks = round(share * n_training) - n_has
        if n_lacks > 0 and share - noise > n_has / max(n_training, 1):
            how = "answers" if one.estimated is None else "texts, as estimated,"
            why = (
                f"{100 * share:.1f} % of the {how} in production, {100 * n_has / max(n_training, 1):.1f} % in training"
            )
            wanted.append(WantedLabel(label=one.label, n_rows=min(n_lacks, MOST_ROWS), why=why))
    return tuple(sorted(wanted, key=lambda one: -one.n_rows))


def choose_samples(proba: Proba, vectors: Vectors, n: int) -> list[tuple[int, float]]:
    """Choose rows where the model is unsure and many other rows lie near; each with its density.

    Args:
        proba: Shape (n_rows, n_labels).
        vectors: Shape (n_rows, n_dimensions), of unit length; compared with each other, so a few thousand at most.
        n: How many at most.

    Returns:
        Positions and densities, the most telling first; of equal texts one.
    """
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1.0)
    n_nearest = min(N_NEAREST, len(vectors) - 1)  # its own likeness, set to the least, stands in for a lone row
    density = np.partition(likeness, -max(n_nearest, 1), axis=1)[:, -max(n_nearest, 1) :].mean(axis=1)
    order = np.argsort(-(1 - proba.max(axis=1)) * np.clip(density, 0, None), kind="stable")
    chosen: list[int] = []
    for at in order.tolist():
        if len(chosen) == n:
            break
        if not any(likeness[at, other] > 0.9999 for other in chosen):
            chosen.append(at)
    return [(at, float(density[at])) for at in chosen]
