"""Varying real rows: every entry of `AUGMENTERS` takes the same tests. Demonstrations, and how real texts look."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from factory.records import Origin, Rows, TextRow, all_kept, row_id, text_dataset
from factory.spec import Budget, Label
from factory.store import key_of
from factory.synthesis.attributes import ATTRIBUTES
from factory.synthesis.augment import Augmenter, AugmentParams
from factory.synthesis.augmenters import AUGMENTERS, near_labels
from factory.synthesis.demonstrations import reciprocal_ranks, retrieve
from factory.synthesis.likeness import Likeness
from factory.synthesis.strategy import WriteParams
from factory.synthesis.style import Style, style_of
from factory.teacher.budget import Spending
from factory.teacher.protocol import Abstain, Reply, Request
from factory.teacher.scripted import ScriptedTeacher
from tests.golden_file import check_golden
from tests.test_curation import Trigrams

LABELS = (Label(name="music", description="play a song"), Label(name="weather"), Label(name="table"))
TEXTS = {
    "music": ["Play some jazz", "Put on Adele", "I want a ballad"],
    "weather": ["Will it rain in Oslo", "How cold is it"],
    "table": [],
}
HOSTILE = "{{ 7*7 }} {% raw %} {# no #} <b>&amp;</b> ${HOME} %s {0} “"
ENCODER = Trigrams()
EACH = pytest.mark.parametrize("augmenter", AUGMENTERS.values(), ids=AUGMENTERS.keys())
OF_ONE_ROW = pytest.mark.parametrize(
    "augmenter", [one for name, one in AUGMENTERS.items() if name != "more-like-these"]
)


def gold(texts: dict[str, list[str]] = TEXTS) -> Rows:
    rows = [TextRow(text, label, Origin.GOLD) for label, found in texts.items() for text in found]
    return all_kept(text_dataset(rows))


ROWS = gold()


def asking(augmenter: Augmenter, **changes: Any) -> AugmentParams:
    given = {"description": "What people say.", "labels": LABELS, "per_label": 6, "seed": 0}
    return AugmentParams(**{**given, "options": augmenter.options(), **changes})


def run(
    augmenter: Augmenter, params: AugmentParams, script: Any = None, rows: Rows = ROWS
) -> tuple[Rows, list[Request]]:
    teacher = ScriptedTeacher(script or (lambda request: f"Text {request.sample}\nother {request.sample}"))
    return augmenter.stage.run(params, rows=rows, teacher=teacher, encoder=ENCODER), teacher.history


@EACH
def test_rows_name_the_rows_they_were_made_from_and_the_reply(augmenter: Augmenter) -> None:
    rows, _ = run(augmenter, asking(augmenter))
    assert len(rows.kept) >= 4
    label_of = dict(zip(ROWS.kept["id"], ROWS.kept["label"], strict=True))
    for row in rows.kept:
        assert (row["origin"], row["strategy"], row["teacher"]) == ("augmented", augmenter.stage.name, "scripted")
        assert {label_of[parent] for parent in row["parents"]} <= {"music", "weather"}
        shown_label = label_of[row["parents"][0]]
        is_other = augmenter.stage.name == "counterfactual"
        assert (row["label"] != shown_label) == is_other


@EACH
def test_as_many_texts_are_asked_for_as_are_wanted_and_none_of_a_label_without_rows(augmenter: Augmenter) -> None:
    _, asked = run(augmenter, asking(augmenter, per_label=24))
    per_call = asking(augmenter).options.texts_per_call  # type: ignore[attr-defined]
    assert len(asked) == 2 * 24 / per_call
    _, asked = run(augmenter, asking(augmenter, per_label=None, per_row=8))
    assert len(asked) == (3 * 8 + 2 * 8) / per_call


@EACH
def test_all_messages_but_the_last_are_the_same_and_the_first_has_the_task(augmenter: Augmenter) -> None:
    _, asked = run(augmenter, asking(augmenter))
    assert len({one.messages[:-1] for one in asked}) == 1
    assert len({(one.messages, one.sample) for one in asked}) == len(asked)
    system = asked[0].messages[0]
    assert system.role == "system"
    assert "What people say." in system.content
    assert "- music: play a song" in system.content


@EACH
def test_equal_params_give_equal_requests_and_another_seed_others(augmenter: Augmenter) -> None:
    first, again, other = (run(augmenter, asking(augmenter, seed=seed))[1] for seed in (0, 0, 1))
    assert first == again
    assert not [one for one in other if one in first]


@OF_ONE_ROW
def test_each_row_has_its_turn_before_one_has_a_second(augmenter: Augmenter) -> None:
    per_call = asking(augmenter).options.texts_per_call  # type: ignore[attr-defined]
    rows, _ = run(augmenter, asking(augmenter, per_label=6 * per_call))
    turns: Counter[str] = Counter(row["parents"][0] for row in rows.kept)
    by_label = {label: {turns[row_id(text)] for text in texts} for label, texts in TEXTS.items()}
    assert [len(found) for found in by_label.values()] == [1, 1, 0]


def test_rows_shown_together_are_drawn_anew_for_each_prompt_and_all_are_parents() -> None:
    augmenter = AUGMENTERS["more-like-these"]
    texts = [f"Song number {number}" for number in range(20)]
    params = asking(augmenter, per_label=80)
    rows, asked = run(augmenter, params, rows=gold({"music": texts}))
    families = {tuple(row["parents"]) for row in rows.kept}
    assert {len(family) for family in families} == {5}
    assert len(families) == len(asked) == 10
    said = asked[0].messages[-1].content
    assert "Texts with the label music (play a song):\n- Song number " in said
    assert "Write 8 more" in said


@EACH
def test_copies_of_what_was_shown_are_rejected_whatever_their_case_and_marks(augmenter: Augmenter) -> None:
    def script(request: Request) -> str:
        shown = next(text for texts in TEXTS.values() for text in texts if text in request.messages[-1].content)
        return f"{'first line' if augmenter.stage.name == 'back-translation' else 'new'}\n{shown.upper()}!"

    rows, asked = run(augmenter, asking(augmenter), script)
    assert rows.report["rejected_by_reason"] == {"copy": len(asked)}
    assert "new" in rows.kept["text"][:] or augmenter.stage.name == "back-translation"


@EACH
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "abstain-empty"),
        ("```\n```", "abstain-no-text"),
        ("I'm sorry, I cannot help with that.", "abstain-refusal"),
        ("I cannot produce texts like that.\nAs an AI, I stop.", "abstain-refusal"),
        ("\ud83d", "abstain-no-text"),
        (Reply("a text without end", "length", 1, 1), "abstain-no-text"),
        (Abstain("content-filter", "no"), "abstain-content-filter"),
        ("Here you are:\n" + "x" * 5000 + "\n" + "y" * 5000, "too-long"),
    ],
)
def test_a_hostile_reply_is_a_rejection_and_never_a_row(augmenter: Augmenter, reply: Any, reason: str) -> None:
    rows, _ = run(augmenter, asking(augmenter), lambda request: reply)
    assert (len(rows.kept), rows.is_complete) == (0, True)
    assert set(rows.report["rejected_by_reason"]) == {reason}
    assert len(rows.rejected) >= 2
    assert all(row["parents"] for row in rows.rejected)


@EACH
def test_hostile_words_reach_the_teacher_as_they_are(augmenter: Augmenter) -> None:
    texts = {"music": [f"Play {HOSTILE}"], "weather": ["One\ntwo"], "table": []}
    params = asking(augmenter, description=f"A {HOSTILE} z", per_label=2)
    _, asked = run(augmenter, params, rows=gold(texts))
    said = "".join(message.content for one in asked for message in one.messages)
    assert f"A {HOSTILE} z" in said
    assert f"Play {HOSTILE}" in said
    assert "One two" in said  # a line of its own, whatever the row looks like
    assert "49" not in said


@EACH
def test_a_budget_that_ends_loses_no_row_and_leaves_the_result_incomplete(augmenter: Augmenter) -> None:
    teacher = ScriptedTeacher(lambda request: f"one {request.sample}\ntwo", spending=Spending(Budget(calls=1)))
    rows = augmenter.stage.run(asking(augmenter), rows=ROWS, teacher=teacher, encoder=ENCODER)
    assert (rows.is_complete, rows.report["stopped"], len(rows.rejected)) == (False, "budget", 0)
    assert len(rows.kept) in (1, 2)


@EACH
def test_unknown_and_impossible_options_are_refused_and_known_ones_enter_the_fingerprint(augmenter: Augmenter) -> None:
    with pytest.raises(ValidationError, match=r"texts_a_call\s+Extra inputs are not permitted"):
        augmenter.options.model_validate({"texts_a_call": 4})
    with pytest.raises(ValidationError, match=r"texts_per_call\s+Input should be greater than or equal to 1"):
        augmenter.options.model_validate({"texts_per_call": 0})
    keys = {
        key_of(augmenter.stage, asking(augmenter, options=augmenter.options(top_p=top_p))).fingerprint
        for top_p in (0.8, 0.9)
    }
    assert len(keys) == 2


def test_texts_a_label_or_texts_a_row_and_never_both() -> None:
    augmenter = AUGMENTERS["paraphrase"]
    for wrong in ({"per_row": 2}, {"per_label": None}):
        with pytest.raises(ValidationError, match="expected one of per_label and per_row"):
            asking(augmenter, **wrong)


@EACH
def test_the_forecast_counts_the_calls_that_are_made(augmenter: Augmenter) -> None:
    texts = {label.name: [f"{label.name} {number}" for number in range(3)] for label in LABELS}
    for amount in ({"per_label": 20}, {"per_label": None, "per_row": 3}):
        params = asking(augmenter, **amount)
        _, asked = run(augmenter, params, rows=gold(texts))
        cost = augmenter.forecast(params, 9)
        assert cost.calls == len(asked)
        assert min(cost.prompt_tokens, cost.completion_tokens, cost.new_prompt_tokens) > 0


@EACH
def test_no_rows_ask_nothing(augmenter: Augmenter) -> None:
    rows, asked = run(augmenter, asking(augmenter), rows=gold({}))
    assert (len(rows.kept), len(rows.rejected), asked) == (0, 0, [])
    assert augmenter.forecast(asking(augmenter), 0).calls == 0


@EACH
def test_the_stage_does_what_is_pinned(augmenter: Augmenter) -> None:
    replies = iter(range(1000))
    rows, asked = run(
        augmenter, asking(augmenter, per_label=4), lambda request: f"Said {next(replies)}\nno. {next(replies)}"
    )
    prompts = [[[message.role, message.content] for message in one.messages] for one in asked[:1]]
    settings = [[one.max_tokens, one.sampling_temperature, one.top_p, one.sample] for one in asked]
    last = [one.messages[-1].content for one in asked]
    made = [[row["text"], row["label"], row["parents"]] for row in rows.kept]
    check_golden(augmenter.stage, {"first": prompts, "last": last, "settings": settings, "made": made})


def test_the_way_through_another_language_ends_in_one_text() -> None:
    augmenter = AUGMENTERS["back-translation"]
    rows, asked = run(augmenter, asking(augmenter))
    assert len(rows.kept) == len(asked)
    assert all(text.startswith("other ") for text in rows.kept["text"])


@pytest.mark.parametrize("reply", ["only one line", "one\ntwo\nthree"])
def test_a_retelling_that_is_not_the_second_of_two_lines_is_no_text(reply: str) -> None:
    augmenter = AUGMENTERS["back-translation"]
    rows, _ = run(augmenter, asking(augmenter), lambda _: reply)
    assert set(rows.report["rejected_by_reason"]) == {"abstain-no-text"}


def test_a_counterfactual_gets_the_nearest_other_label() -> None:
    labels = tuple(Label(name=name) for name in ("play_music", "play_musik", "weather", "weathers"))
    near = near_labels(labels, 1, ENCODER)
    assert {name: [one.name for one in others] for name, others in near.items()} == {
        "play_music": ["play_musik"],
        "play_musik": ["play_music"],
        "weather": ["weathers"],
        "weathers": ["weather"],
    }
    assert [len(others) for others in near_labels(labels, 9, ENCODER).values()] == [3] * 4
    assert all(label not in near_labels(labels, 9, None)[label.name] for label in labels)


# How real texts look


def test_style_is_counted_and_said_in_one_sentence() -> None:
    style = style_of([f"play {'x ' * n}" for n in range(1, 11)])
    assert style == Style(n_texts=10, lower_ratio=1.0, marked_ratio=0.0, words=(3, 6, 10))
    assert style.hints == (
        "Real texts are all in lower case, without a mark at the end, 3 to 10 words long, half of them under 7."
    )
    shown = style_of(["Where is it?"] * 10)
    assert shown is not None
    assert shown.hints == "Real texts are with a mark at the end, 3 words long."
    assert style_of(["play"] * 7) is None


@given(st.lists(st.text(), min_size=8, max_size=12), st.text())
def test_any_texts_have_a_style_and_casing_changes_nothing_else(texts: list[str], text: str) -> None:
    style = style_of(texts)
    assert style is not None
    assert "\n" not in style.hints
    assert style.in_casing(text) in (text, text.lower())


@EACH
def test_where_all_real_texts_are_lower_case_so_are_varied_ones(augmenter: Augmenter) -> None:
    lower = gold({"music": [f"song {number}" for number in range(8)]})
    script = lambda request: f"Text {request.sample}\nOther {request.sample}"  # noqa: E731
    rows, _ = run(augmenter, asking(augmenter), script, rows=lower)
    assert all(text == text.lower() for text in rows.kept["text"])
    assert all(row["id"] == row_id(row["text"]) for row in rows.kept)
    assert rows.report["style"]["n_recased"] == len(rows.kept) > 0
    upper = gold({"music": [f"Song {number}" for number in range(8)]})
    rows, _ = run(augmenter, asking(augmenter), script, rows=upper)
    assert rows.report["style"]["n_recased"] == 0


# Demonstrations


class Bags:
    """An encoder of letters."""

    identity = "bags"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.array([[1e-3 + text.count(chr(97 + n)) for n in range(26)] for text in texts], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_what_is_shown_is_relevant_and_unlike_each_other() -> None:
    texts = ["play jazz", "play jazz now", "play jazz please", "jazz radio on", "will it rain", "book a table"]
    (found,) = retrieve(["play jazz"], texts, 2, encoder=Bags())
    assert found[0] == 0
    assert found[1] not in (1, 2)


def test_words_are_found_even_where_meaning_is_not() -> None:
    class Blind:
        identity = "blind"

        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.ones((len(texts), 1), dtype=np.float32)

    texts = ["a b", "c d", "the Lisbon flight", "e f"]
    assert retrieve(["to LISBON", "..."], texts, 1, encoder=Blind()) == [[2], [0]]


@pytest.mark.parametrize("texts", [[], ["   "], ["one"], ["same", "same", "same"], ["?", "!", "..."]])
def test_few_or_odd_texts_are_shown_as_far_as_they_go(texts: list[str]) -> None:
    for found in retrieve(["one", ""], texts, 4, encoder=Bags()):
        assert sorted(found) == list(range(len(texts)))
    assert retrieve([], texts, 4, encoder=Bags()) == []


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_reciprocal_ranks_follow_the_scores(scores: list[int]) -> None:
    (fused,) = reciprocal_ranks(np.array([scores], dtype=np.float64))
    assert fused.max() == pytest.approx(1 / 61)
    for one, score in zip(fused, scores, strict=True):
        assert one == pytest.approx(1 / (61 + sum(other > score for other in scores)))


def writing(**options: Any) -> WriteParams:
    given = {"description": "What people say.", "labels": LABELS, "wanted": (8, 8, 8), "round": 1, "seed": 0}
    return WriteParams(**given, options=ATTRIBUTES.options(texts_per_call=4, **options))


def test_attributes_show_real_rows_of_the_label_and_say_how_real_texts_look() -> None:
    songs = [f"play song {number} by adele" for number in range(9)]
    real = gold({"music": songs, "weather": ["is it windy"], "table": []})
    teacher = ScriptedTeacher(lambda request: f"A Text {request.sample}\n{songs[0].upper()}")
    rows = ATTRIBUTES.stage.run(writing(), teacher=teacher, real=real, encoder=ENCODER)
    said = [one.messages[-1].content for one in teacher.history if "Style:" in one.messages[-1].content]
    assert len(said) == 6
    for message, n_shown in zip(said, (4, 4, 1, 1, 0, 0), strict=True):
        assert message.count("\n- play song") == (4 if n_shown == 4 else 0)
        assert ("Write as these people do" in message) == (n_shown > 0)
        assert "Real texts are all in lower case, without a mark at the end" in message
    texts = set(rows.kept["text"])
    assert all(text == text.lower() for text in texts)
    assert rows.report["style"]["n_recased"] > 0
    assert set(rows.kept["origin"]) == {"synthetic"}
    by_label = {row["label"]: len(row["parents"]) for row in rows.kept}
    assert by_label == {"music": 4, "weather": 1, "table": 0}
    if songs[0] in texts:
        copied = [row for row in rows.kept if row["text"] == songs[0]]
        assert all(row_id(songs[0]) not in row["parents"] for row in copied)


@pytest.mark.parametrize("real", [None, gold({"music": ["play song"] * 9})], ids=["no rows", "switched off"])
def test_without_demonstrations_the_prompts_are_those_of_old(real: Rows | None) -> None:
    plain, with_option = ScriptedTeacher(lambda _: "a thing"), ScriptedTeacher(lambda _: "a thing")
    ATTRIBUTES.stage.run(writing(), teacher=plain)
    options = {} if real is None else {"demonstrations": 0}
    ATTRIBUTES.stage.run(writing(**options), teacher=with_option, real=real, encoder=ENCODER)
    assert plain.history == with_option.history


def test_rows_without_a_label_tell_how_texts_look_and_are_not_shown() -> None:
    pool = all_kept(text_dataset([TextRow(f"pool text {n}", None, Origin.SILVER) for n in range(9)]))
    likeness = Likeness(pool.kept, ENCODER, seed=0)
    assert likeness.near("music", ["a song", "another"], 4) == [(), ()]
    assert likeness.hints.startswith("Real texts are all in lower case")


def test_a_large_label_is_searched_in_part_the_same_each_time() -> None:
    rows = gold({"music": [f"play song {number}" for number in range(700)]})
    found = [Likeness(rows.kept, ENCODER, seed=1).near("music", ["play song 650"], 4) for _ in range(2)]
    assert found[0] == found[1]
    assert len(found[0][0]) == 4


def test_hostile_real_rows_reach_the_teacher_as_they_are() -> None:
    teacher = ScriptedTeacher(lambda _: "a thing")
    ATTRIBUTES.stage.run(writing(), teacher=teacher, real=gold({"music": [HOSTILE] * 9}), encoder=ENCODER)
    assert f"- {HOSTILE}\n" in teacher.history[-5].messages[-1].content
    assert "49" not in json.dumps([one.messages[-1].content for one in teacher.history])
