"""The rest of a pool, labelled by a student: rows it is surest about, as many of each label, if another view agrees.

A student that learns its own answers learns its own mistakes, too. What is done against that: rows are ranked within
the label the student gives them and the surest share of each is taken, so that easy labels do not crowd out hard ones
(Zou et al., "Unsupervised Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training", ECCV 2018,
arXiv:1810.07911); a second opinion of another kind has to give the same label (Blum and Mitchell, "Combining Labeled
and Unlabeled Data with Co-Training", COLT 1998); and the rows weigh less than those that a teacher labelled.
"""

from collections import Counter
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.records import Origin, Predictions, Rows, TextRow, all_kept, text_dataset
from factory.spec import Model
from factory.store import Stage

STRATEGY = "self-training"


class SelfTrainingParams(Model):
    """Which rows are taken over, and how they count."""

    labels: tuple[str, ...]
    """Spec order."""
    per_label: Annotated[int, Field(ge=1)]
    """Rows of each label at most."""
    ratio: Annotated[float, Field(gt=0, le=1)]
    """Of the rows that both opinions give a label: the share, surest first, to take from."""
    weight: Annotated[float, Field(gt=0, le=1)]
    """Of a row, where one that a teacher labelled has 1."""
    calibration_temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the first opinion, fitted out of fold on rows that teachers labelled."""


def self_train(
    params: SelfTrainingParams, *, pool: Rows, known: Rows, opinion: Predictions, second: Predictions
) -> Rows:
    """Choose the rows of a pool that a student labels.

    Args:
        params: How many, and how they count.
        pool: Real texts.
        known: Rows with a label already; they are not labelled again.
        opinion: The student's, of every row of the pool.
        second: Another one.

    Returns:
        Silver rows, surest first within each label, with the student's calibrated distribution as `label_probs`. This
        is no filter: what was not chosen is not rejected. The report counts rows that are new, that both agree on, and
        that were taken of each label.
    """
    texts = dict(zip(pool.kept["id"], pool.kept["text"], strict=True))
    taken = set(known.kept["id"])
    ids = [row_id for row_id in texts if row_id not in taken]
    probs = _softened(opinion.of(ids, params.labels), params.calibration_temperature)
    answers = probs.argmax(axis=1)
    agreed = answers == second.of(ids, params.labels).argmax(axis=1)
    chosen: list[int] = []
    for column in range(len(params.labels)):
        at = np.flatnonzero(agreed & (answers == column))
        surest = at[np.argsort(-probs[at, column], kind="stable")]
        chosen += surest[: min(params.per_label, int(np.ceil(params.ratio * len(at))))].tolist()
    rows = [
        TextRow(
            texts[ids[at]],
            params.labels[answers[at]],
            Origin.SILVER,
            strategy=STRATEGY,
            label_probs=tuple(probs[at].tolist()),
            weight=params.weight,
        )
        for at in chosen
    ]
    counts = Counter(row.label for row in rows)
    report = {
        "n_in": len(pool.kept),
        "new": len(ids),
        "agreed": int(agreed.sum()),
        "taken": {label: counts[label] for label in params.labels},
    }
    return all_kept(text_dataset(rows), report)


def _softened(probs: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return softmax(log p / T), as calibration means it."""
    powers = np.maximum(probs, 1e-12) ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


SELF_TRAIN: Stage[Rows] = Stage("self-train", 1, SelfTrainingParams, self_train, Rows)
