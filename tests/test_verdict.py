"""Replace, cascade or keep: what decides, what it costs, what small changes do, and what can be said without labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.evaluation.cascade import CascadeChoice, choose_thresholds
from factory.evaluation.cost import Side, StageCost, cost_of
from factory.evaluation.decision import Choice, decide
from factory.evaluation.label_free import (
    LABEL_FREE,
    LabelFreeParams,
    estimate_without_labels,
    prediction_powered,
    thresholded_confidence,
)
from factory.evaluation.metrics import Estimate
from factory.evaluation.verdict import Difference, Evaluation
from factory.records import Predictions
from factory.release.energy import joules_between, read_joules
from factory.release.robustness import PERTURBATIONS, ROBUSTNESS, RobustnessParams, probe_robustness
from factory.spec import CascadeSpec
from tests.golden_file import check_golden
from tests.released import evaluation, exported
from tests.test_cascade import draw
from tests.tiny_encoder import labelled_rows

# The decision


def judged(low: float, value: float, high: float, *, gold: bool = True, n: int = 200) -> Evaluation:
    """An evaluation in which the student minus the teacher is as given."""
    difference = Difference(
        other="teacher",
        n=n,
        student_accuracy=0.9,
        other_accuracy=0.9 - value,
        accuracy=Estimate(value=value, low=low, high=high),
        macro_f1=Estimate(value=value, low=low, high=high),
        mcnemar_p=0.5,
        margin=0.02,
        is_non_inferior=low > -0.02,
    )
    return evaluation(gold=gold).model_copy(update={"differences": (difference,), "gold": gold, "n_rows": 500})


def certified() -> CascadeChoice:
    choice = choose_thresholds(draw(6_000, seed=1), CascadeSpec(tiers=("static", "blend", "teacher"), within=0.01))
    assert choice.is_certified
    return choice


@pytest.mark.parametrize(
    ("difference", "with_cascade", "choice", "words"),
    [
        ((0.01, 0.04, 0.07), False, Choice.REPLACE, "on 200 gold rows the student is better: +4.0 (+1.0 to +7.0)"),
        ((-0.019, 0.0, 0.02), True, Choice.REPLACE, "is no more than 2 points worse: +0.0 (-1.9 to +2.0) points."),
        ((-0.05, -0.01, 0.03), True, Choice.CASCADE, "is not shown to be within 2 points of the LLM"),
        ((-0.05, -0.01, 0.03), False, Choice.KEEP, "raise labelling.ask_directly, there are 500 gold rows."),
        ((-0.12, -0.08, -0.04), False, Choice.KEEP, "the student is worse by more than 2 points (-8.0 (-12.0 to -4.0)"),
    ],
)
def test_the_interval_and_the_margin_decide(
    difference: tuple[float, float, float], with_cascade: bool, choice: Choice, words: str
) -> None:
    decision = decide(judged(*difference), certified() if with_cascade else None)
    assert (decision.choice, decision.is_estimate) == (choice, False)
    assert words in decision.sentence


def test_scripts_are_told_by_the_exit_code() -> None:
    codes = {choice.value: choice.exit_code for choice in Choice}
    assert codes == {"replace": 0, "use": 0, "cascade": 3, "keep": 4, "unproven": 5}


def test_a_cascade_that_was_not_certified_or_asks_nearly_everything_is_no_reason_to_use_it() -> None:
    not_certified = choose_thresholds(draw(60, seed=3), CascadeSpec(tiers=("static", "blend", "teacher")))
    assert decide(judged(-0.12, -0.08, -0.04), not_certified).choice is Choice.KEEP
    hardly = certified().model_copy(update={"last_share": Estimate(value=0.95, low=0.94, high=0.96)})
    kept = decide(judged(-0.12, -0.08, -0.04), hardly)
    assert kept.choice is Choice.KEEP
    assert "of the texts 95.0 (94.0 to 96.0) % would need it in a cascade too." in kept.why
    enough = certified().model_copy(update={"last_share": Estimate(value=0.94, low=0.93, high=0.95)})
    assert decide(judged(-0.12, -0.08, -0.04), enough).choice is Choice.CASCADE


def test_without_gold_rows_or_the_teachers_answers_nothing_is_replaced() -> None:
    alone = decide(judged(0.01, 0.04, 0.07, gold=False), None)
    assert (alone.choice, alone.why[:22]) == (Choice.KEEP, "there are no gold rows")
    not_asked = decide(evaluation().model_copy(update={"differences": ()}), None)
    assert not_asked.why.endswith("raise labelling.ask_directly.")
    silver = decide(judged(0.01, 0.04, 0.07, gold=False), certified().model_copy(update={"truth": "teacher"}))
    assert (silver.choice, silver.is_estimate) == (Choice.CASCADE, True)


# What it costs


STUDENT = Side(seconds_per_answer=0.001, usd_per_million=None, joules_per_thousand=20, energy="estimated")
STAGES = [StageCost(seconds=600, calls=700, prompt_tokens=140_000, completion_tokens=8_000), StageCost(seconds=60)]
ASKING = [
    StageCost(seconds=160, calls=200, prompt_tokens=40_000, completion_tokens=800),
    StageCost(seconds=0.1, calls=200),
]


def test_a_local_llm_is_compared_in_time_and_what_came_from_the_store_is_not_its_speed() -> None:
    cost = cost_of(STAGES, ASKING, STUDENT, usd_per_million_tokens=None, is_local=True, threads=2)
    assert cost.teacher is not None
    assert cost.teacher.seconds_per_answer == 0.8
    assert cost.teacher.joules_per_thousand == 1000 * 0.8 * 20
    assert (cost.break_even, cost.break_even_in) == (-int(-660 // 0.799), "time")
    assert ("the build has paid for itself after", f"{cost.break_even:,} answers (11.0 minutes)") in cost.lines


def test_where_prices_are_known_money_is_counted() -> None:
    side = STUDENT.model_copy(update={"usd_per_million": 1.0})
    cost = cost_of(STAGES, ASKING[:1], side, usd_per_million_tokens=(0.1, 0.4), is_local=False, threads=2)
    assert cost.teacher is not None
    assert cost.teacher.usd_per_million == pytest.approx(1e6 * (40_000 * 0.1 + 800 * 0.4) / 1e6 / 200)
    assert cost.teacher.energy == "unknown"
    assert cost.build_usd == pytest.approx((140_000 * 0.1 + 8_000 * 0.4) / 1e6)
    assert cost.break_even_in == "money"
    assert cost.break_even == -int(-cost.build_usd // ((cost.teacher.usd_per_million - 1.0) / 1e6))


def test_an_llm_that_is_not_dearer_never_pays_for_the_build() -> None:
    cost = cost_of(
        STAGES, [StageCost(seconds=0.1, calls=200)], STUDENT, usd_per_million_tokens=None, is_local=True, threads=2
    )
    assert cost.break_even is None
    assert cost_of(STAGES, [], STUDENT, usd_per_million_tokens=None, is_local=True, threads=2).teacher is None


def test_the_meter_is_read_where_it_can_be_and_its_overflow_is_counted(tmp_path: Path) -> None:
    assert read_joules(tmp_path) is None
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "max_energy_range_uj").write_text("1000000000\n")
    readings = []
    for counted in (999_000_000, 3_000_000):
        (package / "energy_uj").write_text(f"{counted}\n")
        readings.append(read_joules(tmp_path))
    assert joules_between(*readings) == pytest.approx(4.0)
    assert joules_between(None, readings[0]) is None
    (package / "energy_uj").write_text("?")
    assert read_joules(tmp_path) is None


# What small changes do


def test_every_perturbation_is_measured_against_the_same_rows() -> None:
    found = probe_robustness(RobustnessParams(n_resamples=50), exported=exported(), rows=labelled_rows())
    assert [one.name for one in found.perturbed] == list(PERTURBATIONS)
    assert found.n == len(labelled_rows().kept)
    for one in found.perturbed:
        assert one.change.low <= one.change.value <= one.change.high
        assert bool(one.example) or one.change.value >= 0
    check_golden(ROBUSTNESS, found.model_dump(mode="json"))


@given(st.text(max_size=60), st.sampled_from(sorted(PERTURBATIONS)))
def test_a_perturbation_takes_any_text_and_leaves_some_of_it(text: str, name: str) -> None:
    changed = PERTURBATIONS[name](text, np.random.default_rng(0))
    assert isinstance(changed, str)
    assert bool(changed) or not text


def test_typos_change_a_text_but_not_much() -> None:
    text = "please play some jazz on the kitchen speaker"
    changed = PERTURBATIONS["typos"](text, np.random.default_rng(1))
    assert changed != text
    assert abs(len(changed) - len(text)) <= 2


# Without labels


def honest(n: int, seed: int, hardness: float = 0.0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    sure = np.clip(rng.beta(5, 1, n) - hardness, 0.05, 1)
    return sure, rng.random(n) < sure


def test_thresholded_confidence_is_right_without_a_shift_and_falls_when_rows_get_harder() -> None:
    known, right = honest(4000, 0)
    shifted = [honest(4000, 1, hardness) for hardness in (0.0, 0.05, 0.1)]
    estimates = [thresholded_confidence(known, right, sure) for sure, _ in shifted]
    assert estimates[0] == pytest.approx(shifted[0][1].mean(), abs=0.03)
    assert estimates == sorted(estimates, reverse=True)


def test_thresholded_confidence_needs_rows_and_knows_the_ends() -> None:
    sure = np.array([0.9, 0.8])
    assert thresholded_confidence(sure, np.array([True, True]), np.array([0.95, 0.85])) == 1.0
    assert thresholded_confidence(sure, np.array([False, False]), sure) == 0.0
    with pytest.raises(ValueError, match="expected rows with and without labels, got 0 and 2"):
        thresholded_confidence(sure[:0], np.array([], dtype=bool), sure)


@pytest.mark.parametrize("guess", ["honest", "useless", "reversed"])
def test_a_prediction_powered_interval_covers_however_bad_the_guess(guess: str) -> None:
    n_covered, saved = 0, []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        sure = rng.choice([0.1, 0.95], size=2100, p=[0.25, 0.75])
        right = rng.random(2100) < sure
        told = {"honest": sure, "useless": rng.random(2100), "reversed": 1 - sure}[guess]
        found = prediction_powered(right[:100], told[:100], told[100:])
        n_covered += found.accuracy.low <= 0.1 * 0.25 + 0.95 * 0.75 <= found.accuracy.high
        saved.append(found.labels_saved)
    assert n_covered >= 0.91 * 300
    assert (np.mean(saved) > 100) == (guess == "honest")


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=30),
    st.lists(st.floats(0, 1), min_size=2, max_size=30),
)
@settings(deadline=None)
def test_any_guesses_give_an_interval(labelled: list[tuple[bool, float]], others: list[float]) -> None:
    right, guess = (np.array(column) for column in zip(*labelled, strict=True))
    found = prediction_powered(right, guess, np.array(others))
    assert 0 <= found.accuracy.low <= found.accuracy.high <= 1
    assert found.labels_saved >= 0


def test_one_row_is_not_enough() -> None:
    with pytest.raises(ValueError, match="got 1 with and 5 without labels"):
        prediction_powered(np.array([True]), np.array([0.5]), np.full(5, 0.5))


def test_pool_rows_that_were_trained_on_say_nothing_about_the_others() -> None:
    rows, names = labelled_rows(), ("music", "weather")
    ids = tuple(rows.kept["id"])
    probs = np.array([[0.9, 0.1] if label == "music" else [0.1, 0.9] for label in rows.kept["label"]])
    oof = Predictions(names, ids, probs)
    pool = Predictions(names, (*ids[:5], "x", "y", "z"), np.array([[0.9, 0.1]] * 5 + [[0.6, 0.4]] * 3))
    found = estimate_without_labels(LabelFreeParams(), pool=pool, oof=oof, rows=rows, holdout=rows, student=oof)
    assert (found.n_pool, found.mean_confidence) == (3, 0.6)
    check_golden(LABEL_FREE, found.model_dump(mode="json"))
    used_up = estimate_without_labels(
        LabelFreeParams(), pool=Predictions(names, ids[:5], probs[:5]), oof=oof, rows=rows
    )
    assert (used_up.thresholded, used_up.powered) == (None, None)
