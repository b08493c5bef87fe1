"""Figures that order or distance decides, each with its bootstrap interval: AUC, average precision, R2 and so on.

A resample is a multinomial weight for each row (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993), so
that all resamples of a figure are weighted sums computed together; two contenders are compared under the same weights.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from factory.evaluation.auroc import weighted_auroc
from factory.evaluation.metrics import SMALLEST_PROBABILITY, Estimate, with_interval

Weights = NDArray[np.float64]
Values = NDArray[np.float64]
Figure = Callable[[Values, Values, Weights], Values]
"""Of answers (n_rows, n_columns), gold (n_rows,) and weights (n, n_rows): a value for each line of weights."""

N_RESAMPLES = 1_000
MOST_RESAMPLED = 20_000_000
"""Weights in all: of many rows fewer resamples are drawn, down to 100, and their intervals are narrow anyway."""
CHUNK_WEIGHTS = 4_000_000


def _precision_of(is_positive: NDArray[np.bool_], score: Values, weights: Weights) -> Values:
    """Return the mean precision over the positive rows, each at the threshold that takes it in; ties enter together."""
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) < 0])
    ranked = weights[:, order]
    positive = np.add.reduceat(ranked * is_positive[order], starts, axis=1)
    taken = np.cumsum(np.add.reduceat(ranked, starts, axis=1), axis=1)
    precision = np.cumsum(positive, axis=1) / np.maximum(taken, SMALLEST_PROBABILITY)
    total = positive.sum(axis=1)
    found = np.full(len(weights), np.nan)
    np.divide((positive * precision).sum(axis=1), total, out=found, where=total > 0)
    return found


def _over_labels(of: Callable[[NDArray[np.bool_], Values, Weights], Values]) -> Figure:
    """Take the last of two labels, or the mean over more of them that have rows."""

    def figure(answers: Values, gold: Values, weights: Weights) -> Values:
        n_labels = answers.shape[1]
        labels = [1] if n_labels == 2 else [label for label in range(n_labels) if (gold == label).any()]
        values = np.stack([of(gold == label, answers[:, label], weights) for label in labels])
        return np.asarray(np.where(np.isnan(values).any(axis=0), np.nan, values.mean(axis=0)))

    return figure


def _log_loss(answers: Values, gold: Values, weights: Weights) -> Values:
    right = answers[np.arange(len(gold)), gold.astype(np.int64)]
    return _mean(-np.log(np.clip(right, SMALLEST_PROBABILITY, 1)), weights)


def _brier(answers: Values, gold: Values, weights: Weights) -> Values:
    return _mean(((answers - np.eye(answers.shape[1])[gold.astype(np.int64)]) ** 2).sum(axis=1), weights)


def _r2(answers: Values, gold: Values, weights: Weights) -> Values:
    mean = _mean(gold, weights)
    spread = _mean(gold**2, weights) - mean**2
    missed = _mean((answers[:, 0] - gold) ** 2, weights)
    found = np.full(len(weights), np.nan)
    np.divide(missed, spread, out=found, where=spread > 0)
    return np.asarray(1 - found)


def _mae(answers: Values, gold: Values, weights: Weights) -> Values:
    return _mean(np.abs(answers[:, 0] - gold), weights)


def _rmse(answers: Values, gold: Values, weights: Weights) -> Values:
    return np.sqrt(_mean((answers[:, 0] - gold) ** 2, weights))


def _mean(values: Values, weights: Weights) -> Values:
    return np.asarray(weights @ values / weights.sum(axis=1))


OF_LABELS: Mapping[str, Figure] = {
    "auc": _over_labels(weighted_auroc),
    "average_precision": _over_labels(_precision_of),
    "log_loss": _log_loss,
    "brier": _brier,
}
OF_NUMBERS: Mapping[str, Figure] = {"r2": _r2, "mae": _mae, "rmse": _rmse}


def measure_rows(
    figures: Mapping[str, Figure], answers: Mapping[str, Values], gold: Values, *, seed: int
) -> dict[tuple[str, str], tuple[Estimate | None, Estimate | None]]:
    """Measure contenders on the same rows.

    Args:
        figures: What to measure, by name.
        answers: By contender, shape (n_rows, n_columns) each; the others are compared with the first.
        gold: Column of the right label, or the right number; shape (n_rows,).
        seed: Same seed, same intervals.

    Returns:
        By contender and figure: the figure, and that of the first contender minus it (None for the first); both with
        intervals, None where the rows cannot tell, as when all have one label.
    """
    first = next(iter(answers))
    drawn: dict[tuple[str, str], list[Values]] = {(who, what): [] for who in answers for what in figures}
    for weights in _resamples(len(gold), seed):
        for who, given in answers.items():
            for what, figure in figures.items():
                drawn[who, what].append(figure(given, gold, weights))
    values = {key: np.concatenate(parts) for key, parts in drawn.items()}
    return {
        (who, what): (
            _estimate(values[who, what]),
            None if who == first else _estimate(values[first, what] - values[who, what]),
        )
        for who, what in values
    }


def _resamples(n_rows: int, seed: int) -> Iterator[Weights]:
    """Yield the weights of the rows as they are, then of the resamples, some at a time."""
    yield np.ones((1, n_rows))
    rng = np.random.default_rng(seed)
    n_left = max(100, min(N_RESAMPLES, MOST_RESAMPLED // n_rows))
    while n_left > 0:
        n = min(n_left, max(1, CHUNK_WEIGHTS // n_rows))
        yield rng.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=n).astype(np.float64)
        n_left -= n


def _estimate(values: Values) -> Estimate | None:
    """Return the first value with the interval of the others; resamples that cannot tell are left out."""
    resampled = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not len(resampled):
        return None
    return with_interval(float(values[0]), resampled)
