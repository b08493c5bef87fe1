"""Prototypes: between the mean of a label's rows and its description, for heads that few real rows were learned by.

What was written by a teacher is not what people write, and a head of nothing else can end below the descriptions it
was written from: on tweets by 11 points. A head of eight real rows a label can, too. Means of a label's rows move less
than the planes between labels (Mensink et al., "Distance-Based Image Classification", PAMI 35(11), 2013), and a
description keeps them in place. The cosine to them is linear in the sentence vector as the head is, and so is their
product: it costs the release nothing. How much it should say differs from task to task (docs/log.md, 2026-11-28) and
is measured where there are real labels to measure it on.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.students.folds import assign_folds
from factory.students.linear import MAX_CHOICE_ROWS, LinearHead, fit_head, softmax
from factory.students.targets import Targets

PROTOTYPE_PRIOR = 20.0
"""Where all rows were written. What it gave, and other values: docs/log.md, 2026-11-28."""
PRIORS = (40.0, 20.0, 10.0, 5.0, 0.0)
"""To choose from where people labelled rows of every label."""
TEMPERING = np.geomspace(0.05, 4, 25)
"""Factors on logits that are tried."""
LEAST_GOLD = 4
"""Rows of each label: a fold has one of them at least."""
DESCRIPTION_SHARE = 1.0
"""Weight of a description in the prototype of its label, beside the mean of the rows; not a number of rows, because
more rows of a teacher do not take away what sets them apart from real ones."""


def prototypes_of(features: Any, targets: Targets, anchors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the direction between the mean of each label's rows and its description, shape (n_labels, n_features)."""
    weights = targets.probs * targets.weights[:, None]
    found = (weights / np.maximum(weights.sum(axis=0), 1e-9)).T @ features + DESCRIPTION_SHARE * anchors
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


def with_prototypes(
    head: LinearHead, prior: float, features: Any, targets: Targets, anchors: NDArray[np.float32]
) -> LinearHead:
    """Return a head to whose logits the cosine to each label's prototype is added, times the prior."""
    if prior == 0:
        return head
    return replace(head, weights=head.weights + np.float32(prior) * prototypes_of(features, targets, anchors).T)


def choose_prior(
    features: NDArray[np.float32],
    targets: Targets,
    anchors: NDArray[np.float32],
    *,
    anchor_weight: float,
    strength: float,
    seed: int,
) -> float:
    """Measure how much prototypes should say, on rows that people labelled, in four folds.

    Logits are tempered before they are compared, as they are after fitting (`calibrate`): what is added to them makes
    them larger, and that alone would speak for or against it.

    Args:
        features: Of gold rows, shape (n_rows, n_features).
        targets: Their labels.
        anchors: Vectors of the descriptions, shape (n_labels, n_features).
        anchor_weight: As chosen for the head.
        strength: As chosen for the head.
        seed: Decides the folds and, above 2,000 rows, which of them are used.

    Returns:
        One of `PRIORS`.
    """
    sample = np.sort(np.random.default_rng(seed).permutation(len(features))[:MAX_CHOICE_ROWS])
    folds = assign_folds(range(len(sample)), targets.columns[sample].tolist(), 4, seed=seed)
    logits = {prior: np.zeros((len(sample), targets.probs.shape[1])) for prior in PRIORS}
    for fold in range(4):
        seen, held = sample[folds != fold], sample[folds == fold]
        stacked = np.vstack([features[seen], anchors])
        head = fit_head(stacked, targets[seen].with_anchors(anchor_weight), strength)
        for prior, found in logits.items():
            more = with_prototypes(head, prior, features[seen], targets[seen], anchors)
            found[folds == fold] = features[held] @ more.weights + more.bias
    columns = targets.columns[sample]
    return min(PRIORS, key=lambda prior: _tempered_loss(logits[prior], columns))


def _tempered_loss(logits: NDArray[np.float64], columns: NDArray[np.intp]) -> float:
    at = np.arange(len(columns))
    return min(float(-np.log(np.maximum(softmax(logits * factor)[at, columns], 1e-12)).mean()) for factor in TEMPERING)
