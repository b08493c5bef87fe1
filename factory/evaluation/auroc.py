"""How well one number tells rows apart, with its interval: the area under the ROC curve."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.evaluation.metrics import Columns, Estimate, Proba, with_interval
from factory.students.folds import assign_folds

N_RESAMPLES = 1000
N_FOLDS = 5
STRENGTH = 1.0
"""Inverse L2 penalty of the classifiers that audit a set: weak enough to learn, strong enough for a hundred rows."""


def auroc(is_positive: NDArray[np.bool_], score: NDArray[np.float64], *, seed: int) -> Estimate | None:
    """Measure how often a positive row scores above a negative one, ties counting half.

    Args:
        is_positive: Which rows should score high, shape (n_rows,).
        score: Their scores, shape (n_rows,).
        seed: Same seed, same interval.

    Returns:
        0.5 for scores that say nothing, 1 for a perfect order, with a 95% bootstrap interval over rows; None when there
        are no rows of one kind.
    """
    return macro_auroc(is_positive.astype(np.int64), np.stack([-score, score], axis=1), seed=seed)


def macro_auroc(columns: Columns, scores: Proba, *, seed: int) -> Estimate | None:
    """Average the AUROC of each label against the rest, over labels that have rows.

    Resamples are multinomial weights of rows, and a weighted AUROC is the mass of negatives below each positive (Mann
    and Whitney, 1947), so that all resamples of a label are computed at once.

    Args:
        columns: Label column of each row, shape (n_rows,).
        scores: A score for each label, shape (n_rows, n_labels).
        seed: Same seed, same interval.

    Returns:
        The average with a 95% bootstrap interval over rows; None when there are rows of one label only.
    """
    n_rows, present = len(columns), np.unique(columns)
    if len(present) < 2:
        return None
    once = np.ones((1, n_rows))
    drawn = np.random.default_rng(seed).multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=N_RESAMPLES)
    # The last label of two says what the first does.
    counted = present[1:] if len(present) == 2 else present
    weights = np.vstack([once, drawn])
    values = np.stack([weighted_auroc(columns == label, scores[:, label], weights) for label in counted])
    # A resample without rows of a label says nothing about it, and one of a single label says nothing at all.
    means = np.nanmean(values[:, ~np.isnan(values).all(axis=0)], axis=0)
    return with_interval(float(means[0]), means[1:] if len(means) > 1 else means)


def weighted_auroc(is_positive: NDArray[np.bool_], score: NDArray[np.float64], weights: Proba) -> NDArray[np.float64]:
    """Measure the share of pairs in the right order, ties counting half (Mann and Whitney, 1947).

    Args:
        is_positive: Shape (n_rows,).
        score: Shape (n_rows,); higher means more likely positive.
        weights: Of the rows, a line for each resample, shape (n_resamples, n_rows).

    Returns:
        One AUROC for each line of weights, shape (n_resamples,); NaN where one side has no weight.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    ranked = weights[:, order]
    positive = np.add.reduceat(ranked * is_positive[order], starts, axis=1)
    negative = np.add.reduceat(ranked * ~is_positive[order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    area: NDArray[np.float64] = np.divide(
        (positive * below).sum(axis=1), pairs, out=np.full(len(weights), np.nan), where=pairs > 0
    )
    return area


def out_of_fold(features: Any, columns: Columns, groups: Sequence[str], *, seed: int) -> Proba:
    """Predict each row by a logistic regression that did not see it.

    Args:
        features: Dense or CSR matrix, shape (n_rows, n_features).
        columns: Label column of each row, shape (n_rows,); each label needs two groups at least to be learned.
        groups: What must stay in one fold, such as the text, one entry a row.
        seed: Decides the folds.

    Returns:
        Probabilities, shape (n_rows, largest column + 1); even ones where the other folds have one label only.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

    n_labels = int(columns.max()) + 1
    folds = assign_folds(groups, columns.tolist(), N_FOLDS, seed=seed)
    probs = np.full((len(columns), n_labels), 1 / n_labels)
    for fold in np.unique(folds):
        held, seen = folds == fold, folds != fold
        if len(np.unique(columns[seen])) < 2:
            continue
        model = LogisticRegression(C=STRENGTH, max_iter=1000, class_weight="balanced")
        with threadpool_limits(limits=1):
            model.fit(features[seen], columns[seen])
        probs[held] = 0.0
        probs[np.ix_(held, model.classes_)] = model.predict_proba(features[held])
    return probs
