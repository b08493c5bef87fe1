"""Numbers about predictions, each with the interval it deserves.

Everywhere: `gold` and `predicted` are label columns, shape (n_rows,); `predicted` is -1 where whoever was asked
abstained, which is wrong whatever the gold label. `proba` has shape (n_rows, n_labels), rows sum to 1.

Intervals are 95% percentile bootstrap intervals over rows (Efron and Tibshirani, "An Introduction to the Bootstrap",
1993, chapter 13), not stratified: another holdout would also have other label counts. Every figure resampled here
depends on the rows only through the counts of equal (gold, predicted) cells, so whole resamples are drawn as
multinomial counts of cells: the same distribution as drawing rows, at a cost that does not grow with them.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from factory.evaluation.result import Number, Part

Columns = NDArray[np.int64]
Proba = NDArray[np.float64]
Figure = Literal["accuracy", "macro_f1"]

ABSTAINED = -1
N_RESAMPLES = 2000
LEVEL = 0.95
NORMAL_QUANTILE = 1.959964
SMALLEST_PROBABILITY = 1e-12


class Estimate(Part):
    """A number and the ends of its 95% interval."""

    value: Number
    low: Number
    high: Number

    @property
    def standard_error(self) -> float:
        """Half the interval in units of the normal quantile that gives such intervals."""
        return (self.high - self.low) / (2 * NORMAL_QUANTILE)


class LabelScore(Part):
    """How one label fares; a ratio over nothing is 0."""

    label: str
    precision: Number
    recall: Number
    f1: Number
    support: int
    """Gold rows of the label."""


class Bin(Part):
    """Rows whose top probability lies in (low, high]."""

    low: Number
    high: Number
    n: int
    confidence: Number
    """Mean top probability; 0 in an empty bin."""
    accuracy: Number
    """Share of rows that are right; 0 in an empty bin."""


def accuracy(gold: Columns, predicted: Columns) -> float:
    """Return the share of rows that are right, 0 to 1."""
    from sklearn.metrics import accuracy_score

    _check(gold, predicted)
    return float(accuracy_score(gold, predicted))


def macro_f1(gold: Columns, predicted: Columns) -> float:
    """Return the mean F1 of the labels that have gold rows, 0 to 1; a label never predicted right has F1 0."""
    from sklearn.metrics import f1_score

    _check(gold, predicted)
    return float(f1_score(gold, predicted, labels=np.unique(gold), average="macro", zero_division=0))


def label_scores(gold: Columns, predicted: Columns, labels: tuple[str, ...]) -> tuple[LabelScore, ...]:
    """Score each label, in the order of `labels`."""
    from sklearn.metrics import precision_recall_fscore_support

    _check(gold, predicted)
    columns = range(len(labels))
    scored = precision_recall_fscore_support(gold, predicted, labels=columns, zero_division=0)
    return tuple(
        LabelScore(label=label, precision=precision, recall=recall, f1=f1, support=int(support))
        for label, precision, recall, f1, support in zip(labels, *scored, strict=True)
    )


def confusion(gold: Columns, predicted: Columns, n_labels: int) -> NDArray[np.int64]:
    """Count rows by gold label and answer, shape (n_labels, n_labels + 1); the last column counts abstentions."""
    from sklearn.metrics import confusion_matrix

    _check(gold, predicted)
    counts: NDArray[np.int64] = confusion_matrix(gold, predicted, labels=[*range(n_labels), ABSTAINED])
    return counts[:n_labels]


def log_loss(gold: Columns, proba: Proba) -> float:
    """Return the mean negative log-probability of the gold label in nats; at most 27.6, as 1e-12 stands for 0."""
    _check(gold, proba)
    return float(-np.log(np.clip(proba[np.arange(len(gold)), gold], SMALLEST_PROBABILITY, 1)).mean())


def brier(gold: Columns, proba: Proba) -> float:
    """Return the mean squared distance of probabilities to certainty in the gold label, 0 to 2 (Brier, 1950)."""
    _check(gold, proba)
    return float(((proba - np.eye(proba.shape[1])[gold]) ** 2).sum(axis=1).mean())


def reliability(gold: Columns, proba: Proba, *, n_bins: int = 15) -> tuple[Bin, ...]:
    """Compare top probabilities with observed accuracy in bins of equal width over [0, 1], empty ones included."""
    _check(gold, proba)
    top, right = proba.max(axis=1), proba.argmax(axis=1) == gold
    edges = np.linspace(0, 1, n_bins + 1)
    member = np.clip(np.searchsorted(edges, top, side="left") - 1, 0, n_bins - 1)
    n = np.bincount(member, minlength=n_bins)
    confidence = np.bincount(member, weights=top, minlength=n_bins) / np.maximum(n, 1)
    observed = np.bincount(member, weights=right, minlength=n_bins) / np.maximum(n, 1)
    return tuple(
        Bin(low=edges[bar], high=edges[bar + 1], n=n[bar], confidence=confidence[bar], accuracy=observed[bar])
        for bar in range(n_bins)
    )


def expected_calibration_error(gold: Columns, proba: Proba, *, n_bins: int = 15) -> float:
    """Measure how far probabilities are from observed accuracy.

    Equal-width bins over the top probability, weighted by bin size.
    As in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.

    Args:
        gold: Column of the gold label, shape (n_rows,).
        proba: Probabilities, shape (n_rows, n_labels), rows sum to 1. Must be out-of-sample: neither training nor
            calibration rows.
        n_bins: Bins over [0, 1]. Small sets need fewer.

    Returns:
        The expected calibration error, 0 (calibrated) to 1.

    Raises:
        ValueError: The lengths differ, or there are no rows.
    """
    bins = reliability(gold, proba, n_bins=n_bins)
    return sum(bar.n * abs(bar.accuracy - bar.confidence) for bar in bins) / len(gold)


def estimate(
    figure: Figure, gold: Columns, predicted: Columns, *, seed: int, n_resamples: int = N_RESAMPLES
) -> Estimate:
    """Compute accuracy or macro-F1 with its bootstrap interval.

    Args:
        figure: What to compute.
        gold: Column of the gold label, shape (n_rows,).
        predicted: Column of the answer, shape (n_rows,), -1 for an abstention.
        seed: Same seed, same interval.
        n_resamples: Bootstrap resamples.

    Returns:
        The figure over all rows, with the interval over resamples.

    Raises:
        ValueError: The lengths differ, or there are no rows.
    """
    value = _value(figure, gold, predicted)
    cells, counts = _resample(np.stack([gold, predicted], axis=1), seed, n_resamples)
    return with_interval(value, _resampled(figure, cells[:, 0], cells[:, 1], counts))


def paired_difference(
    figure: Figure, gold: Columns, ours: Columns, theirs: Columns, *, seed: int, n_resamples: int = N_RESAMPLES
) -> Estimate:
    """Compute ours minus theirs on the same rows; each resample draws rows, and both answers with them.

    Args:
        figure: What to compute.
        gold: Column of the gold label, shape (n_rows,).
        ours: Our answers, shape (n_rows,), -1 for an abstention.
        theirs: Their answers to the same rows.
        seed: Same seed, same interval.
        n_resamples: Bootstrap resamples.

    Returns:
        The difference, -1 to 1; positive when ours is better.

    Raises:
        ValueError: The lengths differ, or there are no rows.
    """
    value = _value(figure, gold, ours) - _value(figure, gold, theirs)
    cells, counts = _resample(np.stack([gold, ours, theirs], axis=1), seed, n_resamples)
    ours_again = _resampled(figure, cells[:, 0], cells[:, 1], counts)
    return with_interval(value, ours_again - _resampled(figure, cells[:, 0], cells[:, 2], counts))


def mcnemar(gold: Columns, ours: Columns, theirs: Columns) -> float:
    """Test whether two answers to the same rows are equally often right.

    The exact test of McNemar, "Note on the sampling error of the difference between correlated proportions",
    Psychometrika 12 (1947): among the rows only one of them has right, each is equally likely to be that one.

    Args:
        gold: Column of the gold label, shape (n_rows,).
        ours: Our answers, shape (n_rows,), -1 for an abstention.
        theirs: Their answers to the same rows.

    Returns:
        The two-sided p-value, 1 when both are right on the same rows.

    Raises:
        ValueError: The lengths differ, or there are no rows.
    """
    from scipy.stats import binomtest

    _check(gold, ours)
    _check(gold, theirs)
    only_ours = int(((ours == gold) & (theirs != gold)).sum())
    only_theirs = int(((theirs == gold) & (ours != gold)).sum())
    n = only_ours + only_theirs
    return float(binomtest(only_ours, n, 0.5).pvalue) if n else 1.0


def _value(figure: Figure, gold: Columns, predicted: Columns) -> float:
    return accuracy(gold, predicted) if figure == "accuracy" else macro_f1(gold, predicted)


def _resample(rows: NDArray[np.int64], seed: int, n_resamples: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the distinct cells, shape (n_cells, ...), and their counts in each resample, (n_resamples, n_cells)."""
    cells, counts = np.unique(rows, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(rows), counts / len(rows), size=n_resamples)
    return cells, drawn.astype(np.float64)  # floats multiply ten times as fast


def _resampled(figure: Figure, gold: Columns, predicted: Columns, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute a figure for each resample of cells, shape (n_resamples,)."""
    right = gold == predicted
    if figure == "accuracy":
        return np.asarray(counts[:, right].sum(axis=1) / counts.sum(axis=1))
    is_gold = gold[:, None] == np.unique(gold)
    is_predicted = predicted[:, None] == np.unique(gold)
    n_gold, n_predicted = counts @ is_gold, counts @ is_predicted
    # A resample without gold rows of a label says nothing about that label.
    f1 = 2 * (counts @ (is_gold & is_predicted)) / np.maximum(n_gold + n_predicted, 1)
    present = n_gold > 0
    return np.asarray((f1 * present).sum(axis=1) / present.sum(axis=1))


def with_interval(value: float, resampled: NDArray[np.float64]) -> Estimate:
    """Put the 95% percentile interval of the resampled figures around a figure."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(value=value, low=low, high=high)


def _check(gold: Columns, other: NDArray[np.int64] | NDArray[np.float64]) -> None:
    if len(gold) != len(other):
        raise ValueError(f"expected one answer for each of {len(gold)} gold labels, got {len(other)}")
    if not len(gold):
        raise ValueError("there are no rows to measure on")
