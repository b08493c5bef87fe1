"""The rest of a pool, labelled by a student: the rows it is surest about, a share of each label.

A student that learns its own answers learns its own mistakes, too. What is done against that: its opinion is pooled
with that of the label descriptions, which it did not learn from the same rows; rows are ranked within the label they
get and the least sure of each label are left out, so that easy labels do not crowd out hard ones (Zou et al.,
"Unsupervised Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training", ECCV 2018,
arXiv:1810.07911). What each part is worth stands in docs/log.md, 2026-11-24.
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
DESCRIPTION_SHARE = 0.5
"""Exponent of the descriptions' opinion, where the student's has 1."""


class SelfTrainingParams(Model):
    """Which rows are taken over, and how they count."""

    labels: tuple[str, ...]
    """Spec order."""
    per_label: Annotated[int, Field(ge=1)]
    """Rows of each label at most."""
    ratio: Annotated[float, Field(gt=0, le=1)]
    """Of the rows that get a label: the share to take, surest first."""
    weight: Annotated[float, Field(gt=0, le=1)]
    """Of a row, where one that a teacher labelled has 1."""


def self_train(
    params: SelfTrainingParams, *, pool: Rows, known: Rows, opinion: Predictions, nearest: Predictions
) -> Rows:
    """Choose the rows of a pool that a student labels.

    Args:
        params: How many, and how they count.
        pool: Real texts.
        known: Rows with a label already; they are not labelled again.
        opinion: The student's, of every row of the pool.
        nearest: That of the label descriptions, or of the clusters that start from them.

    Returns:
        Silver rows, surest first within each label, with both opinions pooled as `label_probs`. This is no filter: what
        was not chosen is not rejected. The report counts rows that are new, and those taken of each label.
    """
    texts = dict(zip(pool.kept["id"], pool.kept["text"], strict=True))
    taken = set(known.kept["id"])
    ids = [row_id for row_id in texts if row_id not in taken]
    probs = pooled(opinion.of(ids, params.labels), nearest.of(ids, params.labels))
    answers = probs.argmax(axis=1)
    chosen: list[int] = []
    for column in range(len(params.labels)):
        at = np.flatnonzero(answers == column)
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
    report = {"n_in": len(pool.kept), "new": len(ids), "taken": {label: counts[label] for label in params.labels}}
    return all_kept(text_dataset(rows), report)


def pooled(opinion: NDArray[np.float64], nearest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply two opinions.

    Args:
        opinion: The student's, shape (n_rows, n_labels), rows sum to 1.
        nearest: The descriptions' or the clusters', of the same shape. It is divided by its mean over the rows and one
            more row of each label first: a description that is near to everything says nothing.

    Returns:
        Probabilities of the same shape, rows sum to 1.
    """
    if not len(opinion):
        return opinion
    usual = (nearest.sum(axis=0) + 1) / (len(nearest) + nearest.shape[1])
    product = opinion * (nearest / usual) ** DESCRIPTION_SHARE
    return np.asarray(product / product.sum(axis=1, keepdims=True))


SELF_TRAIN: Stage[Rows] = Stage("self-train", 3, SelfTrainingParams, self_train, Rows)
