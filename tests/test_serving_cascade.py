"""Answering in tiers: who answers what, what happens when the teacher does not, and which files are refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ArtifactCorrupt, ArtifactMissing, FactoryError
from factory.evaluation.cascade import choose_thresholds
from factory.release.cascade_file import CASCADE_FILE, CascadeFile, describe, read_cascade
from factory.release.predict import Answer
from factory.serving.cascade import Cascade, Tier, Verified, open_cascade
from factory.spec import CascadeSpec
from tests.released import exported
from tests.test_cascade import draw
from tests.test_self_verification import verifying


def say(label: str, probability: float) -> Answer:
    known = {**dict.fromkeys(("small", "large", "teacher", "a", "b", "c"), 0.0), label: probability}
    return {"label": label, "probability": probability, "probabilities": known}


class Told:
    """A model that is as sure as the text says: `0.8` is answered with 0.8."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[list[str]] = []

    def predict(self, texts: Sequence[str]) -> list[Answer]:
        self.heard.append(list(texts))
        return [say(self.name, float(text)) for text in texts]


def teach(texts: Sequence[str]) -> list[Answer | None]:
    return [None if text == "0.13" else say("teacher", 1.0) for text in texts]


def test_the_first_tier_that_is_sure_enough_answers_and_later_ones_see_only_the_rest() -> None:
    small, large = Told("small"), Told("large")
    cascade = Cascade(
        [Tier("small", 0.9, small), Tier("large", 0.5, large), Tier("teacher", None, None)], fallback=teach
    )
    answers = cascade.predict(["0.9", "0.6", "0.3", "0.95"])
    assert [answer["tier"] for answer in answers] == ["small", "large", "teacher", "small"]
    assert [answer["label"] for answer in answers] == ["small", "large", "teacher", "small"]
    assert (small.heard, large.heard) == ([["0.9", "0.6", "0.3", "0.95"]], [["0.6", "0.3"]])
    assert not any(answer["unanswered"] for answer in answers)


def test_nobody_is_asked_about_nothing() -> None:
    large = Told("large")
    assert Cascade([Tier("small", 0.1, Told("small")), Tier("large", None, large)]).predict([]) == []
    Cascade([Tier("small", 0.1, Told("small")), Tier("large", None, large)]).predict(["0.5"])
    assert large.heard == []


def test_where_the_teacher_gives_no_answer_the_tier_before_it_does_and_says_so() -> None:
    cascade = Cascade([Tier("small", 0.9, Told("small")), Tier("teacher", None, None)], fallback=teach)
    unsure, fine = cascade.predict(["0.13", "0.2"])
    assert (unsure["label"], unsure["probability"], unsure["tier"], unsure["unanswered"]) == (
        "small",
        0.13,
        "small",
        True,
    )
    assert (fine["tier"], fine["unanswered"]) == ("teacher", False)


def test_a_teacher_without_a_student_before_it_must_answer() -> None:
    with pytest.raises(FactoryError, match="text 2: the teacher gave no answer"):
        Cascade([Tier("teacher", None, None)], fallback=teach).predict(["0.5", "0.13"])


def test_a_cascade_that_needs_the_teacher_is_refused_without_one() -> None:
    with pytest.raises(FactoryError, match="nobody was named to ask"):
        Cascade([Tier("small", 0.9, Told("small")), Tier("teacher", None, None)])


def test_a_fallback_that_answers_too_few_texts_is_an_error() -> None:
    cascade = Cascade([Tier("small", 0.9, Told("small")), Tier("teacher", None, None)], fallback=lambda texts: [])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        cascade.predict(["0.1"])


def test_a_probability_that_is_no_number_is_never_sure_enough() -> None:
    answers = Cascade([Tier("small", 0.0, Told("small")), Tier("teacher", None, None)], fallback=teach).predict(["nan"])
    assert answers[0]["tier"] == "teacher"


@given(st.lists(st.floats(0, 1).map(str)), st.floats(0, 1), st.floats(0, 1))
def test_every_text_gets_the_answer_of_its_own_tier(texts: list[str], first: float, second: float) -> None:
    tiers = [Tier("a", first, Told("a")), Tier("b", second, Told("b")), Tier("c", None, Told("c"))]
    for text, answer in zip(texts, Cascade(tiers).predict(texts), strict=True):
        probability = float(text)
        assert answer["tier"] == ("a" if probability >= first else "b" if probability >= second else "c")


def test_a_teacher_that_is_not_sure_of_its_own_answer_abstains_and_keeps_what_it_said() -> None:
    tiers = [Tier("small", 0.9, Told("small")), Tier("teacher", 0.6, None)]

    def verified(texts: Sequence[str]) -> list[Answer | None]:
        sure = {"0.1": 0.7, "0.2": 0.59, "0.3": 0.0}
        return [None if text == "0.4" else Verified(**say("teacher", 1.0), confidence=sure[text]) for text in texts]

    answers = Cascade(tiers, fallback=verified).predict(["0.95", "0.1", "0.2", "0.3", "0.4"])
    assert [answer["tier"] for answer in answers] == ["small", "teacher", "teacher", "teacher", "small"]
    assert [answer.get("abstained") for answer in answers] == [None, None, True, True, None]
    assert [answer.get("confidence") for answer in answers] == [None, 0.7, 0.59, 0.0, None]
    assert [answer["unanswered"] for answer in answers] == [False, False, False, False, True]


@pytest.mark.parametrize("confidence", [{}, {"confidence": None}, {"confidence": "0.9"}])
def test_an_answer_that_nobody_verified_is_refused_where_the_threshold_is_one_of_verified_answers(
    confidence: dict[str, Any],
) -> None:
    tiers = [Tier("small", 0.9, Told("small")), Tier("teacher", 0.6, None)]
    with pytest.raises(FactoryError, match="chosen for verified answers"):
        Cascade(tiers, fallback=lambda texts: [{**say("teacher", 1.0), **confidence}]).predict(["0.1"])  # type: ignore[list-item]  # on purpose


def test_a_label_that_the_students_lack_is_an_error_and_no_answer() -> None:
    tiers = [Tier("small", 0.9, Told("small")), Tier("teacher", None, None)]
    with pytest.raises(FactoryError, match="teacher answered 'renamed', and the release knows small, large"):
        Cascade(tiers, fallback=lambda texts: [say("renamed", 1.0) for _ in texts]).predict(["0.2"])


# The file


TIERS: list[dict[str, Any]] = [
    {"name": "static-embedding", "threshold": 0.97, "is_released": False},
    {"name": "blend", "threshold": 0.8, "is_released": True},
    {"name": "teacher", "threshold": None, "is_released": False},
]
FILE: dict[str, Any] = {
    "format_version": 1,
    "tiers": TIERS,
    "promise": "With confidence 90 %, ...",
    "is_certified": True,
    "delta": 0.1,
    "truth": "gold",
    "n_rows": 900,
    "teacher": "embedded:x",
}


def write(folder: Path, content: object) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / CASCADE_FILE).write_text(text, encoding="utf-8")
    return folder


def test_the_file_that_is_written_today_can_be_read_for_ever(tmp_path: Path) -> None:
    described = read_cascade(write(tmp_path, FILE))
    assert [tier.folder for tier in described.tiers] == ["tiers/static-embedding", ".", None]
    assert described.verification is None
    assert json.loads(described.to_json()) == FILE
    assert described.calls_teacher


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 3}, "format_version: Input should be 1 or 2"),
        ({"format_version": 2}, "format_version: expected 1, for that is what"),
        ({"tiers": []}, "tiers: .*at least 1"),
        ({"tiers": TIERS[:2]}, "every tier but the last has a threshold, and the last has none"),
        ({"tiers": [TIERS[2], TIERS[1]]}, "every tier but the last has a threshold"),
        ({"verification": {"slope": 1.0, "intercept": 0.0}}, "the last has none unless it is verified"),
        ({"tiers": [TIERS[0], {**TIERS[2], "threshold": 0.5}]}, "the last has none unless it is verified"),
        (
            {"tiers": TIERS[:2], "verification": {"slope": 1.0, "intercept": 0.0}},
            "nobody verifies answers but the teacher",
        ),
        ({"verification": {"slope": "NaN", "intercept": 0.0}}, "verification.slope"),
        ({"tiers": TIERS[2:]}, "the teacher needs a student before it"),
        ({"tiers": [{**TIERS[0], "name": "../../etc"}, TIERS[2]]}, "'../../etc' is no name of a student"),
        ({"tiers": [{**TIERS[0], "name": "/etc"}, TIERS[2]]}, "is no name of a student"),
        ({"tiers": [TIERS[0], TIERS[0], TIERS[2]]}, "a tier is named twice"),
        ({"tiers": [{**TIERS[0], "threshold": -0.1}, TIERS[2]]}, "tiers.0.threshold"),
        ({"tiers": [{**TIERS[0], "threshold": "0.9x"}, TIERS[2]]}, "tiers.0.threshold"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_an_odd_file_is_refused_with_the_key_that_is_wrong(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactCorrupt, match=rf"cascade\.json: .*{message}"):
        read_cascade(write(tmp_path, {**FILE, **change}))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"tiers": NaN}', "\x00"])
def test_what_is_no_json_object_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupt, match=r"cascade\.json"):
        read_cascade(write(tmp_path, content))


def test_a_release_without_a_cascade_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match="this release has no cascade"):
        read_cascade(tmp_path)


def test_a_choice_becomes_a_file_in_which_a_student_stands_in_for_the_teacher() -> None:
    goal = CascadeSpec(tiers=("static", "blend", "teacher"))
    described = describe(choose_thresholds(draw(60, seed=3), goal), released="blend", teacher="embedded:x")
    assert not described.is_certified
    assert [(tier.name, tier.threshold) for tier in described.tiers] == [("blend", 2.0), ("teacher", None)]
    assert described.teacher == "embedded:x"
    certain = choose_thresholds(draw(6000, seed=3), CascadeSpec(tiers=("static", "blend", "teacher"), within=0.02))
    names = [tier.name for tier in describe(certain, released="blend", teacher="embedded:x").tiers]
    assert names == [tier.name for tier in certain.rule]


def test_a_choice_with_self_verification_becomes_a_file_that_says_how_to_be_as_sure() -> None:
    goal = CascadeSpec(tiers=("blend", "teacher"), accuracy=0.97, self_verification=True)
    choice = choose_thresholds(verifying(3_000, seed=1), goal)
    described = describe(choice, released="blend", teacher="embedded:x")
    assert described.tiers[-1].name == "teacher"
    assert described.tiers[-1].threshold == choice.rule[-1].threshold is not None
    assert described.verification == choice.verification is not None
    assert CascadeFile.model_validate_json(described.model_dump_json()) == described
    modest = choose_thresholds(verifying(3_000, seed=1), goal.model_copy(update={"accuracy": 0.5}))
    assert describe(modest, released="blend", teacher="embedded:x").verification is None


def test_a_release_opens_its_tiers(tmp_path: Path) -> None:
    exported().save(tmp_path)
    tier = tmp_path / "tiers" / "static-embedding"
    tier.mkdir(parents=True)
    exported().save(tier)
    opened = open_cascade(tmp_path, CascadeFile.model_validate(FILE), fallback=teach)
    assert {answer["tier"] for answer in opened.predict(["play some jazz", "will it rain"])} <= {
        "static-embedding",
        "blend",
        "teacher",
    }
    (tier / "config.json").unlink()
    with pytest.raises(ArtifactCorrupt, match=r"config\.json"):
        open_cascade(tmp_path, CascadeFile.model_validate(FILE), fallback=teach)
