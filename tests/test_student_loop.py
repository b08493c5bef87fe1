"""Rounds with a student in the loop: their budget, what they ask about, when they end, and what is told of them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from factory.check import check_task
from factory.errors import SpecError
from factory.evaluation.learning_curve import (
    LEARNING_CURVE,
    CurveParams,
    Learning,
    LearningCurve,
    _curve,
    measure_curve,
)
from factory.evaluation.report import render_report
from factory.records import Origin, Rejection, Rows, TextRow, all_kept, split, text_dataset
from factory.spec import Label
from factory.synthesis.focus import Focus
from flows.outcome import learned
from flows.plan import make_plan
from tests.golden_file import check_golden
from tests.scripted_task import LABELS, make_task, texts_of
from tests.test_build import Walk, walk
from tests.test_report import build_of, evaluation_of, read

NAMES = tuple(LABELS)
QUICK: dict[str, Any] = {
    "students": [{"name": "tfidf-linear", "params": {"strength": 1.0}}],
    "curation": [],
    "data": None,
}


def params(**changes: Any) -> CurveParams:
    labels = tuple(Label(name=name, description=text) for name, text in LABELS.items())
    given = {"labels": labels, "student": "tfidf-linear", "params": {"strength": 1.0}}
    given |= {"n_added": 20, "n_resamples": 200}
    return CurveParams(**{**given, **changes})


def labelled(texts: Sequence[tuple[str, str]], probs: tuple[float, ...] | None = None) -> Rows:
    return all_kept(text_dataset([TextRow(text, label, Origin.SYNTHETIC, label_probs=probs) for text, label in texts]))


def hits(*agreements: float, n: int = 200) -> NDArray[np.float64]:
    """Right answers of students of growing size on `n` texts, each right on what the one before it was."""
    return np.array([[float(at < share * n) for at in range(n)] for share in agreements])


# The curve


def test_a_steep_curve_says_go_on_and_how_many_rows_a_point_takes() -> None:
    curve = _curve(params(n_added=100), 400, (100, 200, 400), hits(0.6, 0.8, 0.9))
    assert curve.gain is not None
    assert curve.gain.value > 0.01
    assert curve.gain.low < curve.gain.value < curve.gain.high
    # The error halves with every doubling: from 0.08 at 500 to 0.07.
    assert curve.rows_for_one_point == pytest.approx(500 / 7, rel=0.05)
    assert "one point takes about 7" in curve.answer


@pytest.mark.parametrize(
    "agreements", [(0.9, 0.9, 0.9), (1.0, 1.0, 1.0), (0.9, 0.85, 0.8)], ids=["flat", "all right", "falling"]
)
def test_a_flat_curve_says_that_more_rows_will_not_help(agreements: tuple[float, ...]) -> None:
    curve = _curve(params(), 400, (100, 200, 400), hits(*agreements))
    assert curve.gain is not None
    assert curve.gain.value < 0.005
    assert curve.rows_for_one_point is None
    assert "more rows of this kind will not help" in curve.answer


def test_fewer_texts_make_a_wider_interval() -> None:
    widths = []
    for n in (20, 2000):
        gain = _curve(params(), 400, (100, 200, 400), hits(0.7, 0.8, 0.85, n=n)).gain
        assert gain is not None
        widths.append(gain.high - gain.low)
    assert widths[0] > 3 * widths[1]


def pool() -> list[tuple[str, str]]:
    return [(text, label) for n in range(16) for label in NAMES for text in [texts_of(label)[n]]]


def test_students_answer_texts_they_did_not_see_and_the_curve_rises() -> None:
    curve = measure_curve(params(), rows=labelled(pool()[:30]), attributes=labelled(pool()[30:]))
    assert [point.n_rows for point in curve.points] == [8, 10, 15, 21, 30]
    assert (curve.n_rows, curve.n_fresh, curve.n_added) == (30, 18, 20)
    assert curve.points[0].agreement <= curve.points[-1].agreement
    check_golden(LEARNING_CURVE, curve.model_dump(mode="json"))


def test_texts_that_are_in_the_rows_are_not_fresh() -> None:
    assert measure_curve(params(), rows=labelled(pool()[:30]), attributes=labelled(pool()[20:33])).n_fresh == 3


def test_what_the_teacher_disagreed_on_counts_with_its_second_label() -> None:
    texts = [*pool()[30:32], ("no telling", NAMES[0])]
    rejections = {0: Rejection("disagrees", 0.1), 1: Rejection("unsure", 0.4), 2: Rejection("abstain-refusal")}
    verified = split(labelled(texts, (0.1, 0.1, 0.8)).kept, rejections, by="verify")
    curve = measure_curve(params(), rows=labelled(pool()[:30]), attributes=verified)
    assert curve.n_fresh == 2
    assert curve.agreement == 0.0  # the student says weather and music, the teacher now says table


@pytest.mark.parametrize(
    ("rows", "fresh"), [(pool()[:30], []), ([("a", NAMES[0]), ("b", NAMES[0])], pool()[:3]), ([], pool()[:3])]
)
def test_where_nothing_can_be_compared_nothing_is_predicted(
    rows: list[tuple[str, str]], fresh: list[tuple[str, str]]
) -> None:
    curve = measure_curve(params(), rows=labelled(rows), attributes=labelled(fresh))
    assert (curve.points, curve.gain, curve.rows_for_one_point) == ((), None, None)
    assert "no fresh texts were left" in curve.answer
    learning = Learning(rounds=(curve,), most_rounds=1, stop_gain=0.1)
    read(render_report(evaluation_of(("play", "book")), replace(build_of(("play", "book")), learning=learning)))


def test_the_answer_says_why_no_more_was_written() -> None:
    steep = _curve(params(n_added=100), 400, (100, 200, 400), hits(0.6, 0.8, 0.9))
    flat = _curve(params(), 400, (100, 200, 400), hits(0.9, 0.9, 0.9))
    said = {
        "is expected to gain less than 0.5 points": (flat,),
        "the spec allows no more": (steep, steep),
        "the budget ended": (steep,),
    }
    for why, rounds in said.items():
        assert why in Learning(rounds=rounds, most_rounds=2, stop_gain=0.005).answer


# Builds


def make_looped(folder: Path, *, loop: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write a task whose teacher says something else in every round, and how labels differ."""
    synthesis = {"per_label": 10, "max_rounds": 1, "strategies": ["attributes", "contrastive"], "loop": loop or {}}
    make_task(folder, **{**QUICK, "synthesis": synthesis, **changes})
    lines = [{"contains": "Two labels are easily confused", "reply": '{"A": "one thing", "B": "another"}'}]
    for label in LABELS:
        replies = ["\n".join(f"{text} {n}" for text in texts_of(label)[:8]) for n in range(97)]
        lines.append({"contains": f"different texts with the label {label}:", "reply": replies})
    for label in LABELS:
        for text in {text.split()[0] for text in texts_of(label)}:
            lines.append({"contains": f'Text: "{text}', "reply": json.dumps(label)})
    lines.append({"contains": "", "reply": "a place\na time"})
    (folder / "replies.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loop")


@pytest.fixture(scope="module")
def built(place: Path) -> Walk:
    loop = {"rounds": 2, "prompts_per_round": 5, "stop_gain": 0.0}
    return walk(make_looped(place / "task", loop=loop), place / "outputs")


def curves_of(done: Walk) -> list[LearningCurve]:
    return [curve.load() for curve in done.products.curves]


def test_a_round_keeps_to_its_budget_and_half_of_it_is_as_in_any_round(built: Walk) -> None:
    wanted: Counter[str] = Counter()
    for name, artifact in built.artifacts.items():
        if name.startswith(("attributes-", "contrastive-")) and name.endswith("-1") and name[-6:-2] in ("loop", "hard"):
            wanted[name[-6:-2]] += sum(artifact.manifest["key"]["params"]["wanted"])
    assert wanted["loop"] == 3 * 8
    assert 0 <= wanted["hard"] <= 2 * 8


def test_each_round_is_measured_by_a_student_of_the_rows_before_it(built: Walk) -> None:
    first, second = curves_of(built)
    assert first.n_rows == len(built.artifacts["gather-1"].load().kept)
    assert second.n_rows == first.n_rows + first.n_added == len(built.artifacts["gather-loop-1"].load().kept)
    assert first.n_fresh > 0
    inputs = built.artifacts["learning-curve-1"].manifest["key"]["inputs"]
    assert inputs["rows"] == built.artifacts["gather-1"].content_hash
    assert "focus" not in inputs  # what was written about hard rows says nothing of others


def test_half_of_a_round_is_about_what_the_student_finds_hard(built: Walk) -> None:
    hard = [name for name in built.artifacts if name.startswith(("attributes-hard", "contrastive-hard"))]
    found = built.artifacts["focus-1"].load()
    assert bool(hard) == bool(found.report["pairs"])
    weights = Focus(found).weights(NAMES)
    for name in hard:
        if name.endswith("-1"):
            wanted = built.artifacts[name].manifest["key"]["params"]["wanted"]
            assert not any(n for n, weight in zip(wanted, weights, strict=True) if not weight)


def test_after_a_build_with_a_loop_everything_is_cached_and_free(place: Path, built: Walk) -> None:
    again = walk(place / "task", place / "outputs")
    assert again.asked == []
    planned = make_plan(check_task(place / "task"), place / "outputs")
    assert all(stage.is_cached for stage in planned.stages)
    assert [stage.name for stage in planned.stages] == list(built.artifacts)


def test_changing_the_student_or_the_stop_rule_does_not_pay_the_teacher_again(place: Path, built: Walk) -> None:
    students = [{"name": "tfidf-linear", "params": {"strength": 3.0}}]
    loop = {"rounds": 2, "prompts_per_round": 5, "stop_gain": 1.0}
    again = walk(make_looped(place / "other", loop=loop, students=students), place / "outputs")
    assert again.asked == []
    assert (len(built.products.curves), len(again.products.curves)) == (2, 1)  # nothing gains a hundred points
    told = learned(check_task(place / "other"), again.products)
    assert told is not None
    assert "After 1 round of at most 2: the next is expected to gain less than 100 points." in told.answer


def test_the_report_has_the_answer_the_rounds_and_a_plot(built: Walk, place: Path) -> None:
    told = learned(check_task(place / "task"), built.products)
    build = replace(build_of(("yes", "no")), learning=told)
    outline = read(render_report(evaluation_of(("yes", "no")), build))
    shown = " ".join(outline.text)
    assert told is not None
    assert f"{told.answer[0].upper()}{told.answer[1:]}" in shown
    assert "Agreement with the teacher against the number of rows" in str(outline.attributes)
    assert "Would more rows help?" not in render_report(evaluation_of(("yes", "no")), build_of(("yes", "no")))


def test_a_plan_has_the_first_round_and_what_it_would_cost(tmp_path: Path) -> None:
    task = make_looped(tmp_path / "task", loop={"prompts_per_round": 6})
    planned = make_plan(check_task(task), tmp_path / "outputs")
    cost = {stage.name: stage.cost.calls for stage in planned.stages}
    assert sum(cost[f"{name}-{part}-1"] for name in ("attributes", "contrastive") for part in ("loop", "hard")) == 6
    assert cost["verify-attributes-loop-1"] + cost["verify-contrastive-loop-1"] == 3 * 8
    assert {"focus-1", "learning-curve-1", "gather-loop-1"} <= set(cost)
    assert not any(name.endswith("loop-2") for name in cost)


def test_a_used_up_budget_begins_no_round(tmp_path: Path) -> None:
    teacher = {"name": "scripted", "model": "replies.jsonl", "budget": {"calls": 40}}
    done = walk(make_looped(tmp_path / "task", teacher=teacher), tmp_path / "outputs")
    assert done.products.curves == ()
    assert learned(check_task(tmp_path / "task"), done.products) is None


def test_a_loop_without_a_strategy_and_too_small_a_round_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="nobody writes: name a strategy"):
        check_task(make_task(tmp_path / "none", synthesis={"strategies": [], "loop": {}}))
    with pytest.raises(SpecError, match="prompts_per_round"):
        check_task(make_task(tmp_path / "small", synthesis={"loop": {"prompts_per_round": 1}}))
