"""Calibration of two labels: which rule is taken, and that a release does exactly what it says."""

from pathlib import Path

import numpy as np
import pytest

from factory.evaluation.calibration import CalibrateParams
from factory.evaluation.odds import LEAST_FOR_STEPS, OddsRule, choose_rule, odds_of, probs_of
from factory.evaluation.table_calibration import calibrate_table
from factory.records import Predictions, all_kept
from factory.records_table import cells_of
from factory.release.export_table import ExportTableParams, as_json_rows, export_table
from factory.release.predict import Predictor
from factory.students import make_table_student
from factory.students.training import FittedStudent
from tests.tables import LABELS, THREE, dataset


def drawn(n: int, bend: object, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities whose log-odds are bent, and labels that follow the straight ones."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 2, n)
    gold = (rng.random(n) < probs_of(odds)[:, 1]).astype(np.int64)
    return probs_of(bend(odds)), gold  # type: ignore[operator]


def loss(probs: np.ndarray, gold: np.ndarray) -> float:
    return float(-np.log(probs[np.arange(len(gold)), gold]).mean())


BENDS = {
    "straight": lambda odds: odds,
    "bold": lambda odds: 3 * odds,
    "shifted": lambda odds: 2 * odds + 3,
    "bent": lambda odds: np.where(odds > 0, odds / 8, 4 * odds) + 1,
}


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("n", [150, 6_000])
def test_probabilities_come_true_on_rows_that_were_not_seen(bend: str, n: int) -> None:
    if n < LEAST_FOR_STEPS and bend == "bent":
        pytest.skip("no slope can straighten it, and there are too few rows for steps")
    probs, gold = drawn(n, BENDS[bend])
    rule, told = choose_rule(probs, gold, np.ones(n), seed=0)
    fresh, fresh_gold = drawn(20_000, BENDS[bend], seed=1)
    best = loss(drawn(20_000, BENDS["straight"], seed=1)[0], fresh_gold)
    found = loss(rule.apply(fresh), fresh_gold)
    assert found < best + (0.03 if n < 1_000 else 0.004)
    assert told == pytest.approx(found, abs=0.08 if n < 1_000 else 0.02)
    if n < LEAST_FOR_STEPS:
        assert rule.kind != "isotonic"
    elif bend == "bent":
        assert rule.kind == "isotonic"
    elif bend == "shifted":
        assert rule.kind in ("platt", "isotonic")


def test_the_order_of_rows_stays_and_none_become_equal() -> None:
    probs, gold = drawn(6_000, BENDS["bent"])
    rule, _ = choose_rule(probs, gold, np.ones(6_000), seed=0)
    odds = np.linspace(-30, 30, 5_000)
    assert rule.kind == "isotonic" and (np.diff(rule.of(odds)) > 0).all()


def test_rows_of_one_label_or_a_single_row_are_no_reason_to_fail() -> None:
    for n in (1, 3, 2_000):
        probs = probs_of(np.linspace(-1, 1, n))
        rule, told = choose_rule(probs, np.ones(n, dtype=np.int64), np.ones(n), seed=0)
        assert np.isfinite(rule.apply(probs)).all() and np.isfinite(told)


def test_a_student_whose_order_is_wrong_is_not_turned_around() -> None:
    probs, gold = drawn(500, lambda odds: -odds)
    rule, _ = choose_rule(probs, gold, np.ones(500), seed=0)
    assert rule.slope > 0


RULES = [
    OddsRule(kind="temperature", slope=0.5),
    OddsRule(kind="platt", slope=1.7, shift=-0.4),
    OddsRule(kind="isotonic", before=(-1.0, 0.2, 2.0), after=(-2.0, 0.1, 0.5)),
]


@pytest.mark.parametrize("rule", RULES, ids=[rule.kind for rule in RULES])
def test_a_release_does_exactly_what_the_rule_says(rule: OddsRule, tmp_path: Path) -> None:
    rows = dataset(LABELS, 120)
    student = make_table_student("linear", {}).fit(rows, LABELS, seed=0)
    params = ExportTableParams(name="loans", table=LABELS, rule=rule)
    export_table(params, fitted=FittedStudent("linear", student, 120), rows=all_kept(rows)).save(tmp_path)
    predictor, asked = Predictor(tmp_path), as_json_rows(rows)
    plain = student.predict_proba(rows)
    assert np.allclose(predictor.predict_proba(asked), rule.apply(plain), atol=1e-5)
    scores = student.fitted_.scores(student.encoding_.matrix(cells_of(rows)))
    (found,) = predictor.explain(asked[:1], "yes")
    odds = rule.of(odds_of(plain[:1]))[0] if rule.kind != "isotonic" else scores[0, 1] - scores[0, 0]
    assert found["score"] == pytest.approx(odds, abs=1e-3)
    (other,) = predictor.explain(asked[:1], "no")
    assert other["score"] == pytest.approx(-odds, abs=1e-3)


def test_the_stage_says_what_it_took() -> None:
    rows = dataset(LABELS, 200)
    student = make_table_student("linear", {}).fit(dataset(LABELS, 150, seed=4), LABELS, seed=0)
    told = Predictions(LABELS.label_names, tuple(rows["id"]), student.predict_proba(rows))
    found = calibrate_table(CalibrateParams(n_resamples=20), oof=told, rows=all_kept(rows))
    assert found.rule is not None and found.rule.kind in found.summary
    three = dataset(THREE, 200)
    student = make_table_student("linear", {}).fit(three, THREE, seed=0)
    told = Predictions(THREE.label_names, tuple(three["id"]), student.predict_proba(three))
    assert calibrate_table(CalibrateParams(n_resamples=20), oof=told, rows=all_kept(three)).rule is None
