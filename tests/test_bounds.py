"""Exact tests: known values, and how often they are wrong when the null hypothesis holds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.evaluation.bounds import paired_p_value, rate_p_value, rate_upper_bound


@pytest.mark.parametrize(
    ("n_events", "n_rows", "bound", "p_value"),
    [(0, 10, 0.1, 0.9**10), (0, 44, 0.05, 0.95**44), (1, 2, 0.5, 0.75), (7, 7, 0.3, 1.0), (0, 0, 0.3, 1.0)],
)
def test_the_p_value_of_a_rate_is_the_tail_of_the_binomial(
    n_events: int, n_rows: int, bound: float, p_value: float
) -> None:
    assert rate_p_value(n_events, n_rows, bound) == pytest.approx(p_value)


@given(n_events=st.integers(0, 50), n_rows=st.integers(51, 200), delta=st.floats(0.01, 0.5))
def test_the_upper_bound_is_where_the_test_stops_rejecting(n_events: int, n_rows: int, delta: float) -> None:
    bound = rate_upper_bound(n_events, n_rows, delta)
    assert rate_p_value(n_events, n_rows, bound) == pytest.approx(delta, abs=1e-6)


def test_all_events_leave_no_bound() -> None:
    assert rate_upper_bound(5, 5, 0.1) == 1.0


@pytest.mark.parametrize(
    ("n_rows", "rate", "margin"),
    [(50, 0.5, 0.05), (300, 0.02, 0.01), (300, 0.2, 0.02), (1000, 0.006, 0.005), (1000, 0.05, 0.02)],
)
def test_a_loss_on_the_margin_is_accepted_no_more_often_than_said(n_rows: int, rate: float, margin: float) -> None:
    chances = [(rate + margin) / 2, (rate - margin) / 2, 1 - rate]
    tables, counts = np.unique(
        np.random.default_rng(0).multinomial(n_rows, chances, size=4000), axis=0, return_counts=True
    )
    p_values = np.array([paired_p_value(worse, better, n_rows, margin) for worse, better, _ in tables.tolist()])
    for level in (0.05, 0.1):
        accepted = counts[p_values <= level].sum() / counts.sum()
        assert accepted <= level + 3 * (level * (1 - level) / 4000) ** 0.5


def test_few_disagreements_say_more_than_many_that_cancel_out() -> None:
    p_values = [paired_p_value(n, n, 700, 0.005) for n in (0, 1, 10)]
    assert p_values == sorted(p_values)
    assert p_values[0] < 0.05 < p_values[-1]


def test_without_rows_nothing_is_known() -> None:
    assert paired_p_value(0, 0, 0, 0.01) == 1.0


@given(
    counts=st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 500)),
    margin=st.floats(0, 0.5),
)
@settings(deadline=None, max_examples=60)
def test_a_row_more_lost_never_makes_it_surer(counts: tuple[int, int, int], margin: float) -> None:
    worse, better, rest = counts
    n_rows = worse + better + rest
    p_value = paired_p_value(worse, better, n_rows, margin)
    assert 0 < p_value <= 1
    if margin * n_rows >= worse - better + 1:
        assert paired_p_value(worse + 1, better, n_rows, margin) >= p_value - 1e-6
