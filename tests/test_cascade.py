"""Thresholds of a cascade: the promise holds as often as said, and what is chosen is what was promised."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import FactoryError
from factory.evaluation import policies
from factory.evaluation.cascade import CASCADE, CascadeChoice, CascadeParams, cascade, choose_thresholds
from factory.evaluation.policies import Tier
from factory.evaluation.promise import promise_of, rows_needed
from factory.evaluation.thresholds import search
from factory.records import Origin, Predictions, Rejection, Rows, TextRow, all_kept, split, text_dataset
from factory.spec import CascadeSpec
from tests.golden_file import check_golden

N_SPLITS = 100
NAMES = ("static", "blend", "teacher")


def draw(n_rows: int, seed: int, *, teacher: float = 0.97) -> list[Tier]:
    """Tiers whose probabilities mean what they say, on texts that are hard or easy for both students."""
    rng = np.random.default_rng(seed)
    hard = rng.beta(0.6, 4, n_rows)
    sure = [np.clip(1 - 1.4 * hard, 0.2, 1), np.clip(1 - hard, 0.2, 1), np.ones(n_rows)]
    chance = [sure[0], sure[1], np.full(n_rows, teacher)]
    return [Tier(name, sure[at], rng.random(n_rows) < chance[at]) for at, name in enumerate(NAMES)]


def part(tiers: list[Tier], rows: Any) -> list[Tier]:
    return [Tier(tier.name, tier.confidence[rows], tier.is_right[rows]) for tier in tiers]


def goal(tiers: tuple[str, ...] = NAMES, **promise: Any) -> CascadeSpec:
    return CascadeSpec(tiers=tiers, **promise)


def truth_of(everything: list[Tier], wanted: CascadeSpec, thresholds: Any) -> bool:
    """Whether thresholds keep the promise on the whole population."""
    answered = np.full(len(everything[0].is_right), len(everything) - 1)
    for position in reversed(range(len(everything) - 1)):
        answered[everything[position].confidence >= thresholds[position]] = position
    right = np.stack([tier.is_right for tier in everything])[answered, np.arange(len(answered))]
    best = max(float(tier.is_right.mean()) for tier in everything)
    kept = [right.mean() >= wanted.accuracy] if wanted.accuracy is not None else []
    kept += [right.mean() >= best - wanted.loss_margin] if wanted.loss_margin is not None else []
    share = (answered == len(everything) - 1).mean()
    return bool(all(kept)) and (wanted.teacher_share is None or bool(share <= wanted.teacher_share))


@pytest.mark.parametrize(
    "promise",
    [{"within": 0.01}, {"accuracy": 0.93}, {"teacher_share": 0.15}, {"accuracy": 0.9, "teacher_share": 0.4}],
    ids=lambda promise: "-".join(promise),
)
def test_a_promise_is_broken_in_no_more_than_delta_of_a_hundred_splits(promise: dict[str, float]) -> None:
    everything, wanted = draw(100_000, seed=0), goal(**promise)
    n_broken = n_certified = 0
    for seed in range(N_SPLITS):
        rows = np.random.default_rng(seed).choice(100_000, size=900, replace=False)
        found = search(part(everything, rows), wanted, seed=seed)
        n_certified += bool(found.certified)
        kept = truth_of(everything, wanted, found.cascades.thresholds[found.chosen])
        n_broken += bool(found.certified) and not kept
    assert n_broken <= wanted.delta * N_SPLITS
    assert n_certified >= N_SPLITS / 2, "a promise that is never given is no use"


def test_without_the_test_the_promise_would_be_broken_often() -> None:
    everything, wanted = draw(100_000, seed=0), goal(within=0.005)
    n_broken = 0
    for seed in range(40):
        rows = np.random.default_rng(seed).choice(100_000, size=900, replace=False)
        found = search(part(everything, rows), wanted, seed=seed)
        right = [found.cascades.answers(policy, np.arange(900))[1].mean() for policy in found.frontier]
        best = max(tier.is_right[rows].mean() for tier in everything)
        naive = next((one for one, share in zip(found.frontier, right, strict=True) if share >= best - 0.005), None)
        n_broken += naive is not None and not truth_of(everything, wanted, found.cascades.thresholds[naive])
    assert n_broken > 8


def test_counting_in_blocks_counts_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = search(draw(200, seed=2), goal(within=0.01))
    whole = asdict(found.cascades.tally(found.test))
    for cells in (1, 7 * len(found.test)):
        monkeypatch.setattr(policies, "BLOCK_CELLS", cells)
        counted = asdict(found.cascades.tally(found.test))
        assert all(np.array_equal(whole[key], counted[key]) for key in whole)
    answered, right = found.cascades.answers(found.chosen, found.test)
    assert right.sum() == whole["n_right"][found.chosen]
    assert (answered == 2).sum() == whole["n_last"][found.chosen]


def test_the_cheapest_certified_thresholds_are_taken_and_calls_are_saved() -> None:
    choice = choose_thresholds(draw(6_000, seed=1), goal(within=0.01))
    assert choice.is_certified
    assert choice.last_share.value < 0.5
    assert choice.accuracy.value > choice.tiers["blend"].value
    assert choice.curve[0].accuracy.value < choice.curve[-1].accuracy.value
    shares = [point.last_share for point in choice.curve if point.is_certified]
    assert choice.last_share.value == pytest.approx(min(shares), abs=1e-6)


def test_a_bounded_share_buys_the_most_accuracy_it_can() -> None:
    choice = choose_thresholds(draw(6_000, seed=1), goal(teacher_share=0.2))
    assert choice.is_certified
    assert 0.1 < choice.last_share.value <= 0.2
    assert choice.accuracy.value == max(point.accuracy.value for point in choice.curve if point.is_certified)


def test_a_student_better_than_the_teacher_answers_alone() -> None:
    choice = choose_thresholds(draw(3_000, seed=2, teacher=0.6), goal(("blend", "teacher"), within=0.02))
    assert choice.is_certified
    assert choice.last_share.value < 0.05
    assert choice.tiers["blend"].value > choice.tiers["teacher"].value + 0.2


def test_too_few_rows_certify_nothing_and_say_how_many_it_takes() -> None:
    choice = choose_thresholds(draw(60, seed=3), goal())
    assert not choice.is_certified
    assert [(tier.name, tier.threshold, tier.share) for tier in choice.rule] == [("teacher", None, 1.0)]
    assert choice.n_needed > 600
    assert choice.n_design + choice.n_test == 60
    assert choice.promise == (
        "With confidence 90 %, accuracy is less than 0.5 points below that of each of static, blend, teacher, "
        "for texts drawn like the rows that the thresholds were chosen on."
    )


@pytest.mark.parametrize(
    ("promise", "least", "most"),
    [({"accuracy": 0.9}, 30, 36), ({"accuracy": 0.99}, 340, 350), ({"within": 0.01}, 340, 360)],
)
def test_the_rows_that_are_needed_follow_from_the_promise(promise: dict[str, float], least: int, most: int) -> None:
    assert least <= rows_needed(goal(**promise)) <= most


def test_a_promise_about_silver_labels_says_so() -> None:
    said = promise_of(
        goal(("blend", "teacher"), accuracy=0.9, teacher_share=0.2, delta=0.05), ("blend", "teacher"), "teacher"
    )
    assert said.startswith(
        "With confidence 95 %, at least 90 % of the answers are what the teacher would say, and at most 20 %"
    )


def test_equal_inputs_give_equal_bytes() -> None:
    first, again = (choose_thresholds(draw(500, seed=4), goal(accuracy=0.9), seed=7) for _ in range(2))
    assert first.model_dump_json() == again.model_dump_json()


@pytest.mark.parametrize(("n_tiers", "n_rows"), [(0, 0), (1, 100), (2, 2)])
def test_one_tier_or_no_rows_is_no_cascade(n_tiers: int, n_rows: int) -> None:
    with pytest.raises(FactoryError, match="expected two tiers and three rows at least"):
        choose_thresholds(draw(n_rows, seed=0)[:n_tiers], goal(NAMES[:2]))


@given(data=st.data(), n_rows=st.integers(3, 60), n_tiers=st.integers(2, 3))
@settings(deadline=None, max_examples=40)
def test_any_probabilities_give_a_rule_that_ends_with_a_tier_for_all(
    data: st.DataObject, n_rows: int, n_tiers: int
) -> None:
    level = st.sampled_from([0.0, 1e-7, 0.5, 1 - 1e-9, 1.0]) | st.floats(0, 1)
    tiers = [
        Tier(
            name,
            np.array(data.draw(st.lists(level, min_size=n_rows, max_size=n_rows))),
            np.array(data.draw(st.lists(st.booleans(), min_size=n_rows, max_size=n_rows))),
        )
        for name in NAMES[:n_tiers]
    ]
    choice = choose_thresholds(tiers, goal(NAMES[:n_tiers], accuracy=0.5, delta=0.5))
    assert choice.rule[-1].threshold is None
    assert all(tier.threshold is not None and 0 < tier.threshold <= 1 for tier in choice.rule[:-1])
    assert sum(tier.share for tier in choice.rule) == pytest.approx(1, abs=1e-5)
    assert CascadeChoice.model_validate_json(choice.model_dump_json()) == choice


# The stage


LABELS = ("no", "yes")


def answered(n_rows: int = 30) -> tuple[Rows, Rows, Predictions]:
    """Gold rows; a teacher wrong on row 3, unreadable on row 6 and out of reach on row 9; a student."""
    gold = [TextRow(f"text {n}", LABELS[n % 2], Origin.GOLD) for n in range(n_rows)]
    silver = [TextRow(row.text, LABELS[0] if n == 3 else row.label, Origin.SILVER) for n, row in enumerate(gold)]
    rejections = {6: Rejection("abstain-unparseable"), 9: Rejection("abstain-unavailable")}
    teacher = split(text_dataset(silver), rejections, by="annotate")
    rows = all_kept(text_dataset(gold))
    probs = np.array([[0.9, 0.1] if n % 2 == 0 else [0.2, 0.8] for n in range(n_rows)])
    probs[4] = [0.45, 0.55]
    return rows, teacher, Predictions(LABELS, tuple(rows.kept["id"])[::-1], probs[::-1])


PARAMS = CascadeParams(labels=LABELS, goal=goal(("blend", "teacher"), accuracy=0.5, delta=0.3), truth="gold")


def test_rows_the_teacher_may_answer_later_are_left_out_and_its_nonsense_counts_as_wrong() -> None:
    rows, teacher, student = answered()
    choice = cascade(PARAMS, rows=rows, teacher=teacher, blend=student)
    assert choice.n_design + choice.n_test == 29
    alone = choose_thresholds(
        [Tier("blend", np.ones(29), np.ones(29, dtype=bool)), Tier("teacher", np.ones(29), np.ones(29, dtype=bool))],
        PARAMS.goal,
    )
    assert choice.tiers["teacher"].value < alone.tiers["teacher"].value
    check_golden(CASCADE, choice.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("left_out", "message"),
    [("teacher", "the teacher is a tier"), ("blend", "expected the answers of the tier blend, got none")],
)
def test_a_tier_without_answers_is_named(left_out: str, message: str) -> None:
    rows, teacher, student = answered()
    inputs: dict[str, Any] = {"teacher": teacher, "blend": student}
    del inputs[left_out]
    with pytest.raises(FactoryError, match=message):
        cascade(PARAMS, rows=rows, **inputs)


def test_a_row_without_an_answer_is_named() -> None:
    rows, teacher, student = answered()
    fewer = Predictions(LABELS, student.ids[:-1], student.probs[:-1])
    with pytest.raises(FactoryError, match="blend did not answer 1 of 29 rows"):
        cascade(PARAMS, rows=rows, teacher=teacher, blend=fewer)


def test_the_result_is_stored_and_read_again(tmp_path: Path) -> None:
    choice = choose_thresholds(draw(200, seed=5), goal(accuracy=0.8))
    choice.save(tmp_path)
    assert CascadeChoice.load(tmp_path) == choice
    assert json.loads((tmp_path / "cascade.json").read_text())["rule"][-1]["threshold"] is None
