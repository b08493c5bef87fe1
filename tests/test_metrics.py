"""Metrics against hand-computed values and scikit-learn; intervals against simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from factory.evaluation.metrics import (
    Columns,
    Figure,
    Proba,
    accuracy,
    brier,
    confusion,
    estimate,
    expected_calibration_error,
    label_scores,
    log_loss,
    macro_f1,
    mcnemar,
    paired_difference,
    reliability,
)

GOLD = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 2, -1])
"""Label 0: precision 1, recall 2/3. Label 1: both 1/2. Label 2: an answer that is wrong, and an abstention."""


def columns(n_rows: int, n_labels: int, seed: int) -> Columns:
    return np.random.default_rng(seed).integers(0, n_labels, n_rows)


def proba(n_rows: int, n_labels: int, seed: int) -> Proba:
    return np.random.default_rng(seed).dirichlet(np.ones(n_labels), n_rows)


# Point values


def test_accuracy_and_macro_f1_by_hand() -> None:
    assert accuracy(GOLD, PREDICTED) == pytest.approx(3 / 6)
    assert macro_f1(GOLD, PREDICTED) == pytest.approx((0.8 + 0.5 + 0) / 3)


def test_macro_f1_is_over_the_labels_that_have_gold_rows() -> None:
    """A wrong answer `2` costs the recall of the others, but 2 itself has nothing to be found."""
    assert macro_f1(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])) == pytest.approx((1 + 2 / 3) / 2)


def test_label_scores_by_hand() -> None:
    first, second, third, absent = label_scores(GOLD, PREDICTED, ("a", "b", "c", "d"))
    assert (first.label, first.precision, first.recall, first.f1, first.support) == ("a", 1, 0.666667, 0.8, 3)
    assert (second.precision, second.recall, second.f1, second.support) == (0.5, 0.5, 0.5, 2)
    assert (third.precision, third.recall, third.f1, third.support) == (0, 0, 0, 1)
    assert (absent.f1, absent.support) == (0, 0)


def test_confusion_has_a_column_for_abstentions() -> None:
    assert confusion(GOLD, PREDICTED, 3).tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]


def test_log_loss_and_brier_by_hand() -> None:
    given_proba = np.array([[0.8, 0.2], [0.4, 0.6]])
    assert log_loss(np.array([0, 0]), given_proba) == pytest.approx(-(np.log(0.8) + np.log(0.4)) / 2)
    assert brier(np.array([0, 0]), given_proba) == pytest.approx((0.04 + 0.04 + 0.36 + 0.36) / 2)


def test_log_loss_of_a_denied_label_is_large_but_finite() -> None:
    assert log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize(("n_labels", "seed"), [(2, 0), (3, 1), (7, 2)])
def test_scikit_learn_agrees(n_labels: int, seed: int) -> None:
    from sklearn import metrics as sk

    gold, given_proba = columns(200, n_labels, seed), proba(200, n_labels, seed + 10)
    predicted = given_proba.argmax(axis=1)
    assert macro_f1(gold, predicted) == pytest.approx(sk.f1_score(gold, predicted, average="macro"))
    assert log_loss(gold, given_proba) == pytest.approx(sk.log_loss(gold, given_proba))
    halves = sk.brier_score_loss(gold, given_proba, labels=range(n_labels), scale_by_half=False)
    assert brier(gold, given_proba) == pytest.approx(halves)
    assert confusion(gold, predicted, n_labels)[:, :-1].tolist() == sk.confusion_matrix(gold, predicted).tolist()


# Calibration error


def test_calibration_error_by_hand() -> None:
    """Four rows that say 0.95 of which three are right, one that says 0.55 and is right."""
    given_proba = np.array([[0.95, 0.05]] * 4 + [[0.55, 0.45]])
    gold = np.array([0, 0, 0, 1, 0])
    expected = 4 / 5 * abs(0.75 - 0.95) + 1 / 5 * abs(1 - 0.55)
    assert expected_calibration_error(gold, given_proba) == pytest.approx(expected)


def test_probabilities_that_mean_what_they_say_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1, 20_000)
    gold = (rng.uniform(size=20_000) > top).astype(np.int64)
    assert expected_calibration_error(gold, np.stack([top, 1 - top], axis=1)) < 0.015


def test_reliability_bins_are_closed_above_and_cover_zero_and_one() -> None:
    given_proba = np.array([[1.0, 0.0], [0.8, 0.2], [0.81, 0.19]])
    bins = reliability(np.zeros(3, dtype=np.int64), given_proba, n_bins=5)
    assert [bar.n for bar in bins] == [0, 0, 0, 1, 2]
    assert (bins[0].low, bins[-1].high) == (0, 1)


@settings(max_examples=50, deadline=None)
@given(n_labels=st.integers(2, 5), n_rows=st.integers(1, 40), seed=st.integers(0, 10**6), n_bins=st.integers(1, 20))
def test_reliability_counts_every_row_and_the_error_is_a_share(
    n_labels: int, n_rows: int, seed: int, n_bins: int
) -> None:
    gold, given_proba = columns(n_rows, n_labels, seed), proba(n_rows, n_labels, seed)
    bins = reliability(gold, given_proba, n_bins=n_bins)
    assert sum(bar.n for bar in bins) == n_rows
    assert all(bar.low - 1e-6 <= bar.confidence <= bar.high + 1e-6 for bar in bins if bar.n)
    assert 0 <= expected_calibration_error(gold, given_proba, n_bins=n_bins) <= 1


# Intervals


def row_bootstrap(figure: Figure, gold: Columns, predicted: Columns, n_resamples: int) -> tuple[float, float]:
    """The textbook bootstrap, row by row, with scikit-learn inside."""
    rng = np.random.default_rng(1)
    values = []
    for _ in range(n_resamples):
        drawn = rng.integers(0, len(gold), len(gold))
        values.append(
            accuracy(gold[drawn], predicted[drawn]) if figure == "accuracy" else macro_f1(gold[drawn], predicted[drawn])
        )
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize("figure", ["accuracy", "macro_f1"])
def test_drawing_cells_gives_the_interval_of_drawing_rows(figure: Figure) -> None:
    gold = columns(60, 3, 0)
    predicted = np.where(np.random.default_rng(5).uniform(size=60) < 0.75, gold, columns(60, 3, 1))
    ours = estimate(figure, gold, predicted, seed=0, n_resamples=20_000)
    low, high = row_bootstrap(figure, gold, predicted, 1000)
    assert (ours.low, ours.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


@pytest.mark.parametrize(("true_accuracy", "n_rows"), [(0.9, 300), (0.7, 150)])
def test_the_interval_covers_the_true_accuracy_95_times_in_100(true_accuracy: float, n_rows: int) -> None:
    rng, n_trials = np.random.default_rng(0), 400
    covered = 0
    for trial in range(n_trials):
        right = rng.uniform(size=n_rows) < true_accuracy
        found = estimate(
            "accuracy", np.zeros(n_rows, dtype=np.int64), np.where(right, 0, 1), seed=trial, n_resamples=500
        )
        covered += found.low <= true_accuracy <= found.high
    # 400 trials at 0.95 lie within 0.92 and 0.975 in 99 of 100 simulations; percentile intervals cover a little less.
    assert 0.915 <= covered / n_trials <= 0.98


def test_the_paired_interval_covers_a_true_difference_of_nothing() -> None:
    rng, n_trials = np.random.default_rng(1), 300
    gold = np.zeros(200, dtype=np.int64)
    covered = 0
    for trial in range(n_trials):
        ours, theirs = (np.where(rng.uniform(size=200) < 0.85, 0, 1) for _ in range(2))
        found = paired_difference("accuracy", gold, ours, theirs, seed=trial, n_resamples=500)
        covered += found.low <= 0 <= found.high
    assert 0.91 <= covered / n_trials <= 0.985


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    """Two that are right on nearly the same rows differ surely by little."""
    gold = np.zeros(400, dtype=np.int64)
    ours = np.where(np.arange(400) < 320, 0, 1)
    theirs = np.where(np.arange(400) < 316, 0, 1)
    difference = paired_difference("accuracy", gold, ours, theirs, seed=0)
    alone = estimate("accuracy", gold, ours, seed=0)
    assert difference.value == pytest.approx(0.01)
    assert difference.high - difference.low < (alone.high - alone.low) / 3


def test_the_difference_is_ours_minus_theirs_for_both_figures() -> None:
    ours, theirs = GOLD, PREDICTED
    assert paired_difference("accuracy", GOLD, ours, theirs, seed=0).value == pytest.approx(0.5)
    expected = 1 - macro_f1(GOLD, theirs)
    assert paired_difference("macro_f1", GOLD, ours, theirs, seed=0).value == pytest.approx(expected, abs=1e-6)


def test_a_resample_that_misses_a_rare_label_says_nothing_against_it() -> None:
    gold = np.array([0] * 30 + [1])
    found = estimate("macro_f1", gold, gold, seed=0)
    assert (found.low, found.high) == (1, 1)


def test_same_seed_same_interval_and_another_seed_another() -> None:
    gold, predicted = columns(90, 4, 0), columns(90, 4, 1)
    first = estimate("macro_f1", gold, predicted, seed=3)
    assert estimate("macro_f1", gold, predicted, seed=3) == first
    assert estimate("macro_f1", gold, predicted, seed=4) != first


def test_one_row_has_an_interval_of_one_point() -> None:
    found = estimate("macro_f1", np.array([0]), np.array([0]), seed=0)
    assert (found.value, found.low, found.high) == (1, 1, 1)


@settings(max_examples=40, deadline=None)
@given(
    pairs=hnp.arrays(np.int64, st.tuples(st.integers(1, 40), st.just(2)), elements=st.integers(0, 3)),
    figure=st.sampled_from(["accuracy", "macro_f1"]),
    data=st.data(),
)
def test_the_order_of_rows_changes_nothing(pairs: Columns, figure: Figure, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(pairs))))
    shuffled = pairs[order]
    first = estimate(figure, pairs[:, 0], pairs[:, 1], seed=0, n_resamples=50)
    assert estimate(figure, shuffled[:, 0], shuffled[:, 1], seed=0, n_resamples=50) == first
    assert 0 <= first.low <= first.high <= 1


# McNemar


def test_mcnemar_by_hand() -> None:
    """Ours alone is right on 1 row, theirs alone on 7: two-sided binomial, 2 (1 + 8) / 2^8."""
    gold = np.zeros(20, dtype=np.int64)
    ours = np.array([0] * 13 + [1] * 7)
    theirs = np.array([0] * 12 + [1] + [0] * 7)
    assert mcnemar(gold, ours, theirs) == pytest.approx(2 * (1 + 8) / 2**8)


def test_two_that_are_wrong_on_the_same_rows_do_not_differ() -> None:
    gold = np.array([0, 0, 1])
    assert mcnemar(gold, np.array([0, 1, 0]), np.array([0, -1, 2])) == 1


# Refusals


def test_numbers_about_no_rows_are_refused() -> None:
    nothing = np.array([], dtype=np.int64)
    with pytest.raises(ValueError, match="no rows to measure on"):
        estimate("accuracy", nothing, nothing, seed=0)
    with pytest.raises(ValueError, match="no rows to measure on"):
        expected_calibration_error(nothing, np.zeros((0, 2)))


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one answer for each of 2 gold labels, got 3"):
        macro_f1(np.array([0, 1]), np.array([0, 1, 1]))
