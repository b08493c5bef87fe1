"""What descriptions say beside rows, for heads that few real rows were learned by: prototypes, and doubt.

What was written by a teacher is not what people write, and a head of nothing else can end below the descriptions it
was written from: on tweets by 11 points. A head of eight real rows a label can, too. Means of a label's rows move less
than the planes between labels (Mensink et al., "Distance-Based Image Classification", PAMI 35(11), 2013), and a
description keeps them in place. The cosine to them is linear in the sentence vector as the head is, and so is their
product: it costs the release nothing. How much it should say differs from task to task (docs/log.md, 2026-11-28) and
is measured where there are real labels to measure it on.

Written rows also agree with each other more than real ones would, so a head that is sure of them is too sure of real
ones. It learns that their labels may be wrong (label smoothing: Szegedy et al., "Rethinking the Inception
Architecture", CVPR 2016, arXiv:1512.00567).
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
N_FOLDS = LEAST_GOLD = 4
"""Texts of each label that people labelled: each of four folds has one."""
DESCRIPTION_SHARE = 1.0
"""Weight of a description in the prototype of its label, beside the mean of the rows; not a number of rows, because
more rows of a teacher do not take away what sets them apart from real ones."""
WRITTEN_DOUBT = 0.2
"""Probability that a written row is not of its label. What it gave, and other values: docs/log.md, 2026-11-28."""
MOST_RIVALS = 5
"""Labels that share the doubt about a row; each makes a row of its own for the head."""


def with_doubt(
    targets: Targets, written: NDArray[np.bool_], features: NDArray[np.float32], anchors: NDArray[np.float32]
) -> Targets:
    """Take a share of `WRITTEN_DOUBT` from the labels of written rows, soft ones too, and give it to other labels.

    Args:
        targets: Of all rows.
        written: Which of them a teacher wrote from scratch, shape (n_rows,).
        features: Sentence vectors of all rows, shape (n_rows, n_features).
        anchors: Vectors of the descriptions, shape (n_labels, n_features).

    Returns:
        The targets, soft for written rows: of the other labels, the `MOST_RIVALS` whose descriptions are nearest to a
        text get equal parts.
    """
    at = np.flatnonzero(written)
    nearness = features[at] @ anchors.T
    nearness[np.arange(len(at)), targets.columns[at]] = -np.inf
    rivals = np.argsort(-nearness, axis=1, kind="stable")[:, : min(MOST_RIVALS, len(anchors) - 1)]
    probs = targets.probs.copy()
    probs[at] *= 1 - WRITTEN_DOUBT
    probs[at[:, None], rivals] += WRITTEN_DOUBT / rivals.shape[1]
    return replace(targets, probs=probs)


def prototypes_of(features: Any, targets: Targets, anchors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the direction between the mean of each label's rows and its description.

    Args:
        features: Of all rows, shape (n_rows, n_features).
        targets: Their labels; a row counts for each label by its probability, doubt included (without it: no better on
            five sets, docs/log.md).
        anchors: Vectors of the descriptions, shape (n_labels, n_features).

    Returns:
        Unit vectors, shape (n_labels, n_features).
    """
    weights = targets.probs * targets.weights[:, None]
    found = (weights / np.maximum(weights.sum(axis=0), 1e-9)).T @ features + DESCRIPTION_SHARE * anchors
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9), dtype=np.float32)


def with_prototypes(
    head: LinearHead, prior: float, features: Any, targets: Targets, anchors: NDArray[np.float32]
) -> LinearHead:
    """Return a head to whose logits the cosine to each label's prototype is added, times the prior."""
    if prior == 0:
        return head
    return replace(head, weights=head.weights + np.float32(prior) * prototypes_of(features, targets, anchors).T)


def can_measure(columns: NDArray[np.intp], families: NDArray[np.str_], gold: NDArray[np.intp], n_labels: int) -> bool:
    """Say whether people labelled `LEAST_GOLD` different texts of each label; `gold` are the positions of theirs."""
    texts = {(int(column), str(family)) for column, family in zip(columns[gold], families[gold], strict=True)}
    counts = np.bincount([column for column, _ in texts], minlength=n_labels)
    return int(counts.min()) >= LEAST_GOLD


def choose_prior(
    features: NDArray[np.float32],
    targets: Targets,
    anchors: NDArray[np.float32],
    *,
    gold: NDArray[np.intp],
    families: NDArray[np.str_],
    anchor_weight: float,
    strength: float,
    seed: int,
) -> float:
    """Measure how much prototypes should say, on real texts that people labelled, in four folds.

    A fold is answered by a head and by prototypes of all other rows, whoever labelled them, but for those that were
    varied from rows of the fold. Logits are tempered before they are compared, as they are after fitting (`calibrate`):
    what is added to them makes them larger, and that alone would speak for or against it.

    Args:
        features: Of all rows, shape (n_rows, n_features).
        targets: Their labels.
        anchors: Vectors of the descriptions, shape (n_labels, n_features).
        gold: Positions of the texts that people labelled; `can_measure` says whether they are enough.
        families: What each row belongs to (`folds.families`).
        anchor_weight: As chosen for the head.
        strength: As chosen for the head.
        seed: Decides the folds and, above 2,000 rows of either kind, which of them are used.

    Returns:
        One of `PRIORS`.
    """
    rng = np.random.default_rng(seed)
    judged = np.sort(rng.permutation(gold)[:MAX_CHOICE_ROWS])
    others = np.sort(rng.permutation(np.setdiff1d(np.arange(len(features)), gold))[:MAX_CHOICE_ROWS])
    columns = targets.columns[judged]
    folds = assign_folds(families[judged].tolist(), columns.tolist(), N_FOLDS, seed=seed)
    logits = {prior: np.zeros((len(judged), targets.probs.shape[1])) for prior in PRIORS}
    for fold in range(N_FOLDS):
        held = judged[folds == fold]
        rest = np.concatenate([judged[folds != fold], others])
        seen = rest[~np.isin(families[rest], families[held])]
        stacked = np.vstack([features[seen], anchors])
        head = fit_head(stacked, targets[seen].with_anchors(anchor_weight), strength)
        for prior, found in logits.items():
            more = with_prototypes(head, prior, features[seen], targets[seen], anchors)
            found[folds == fold] = features[held] @ more.weights + more.bias
    return min(PRIORS, key=lambda prior: _tempered_loss(logits[prior], columns))


def _tempered_loss(logits: NDArray[np.float64], columns: NDArray[np.intp]) -> float:
    at = np.arange(len(columns))
    return min(float(-np.log(np.maximum(softmax(logits * factor)[at, columns], 1e-12)).mean()) for factor in TEMPERING)
