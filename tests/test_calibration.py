"""Temperature scaling: what it mends, what it leaves alone, and where it stops."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import FactoryError
from factory.evaluation.calibration import (
    CALIBRATE,
    CalibrateParams,
    Calibration,
    apply_temperature,
    calibrate,
    fit_temperature,
)
from factory.evaluation.metrics import Columns, Proba, log_loss
from factory.records import Origin, Predictions, Rows, TextRow, all_kept, text_dataset
from tests.golden_file import check_golden


def honest(n_rows: int, seed: int) -> tuple[Proba, Columns]:
    """Probabilities that mean what they say: the gold label is drawn from them."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet([1, 1, 1], n_rows)
    return proba, np.array([rng.choice(3, p=row) for row in proba])


def student(n_rows: int, sharpened: float = 0.5) -> tuple[Rows, Predictions]:
    """An overconfident student on rows it has not seen."""
    proba, gold = honest(n_rows, seed=0)
    rows = all_kept(text_dataset([TextRow(f"text {n}", "abc"[gold[n]], Origin.SYNTHETIC) for n in range(n_rows)]))
    ids = tuple(rows.kept["id"])[::-1]
    return rows, Predictions(("a", "b", "c"), ids, apply_temperature(proba, sharpened)[::-1])


@pytest.mark.parametrize("sharpened", [0.3, 0.5, 1.0, 2.0, 4.0])
def test_the_temperature_that_was_applied_is_found_again(sharpened: float) -> None:
    proba, gold = honest(4000, seed=1)
    assert fit_temperature(apply_temperature(proba, sharpened), gold) == pytest.approx(1 / sharpened, rel=0.08)


@settings(max_examples=60, deadline=None)
@given(n_rows=st.integers(1, 30), n_labels=st.integers(2, 5), seed=st.integers(0, 10**6), certain=st.booleans())
def test_calibration_never_worsens_the_likelihood_of_its_own_rows(
    n_rows: int, n_labels: int, seed: int, certain: bool
) -> None:
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(n_labels, 0.2), n_rows)
    if certain:
        proba = np.eye(n_labels)[proba.argmax(axis=1)]
    gold = rng.integers(0, n_labels, n_rows)
    temperature = fit_temperature(proba, gold)
    assert 0.05 <= temperature <= 20
    assert log_loss(gold, apply_temperature(proba, temperature)) <= log_loss(gold, proba) + 1e-9


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.05, 20))
def test_no_answer_changes_and_rows_still_sum_to_one(seed: int, temperature: float) -> None:
    proba = np.random.default_rng(seed).dirichlet([1, 1, 1, 1], 20)
    calibrated = apply_temperature(proba, temperature)
    assert calibrated.sum(axis=1) == pytest.approx(np.ones(20))
    assert (calibrated.argmax(axis=1) == proba.argmax(axis=1)).all()


@pytest.mark.parametrize(
    ("proba", "gold", "expected"),
    [
        ([[0.6, 0.4], [0.3, 0.7]], [0, 1], 0.05),  # all right
        ([[0.6, 0.4], [0.3, 0.7]], [1, 0], 20),  # all wrong
        ([[0.9, 0.1]], [0], 0.05),  # one row
        ([[0.5, 0.5], [0.5, 0.5]], [0, 1], 1),  # no temperature matters
    ],
)
def test_where_no_temperature_is_best_the_bound_is_the_answer(
    proba: list[list[float]], gold: list[int], expected: float
) -> None:
    assert fit_temperature(np.array(proba), np.array(gold)) == pytest.approx(expected, rel=1e-6)


def test_rows_of_no_weight_play_no_part() -> None:
    proba, gold = honest(200, seed=2)
    wrong = (gold + 1) % 3
    both = fit_temperature(np.vstack([proba, proba]), np.concatenate([gold, wrong]), np.repeat([1.0, 0.0], 200))
    assert both == pytest.approx(fit_temperature(proba, gold), rel=1e-4)


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    proba, gold = honest(50, seed=3)
    twice = fit_temperature(np.vstack([proba, proba[:10]]), np.concatenate([gold, gold[:10]]))
    assert fit_temperature(proba, gold, np.repeat([2.0, 1.0], [10, 40])) == pytest.approx(twice, rel=1e-4)


def test_nothing_to_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows to fit a temperature to"):
        fit_temperature(np.zeros((0, 2)), np.array([], dtype=np.int64))
    with pytest.raises(ValueError, match=r"as many rows as gold labels \(1\), got 2"):
        fit_temperature(np.full((2, 2), 0.5), np.array([0]))


def test_an_overconfident_student_is_made_modest_and_measured() -> None:
    rows, oof = student(600)
    made = calibrate(CalibrateParams(n_resamples=200), oof=oof, rows=rows)
    assert made.calibration_temperature == pytest.approx(2, rel=0.2)
    assert made.nll_after < made.nll_before
    assert made.ece_after < made.ece_before
    assert made.accuracy.low < made.accuracy.value < made.accuracy.high
    assert made.n == 600


def test_only_the_predicted_rows_count() -> None:
    rows, oof = student(60)
    half = Predictions(oof.labels, oof.ids[:30], oof.probs[:30])
    assert calibrate(CalibrateParams(n_resamples=10), oof=half, rows=rows).n == 30


@pytest.mark.parametrize("ids", [("unknown",), ()])
def test_a_prediction_without_its_row_is_an_error(ids: tuple[str, ...]) -> None:
    rows, oof = student(5)
    with pytest.raises(FactoryError, match=f"a labelled row for each of {len(ids)} predictions"):
        calibrate(CalibrateParams(), oof=Predictions(oof.labels, ids, oof.probs[: len(ids)]), rows=rows)


def test_a_calibration_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    rows, oof = student(40)
    made = calibrate(CalibrateParams(n_resamples=50), oof=oof, rows=rows)
    made.save(tmp_path)
    assert Calibration.load(tmp_path) == made
    assert made.summary.startswith("macro-F1 0.")


def test_golden_calibrate() -> None:
    rows, oof = student(40)
    made = calibrate(CalibrateParams(n_resamples=100), oof=oof, rows=rows)
    check_golden(CALIBRATE, made.model_dump(mode="json"))
