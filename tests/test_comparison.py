"""Baselines, the sample for the teacher, the choice of a student, and the evaluation of everyone."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from factory.errors import FactoryError
from factory.evaluation.baselines import (
    MAJORITY,
    NEAREST_DESCRIPTION,
    MajorityParams,
    NearestDescriptionParams,
    predict_majority,
    predict_nearest,
)
from factory.evaluation.calibration import Calibration
from factory.evaluation.comparison import EVALUATE, EvaluateParams, choose, evaluate
from factory.evaluation.metrics import Estimate
from factory.evaluation.sample import SAMPLE, SampleParams, allocate, sample
from factory.evaluation.verdict import OPEN_BECAUSE, Evaluation, Regime, verdict_sentence, verdict_table
from factory.records import (
    MAY_PASS,
    Origin,
    Predictions,
    Rejection,
    Rows,
    TextRow,
    all_kept,
    row_id,
    split,
    text_dataset,
)
from factory.spec import Label
from factory.teacher import Abstain
from tests.golden_file import check_golden, in_words

LABELS = ("book", "play", "weather")
PARAMS = EvaluateParams(labels=LABELS, champion="sentence-linear", n_resamples=200)


def rows_of(labels: Sequence[str | None], origin: Origin = Origin.GOLD) -> Rows:
    return all_kept(text_dataset([TextRow(f"text {n}", label, origin) for n, label in enumerate(labels)]))


GOLD = rows_of([LABELS[n % 3] for n in range(90)])


def says(answers: Sequence[str], top: float = 0.8) -> Predictions:
    """Someone who gives each row of `GOLD` the answer, with so much probability."""
    probs = np.full((len(answers), 3), (1 - top) / 2)
    probs[np.arange(len(answers)), [LABELS.index(answer) for answer in answers]] = top
    return Predictions(LABELS, tuple(row_id(f"text {n}") for n in range(len(answers))), probs)


def right_but(wrong: Mapping[int, str]) -> list[str]:
    return [wrong.get(n, LABELS[n % 3]) for n in range(90)]


def teacher_on(positions: Sequence[int], abstains: Mapping[int, str], wrong: Mapping[int, str] | None = None) -> Rows:
    """The teacher's answers, with a distribution for each."""
    rows = [
        TextRow(
            text=f"text {n}",
            label=None if n in abstains else right_but(wrong or {})[n],
            origin=Origin.SILVER,
            label_probs=None if n in abstains else (0.5, 0.3, 0.2),
        )
        for n in positions
    ]
    rejections = {at: Rejection(abstains[n]) for at, n in enumerate(positions) if n in abstains}
    return split(text_dataset(rows), rejections, by="annotate")


# Choosing a student


def calibration(value: float, half_width: float = 0.04) -> Calibration:
    figure = Estimate(value=value, low=value - half_width, high=value + half_width)
    numbers = dict.fromkeys(["calibration_temperature", "nll_before", "nll_after", "ece_before", "ece_after"], 1.0)
    return Calibration(n=100, accuracy=figure, macro_f1=figure, **numbers)


def test_a_student_that_is_clearly_best_is_chosen() -> None:
    assert choose({"small": calibration(0.80), "large": calibration(0.90)}) == "large"


def test_within_a_standard_error_of_the_best_the_first_in_the_spec_is_chosen() -> None:
    assert choose({"small": calibration(0.885), "large": calibration(0.90)}) == "small"


def test_a_preference_outranks_the_order_of_the_spec() -> None:
    near = {"large": calibration(0.90), "middle": calibration(0.89), "small": calibration(0.885)}
    assert choose(near) == "large"
    assert choose(near, preference=("small", "middle")) == "small"
    assert choose(near, preference=("middle",)) == "middle"


def test_there_is_no_choice_of_nobody() -> None:
    with pytest.raises(FactoryError, match="no students to choose from"):
        choose({})


# Baselines


def test_the_majority_is_counted_on_training_rows() -> None:
    train = rows_of(["play", "play", "weather"], Origin.SYNTHETIC)
    made = predict_majority(MajorityParams(labels=LABELS), rows=GOLD, train=train)
    assert set(made.answers) == {"play"}
    assert made.probs[0] == pytest.approx([1 / 6, 3 / 6, 2 / 6])
    assert made.ids == tuple(GOLD.kept["id"])


def test_without_training_rows_the_majority_is_the_first_label() -> None:
    made = predict_majority(MajorityParams(labels=LABELS), rows=GOLD)
    assert set(made.answers) == {"book"}


@dataclass(frozen=True)
class Compass:
    """An encoder that knows three directions."""

    identity: str = "compass"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        known = {
            "book a table": (1, 0),
            "play music": (0, 1),
            "weather": (-1, 0),
            "jazz": (0.6, 0.8),
            "rain": (-0.8, 0.6),
        }
        return np.array([known[text] for text in texts], dtype=np.float32)


DESCRIBED = NearestDescriptionParams(
    labels=(
        Label(name="book", description="book a table"),
        Label(name="play", description="play music"),
        Label(name="weather"),
    )
)
ASKED = all_kept(text_dataset([TextRow("jazz", None, Origin.GOLD), TextRow("rain", None, Origin.GOLD)]))


def test_the_nearest_description_is_the_answer_and_a_name_stands_in_for_a_missing_one() -> None:
    made = predict_nearest(DESCRIBED, rows=ASKED, encoder=Compass())
    assert made.answers == ("play", "weather")
    cosines = 20 * np.array([0.6, 0.8, -0.6])
    assert made.probs[0] == pytest.approx(np.exp(cosines) / np.exp(cosines).sum(), rel=1e-4)


# Sampling


def test_the_sample_has_the_shares_of_the_whole() -> None:
    rows = rows_of(["play"] * 60 + ["book"] * 30 + ["weather"] * 10)
    drawn = sample(SampleParams(n=20), rows=rows)
    assert Counter(drawn.kept["label"]) == {"play": 12, "book": 6, "weather": 2}
    assert list(drawn.kept["id"]) == sorted(drawn.kept["id"])


def test_every_label_is_in_the_sample_when_there_is_room() -> None:
    rows = rows_of(["play"] * 97 + ["book", "weather", "refund"])
    assert set(sample(SampleParams(n=4), rows=rows).kept["label"]) == {"play", "book", "weather", "refund"}
    assert len(sample(SampleParams(n=3), rows=rows).kept) == 3


def test_the_sample_does_not_depend_on_the_order_of_rows_but_on_the_seed() -> None:
    backwards = all_kept(GOLD.kept.select(range(89, -1, -1)))
    first = sample(SampleParams(n=20), rows=GOLD).kept["id"][:]
    assert sample(SampleParams(n=20), rows=backwards).kept["id"][:] == first
    assert sample(SampleParams(n=20, seed=1), rows=GOLD).kept["id"][:] != first


def test_a_text_is_drawn_once_however_often_it_occurs() -> None:
    rows = all_kept(text_dataset([TextRow("same", "play", Origin.GOLD)] * 5))
    assert len(sample(SampleParams(n=5), rows=rows).kept) == 1


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (1000, 90)])
def test_no_more_rows_are_drawn_than_wanted_or_there(n: int, expected: int) -> None:
    assert len(sample(SampleParams(n=n), rows=GOLD).kept) == expected


@given(
    n=st.integers(0, 300),
    sizes=st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 60), max_size=12),
)
def test_places_are_shared_out_fairly(n: int, sizes: dict[str, int]) -> None:
    places = allocate(n, sizes)
    total = sum(sizes.values())
    assert sum(places.values()) == min(n, total)
    assert all(0 <= places[label] <= sizes[label] for label in sizes)
    if n >= len(sizes):
        assert all(places.values())
        assert all(places[label] < 1 + max(1, min(n, total) * size / total) for label, size in sizes.items())


# Evaluating


def test_the_student_is_compared_with_the_teacher_on_the_rows_the_teacher_was_asked() -> None:
    """Of rows 0 to 29 the student misses two, the teacher five and says nothing to one."""
    student = says(right_but({0: "play", 1: "weather", 50: "book"}))
    wrong = {3: "play", 6: "play", 9: "play", 12: "play", 15: "play"}
    made = evaluate(
        PARAMS, holdout=GOLD, student=student, teacher=teacher_on(range(30), {20: "abstain-refusal"}, wrong)
    )
    versus = made.versus_teacher
    assert versus is not None
    assert versus.n == 30
    assert versus.student_accuracy == pytest.approx(28 / 30, abs=1e-6)
    assert versus.other_accuracy == pytest.approx(24 / 30, abs=1e-6)
    assert versus.accuracy.value == pytest.approx(4 / 30, abs=1e-6)
    # Only the student is right on 6 rows, only the teacher on 2.
    assert versus.mcnemar_p == pytest.approx(2 * (1 + 8 + 28) / 2**8, abs=1e-6)
    teacher = made.contenders[-1]
    assert (teacher.name, teacher.n, teacher.n_abstained) == ("teacher", 30, 1)
    assert teacher.log_loss is None
    assert made.student.n == 90


def test_the_teacher_is_matched_by_row_and_not_by_position() -> None:
    student = says(right_but({}))
    made = evaluate(PARAMS, holdout=GOLD, student=student, teacher=teacher_on([40, 7, 22], {}))
    assert made.versus_teacher is not None
    assert made.versus_teacher.other_accuracy == 1
    assert made.contenders[-1].ece is not None


def test_rows_the_teacher_was_never_asked_are_no_mistakes_of_its() -> None:
    teacher = teacher_on(range(10), dict.fromkeys([4, 5, 6], "abstain-budget"))
    made = evaluate(PARAMS, holdout=GOLD, student=says(right_but({})), teacher=teacher)
    assert made.versus_teacher is not None
    assert (made.versus_teacher.n, made.versus_teacher.other_accuracy, made.left_open) == (7, 1, {"budget": 3})


@pytest.mark.parametrize("reason", sorted(MAY_PASS))
def test_rows_the_teacher_may_answer_another_time_are_no_mistakes_of_its(reason: str) -> None:
    teacher = teacher_on(range(10), {4: f"abstain-{reason}", 5: "abstain-refusal"})
    made = evaluate(PARAMS, holdout=GOLD, student=says(right_but({})), teacher=teacher)
    assert made.versus_teacher is not None
    assert (made.versus_teacher.n, made.versus_teacher.other_accuracy) == (9, pytest.approx(8 / 9))
    assert made.left_open == {reason: 1}
    assert verdict_sentence(made).endswith(
        f"did not answer 1 rows, which count for neither: {OPEN_BECAUSE[reason]} (1)."
    )


def test_the_teacher_and_the_rows_agree_on_which_abstentions_may_pass() -> None:
    final = ("bad-request", "content-filter", "refusal", "empty", "malformed")
    assert {reason for reason in (*MAY_PASS, *final) if Abstain(reason).may_pass} == MAY_PASS == OPEN_BECAUSE.keys()


def test_a_teacher_without_budget_is_no_contender() -> None:
    teacher = teacher_on(range(3), dict.fromkeys(range(3), "abstain-budget"))
    made = evaluate(PARAMS, holdout=GOLD, student=says(right_but({})), teacher=teacher)
    assert made.versus_teacher is None
    assert made.left_open == {"budget": 3}
    assert verdict_sentence(made).endswith(
        "did not answer 3 rows, which count for neither: the budget was used up (3)."
    )


@pytest.mark.parametrize(
    ("n_wrong_of_student", "n_wrong_of_teacher", "expected"),
    [(0, 9, True), (5, 5, False), (12, 2, False)],  # 5, 5: an interval without width, which 90 rows do not earn
)
def test_no_worse_needs_the_interval_above_the_margin_and_enough_rows(
    n_wrong_of_student: int, n_wrong_of_teacher: int, expected: bool
) -> None:
    """Both miss the first rows, so that few rows are between them."""
    ours, theirs = (
        {n: LABELS[(n + 1) % 3] for n in range(n_wrong)} for n_wrong in (n_wrong_of_student, n_wrong_of_teacher)
    )
    made = evaluate(PARAMS, holdout=GOLD, student=says(right_but(ours)), teacher=teacher_on(range(90), {}, theirs))
    assert made.versus_teacher is not None
    assert made.versus_teacher.is_non_inferior is expected


def test_the_student_comes_first_and_the_others_in_a_fixed_order() -> None:
    named = {
        name: says(right_but({}))
        for name in ("majority", "ceiling", "tfidf-linear", "student", "nearest-description", "setfit")
    }
    made = evaluate(PARAMS, holdout=GOLD, **named, teacher=teacher_on([1], {}))
    names = [one.name for one in made.contenders]
    assert names == ["student", "setfit", "tfidf-linear", "nearest-description", "majority", "ceiling", "teacher"]
    assert [one.other for one in made.differences] == names[1:]


def test_confused_pairs_come_with_examples_the_most_frequent_first() -> None:
    made = evaluate(PARAMS, holdout=GOLD, student=says(right_but({0: "play", 3: "play", 1: "weather"})))
    first, second = made.confused_pairs
    assert (first.gold, first.predicted, first.n, first.examples) == ("book", "play", 2, ("text 0", "text 3"))
    assert (second.gold, second.predicted, second.n) == ("play", "weather", 1)
    assert made.confusion == ((28, 2, 0), (0, 29, 1), (0, 0, 30))
    assert made.label_scores[0].recall == pytest.approx(28 / 30, abs=1e-6)
    assert sum(bar.n for bar in made.reliability) == 90


def test_without_a_holdout_the_figures_are_marked_as_an_estimate() -> None:
    synthetic = rows_of([LABELS[n % 3] for n in range(90)], Origin.SYNTHETIC)
    made = evaluate(PARAMS, rows=synthetic, student=says(right_but({})))
    assert made.gold is False
    assert "synthetic rows right, out of fold" in verdict_sentence(made)
    assert "estimate" in verdict_sentence(made)
    assert made.summary.endswith("on 90 synthetic rows")


def test_with_a_holdout_synthetic_rows_are_not_examined() -> None:
    made = evaluate(PARAMS, holdout=GOLD, rows=rows_of(["play"] * 4), student=says(right_but({})))
    assert (made.gold, made.n_rows) == (True, 90)


def test_the_order_of_holdout_rows_changes_no_number() -> None:
    student, teacher = says(right_but({0: "play", 1: "weather"})), teacher_on(range(20), {}, {3: "play"})
    backwards = all_kept(GOLD.kept.select(range(89, -1, -1)))
    made = [evaluate(PARAMS, holdout=rows, student=student, teacher=teacher) for rows in (GOLD, backwards)]
    assert made[0].model_copy(update={"confused_pairs": ()}) == made[1].model_copy(update={"confused_pairs": ()})


@settings(max_examples=25, deadline=None)
@given(answers=st.lists(st.sampled_from(LABELS), min_size=90, max_size=90))
def test_the_confusion_counts_every_row_once(answers: list[str]) -> None:
    made = evaluate(PARAMS.model_copy(update={"n_resamples": 20}), holdout=GOLD, student=says(answers))
    assert sum(map(sum, made.confusion)) == 90
    assert [sum(line) for line in made.confusion] == [score.support for score in made.label_scores]
    assert made.student.accuracy.value == pytest.approx(np.trace(made.confusion) / 90, abs=1e-6)


def test_what_is_missing_is_named() -> None:
    student = says(right_but({}))
    with pytest.raises(FactoryError, match="there are no labelled rows"):
        evaluate(PARAMS, student=student)
    with pytest.raises(FactoryError, match="expected predictions of `student`, got majority"):
        evaluate(PARAMS, holdout=GOLD, majority=student)
    with pytest.raises(FactoryError, match="`majority` did not answer 80 of 90 rows, such as"):
        evaluate(PARAMS, holdout=GOLD, student=student, majority=says(right_but({})[:10]))
    with pytest.raises(FactoryError, match=r"a gold row has None, refund"):
        evaluate(PARAMS, holdout=rows_of(["refund", None]), student=student)
    with pytest.raises(FactoryError, match="expected columns book, play, weather from `student`, got play, book"):
        evaluate(PARAMS, holdout=GOLD, student=replace(student, labels=("play", "book", "weather")))
    with pytest.raises(FactoryError, match="the teacher answered 1 rows that are not examined"):
        evaluate(PARAMS, holdout=rows_of(["play"]), student=student, teacher=teacher_on([0, 1], {}))


def test_an_evaluation_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    rows = all_kept(text_dataset([TextRow("  spaces stay  ", "play", Origin.GOLD)]))
    student = Predictions(LABELS, tuple(rows.kept["id"]), np.array([[0.7, 0.2, 0.1]]))
    made = evaluate(PARAMS, holdout=rows, student=student)
    made.save(tmp_path)
    assert Evaluation.load(tmp_path) == made
    assert made.confused_pairs[0].examples == ("  spaces stay  ",)
    assert json.loads((tmp_path / "evaluation.json").read_text())["gold"] is True


# In words


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (0, 30, "better than the teacher"),
        (5, 5, "not shown to be within 2 points of the teacher: ask about more rows to know"),
        (30, 0, "worse than the teacher by more than 2 points"),
        (4, 3, "not shown to be within 2 points of the teacher"),
        (4, 0, "worse than the teacher, and perhaps by more than 2 points"),
    ],
)
def test_the_sentence_says_what_the_interval_allows(ours: int, theirs: int, expected: str) -> None:
    wrong_of_ours = {n: LABELS[(n + 1) % 3] for n in range(ours)}
    wrong_of_theirs = {n: LABELS[(n + 1) % 3] for n in range(theirs)}
    teacher = teacher_on(range(90), {}, wrong_of_theirs)
    made = evaluate(PARAMS, holdout=GOLD, student=says(right_but(wrong_of_ours)), teacher=teacher)
    assert expected in verdict_sentence(made)


def test_the_sentence_says_when_the_teacher_was_not_asked() -> None:
    made = evaluate(PARAMS, holdout=GOLD, student=says(right_but({0: "play"})))
    assert verdict_sentence(made) == (
        "sentence-linear answers 98.9 (95.6 to 100.0) % of 90 gold rows right (95 % interval). "
        "The teacher was not asked."
    )


def test_the_table_has_a_line_for_each_contender() -> None:
    made = evaluate(
        PARAMS,
        holdout=GOLD,
        student=says(right_but({})),
        majority=says(["play"] * 90),
        teacher=teacher_on(range(9), {}),
    )
    lines = verdict_table(made)
    assert [line.name for line in lines] == ["student (sentence-linear)", "majority", "teacher"]
    assert [line.rows for line in lines] == ["90", "90", "9"]
    assert lines[0].accuracy == "100.0 (100.0 to 100.0)"
    assert lines[0].minus == ""
    assert lines[1].minus.startswith("+66.7 (+")
    assert lines[2].minus == "+0.0 (+0.0 to +0.0)"


@pytest.mark.parametrize("regime", Regime)
def test_every_regime_has_words(regime: Regime) -> None:
    assert regime.words


# Golden


def test_golden_evaluate() -> None:
    made = evaluate(
        PARAMS,
        holdout=GOLD,
        student=says(right_but({0: "play", 3: "play", 1: "weather"})),
        majority=says(["book"] * 90, top=0.34),
        teacher=teacher_on(range(0, 30), {4: "abstain-unparseable"}, {3: "play"}),
    )
    check_golden(EVALUATE, made.model_dump(mode="json"))


def test_golden_sample() -> None:
    check_golden(SAMPLE, in_words(sample(SampleParams(n=10), rows=GOLD)))


def test_golden_majority() -> None:
    made = predict_majority(MajorityParams(labels=LABELS), rows=ASKED, train=rows_of(["play", "book", "play"]))
    check_golden(MAJORITY, {"ids": made.ids, "probs": made.probs.round(6).tolist()})


def test_golden_nearest_description() -> None:
    made = predict_nearest(DESCRIBED, rows=ASKED, encoder=Compass())
    check_golden(NEAREST_DESCRIPTION, {"ids": made.ids, "probs": made.probs.round(6).tolist()})
