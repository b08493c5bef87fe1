"""Strategies: every entry of `STRATEGIES` takes the same tests. What becomes of replies, good and bad."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.events import Event, Progressed, listening
from factory.prompts import render
from factory.records import Origin, Predictions, Rows, TextRow, all_kept, row_id, text_dataset
from factory.spec import Budget, Label
from factory.store import key_of
from factory.synthesis import STRATEGIES
from factory.synthesis.attributes import ATTRIBUTES
from factory.synthesis.contrastive import CONTRASTIVE, Contrast, read_contrast
from factory.synthesis.focus import FOCUS, FocusParams, spread
from factory.synthesis.genre import GENRE_FILES, GenreName, genre_of
from factory.synthesis.labels import LABELS
from factory.synthesis.strategy import MAX_CHARS, Asked, Strategy, WriteParams, write_all
from factory.synthesis.things import things_of
from factory.teacher import Teacher
from factory.teacher.budget import Spending
from factory.teacher.protocol import Abstain, Message, Reply, Request
from factory.teacher.replies import Replies
from factory.teacher.scripted import ScriptedTeacher
from tests.golden_file import check_golden, in_words
from tests.test_curation import Angles, Trigrams

SPEECH = (Label(name="music", description="play a song"), Label(name="weather"), Label(name="table"))
UTTERANCE = genre_of("utterance")
ENCODER = Trigrams()
EACH = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
HOSTILE = "{{ 7*7 }} {% raw %}\n{# no #}\x07 <b>&amp;</b> ${HOME} %s {0} \u202e“"


def asking(strategy: Strategy, **changes: Any) -> WriteParams:
    options = strategy.options(texts_per_call=4)
    given = {"description": "What people say.", "labels": SPEECH, "wanted": (8, 8, 8), "round": 1, "seed": 0}
    return WriteParams(**{**given, "options": options, **changes})


def answer(request: Request) -> str:
    """Say what no other request is answered."""
    return f"a text number {abs(hash(request.messages)) + request.sample}"


def write(strategy: Strategy, params: WriteParams, *, teacher: Teacher, **more: Rows) -> Rows:
    needs = strategy.needs_encoder(params.options)
    return strategy.stage.run(params, teacher=teacher, **({"encoder": ENCODER} if needs else {}), **more)


def run(strategy: Strategy, params: WriteParams) -> tuple[Rows, list[Request]]:
    teacher = ScriptedTeacher(answer)
    return write(strategy, params, teacher=teacher), teacher.history


def requests(strategy: Strategy, **changes: Any) -> list[Request]:
    return run(strategy, asking(strategy, **changes))[1]


@EACH
def test_texts_are_written_for_each_wanted_label_and_only_those(strategy: Strategy) -> None:
    rows, asked = run(strategy, asking(strategy, wanted=(8, 0, 5)))
    assert Counter(rows.kept["label"][:]) == {"music": 2, "table": 2}  # the script gives one text a call
    for_all = requests(strategy, wanted=(8, 8, 5))
    assert [one for one in asked if one not in for_all] == []
    assert len(asked) * 3 == len(for_all) * 2


@EACH
def test_nothing_wanted_asks_nothing(strategy: Strategy) -> None:
    rows, asked = run(strategy, asking(strategy, wanted=(0, 0, 0)))
    assert (len(rows.kept), len(rows.rejected), asked, rows.is_complete) == (0, 0, [], True)
    assert strategy.forecast(asking(strategy, wanted=(0, 0, 0))).calls == 0


@EACH
def test_rows_say_where_they_came_from(strategy: Strategy) -> None:
    rows, _ = run(strategy, asking(strategy))
    made = {(row["origin"], row["strategy"], row["teacher"], row["weight"]) for row in rows.kept}
    assert made == {(Origin.SYNTHETIC, strategy.stage.name, "scripted", 1.0)}
    assert all(row["label_probs"] is None and row["parents"] == [] for row in rows.kept)


@EACH
def test_each_row_and_each_rejection_names_the_reply_it_is_from(strategy: Strategy, tmp_path: Path) -> None:
    store = Replies(tmp_path / "replies.log")
    answers = iter([*["a thing"] * (strategy.forecast(asking(strategy)).calls - 6), "one\ntwo", "", "three"])
    teacher = ScriptedTeacher(lambda request: next(answers, "four"), replies=store)
    rows = write(strategy, asking(strategy), teacher=teacher)
    named = [row["replies"] for part in (rows.kept, rows.rejected) for row in part]
    assert named[0] == named[1] != named[2]
    behind = {key for keys in [*named, *rows.report.get("replies", {}).values()] for key in keys}
    assert behind == {one.key for one in store.exchanges()}
    found = store.find(named[0][0])
    assert found is not None
    assert found.reply["choices"][0]["message"]["content"] == "one\ntwo"
    teacher.close()


@EACH
def test_equal_params_give_equal_requests(strategy: Strategy) -> None:
    assert requests(strategy) == requests(strategy)


@EACH
def test_all_requests_of_a_round_differ(strategy: Strategy) -> None:
    asked = [json.dumps([str(one.messages), one.sample]) for one in requests(strategy, wanted=(40, 40, 40))]
    assert len(set(asked)) == len(asked)


@EACH
def test_another_round_reuses_no_text_of_the_first(strategy: Strategy, tmp_path: Path) -> None:
    replies = Replies(tmp_path / "replies.log")
    texts: list[set[str]] = []
    for round_ in (1, 2):
        teacher = ScriptedTeacher(answer, replies=replies)
        rows = write(strategy, asking(strategy, round=round_), teacher=teacher)
        texts.append(set(rows.kept["text"][:]))
        assert len(teacher.history) >= 6
        teacher.close()
    assert [len(found) for found in texts] == [6, 6]
    assert not texts[0] & texts[1]


@EACH
def test_the_same_round_again_asks_nothing_again(strategy: Strategy, tmp_path: Path) -> None:
    replies = Replies(tmp_path / "replies.log")
    first, second = (ScriptedTeacher(answer, replies=replies) for _ in range(2))
    made = [write(strategy, asking(strategy), teacher=teacher).kept.to_list() for teacher in (first, second)]
    assert made[0] == made[1]
    assert (len(first.history) >= 6, second.history) == (True, [])
    second.close()


@EACH
@pytest.mark.parametrize("seeds", [(0, 1), (1, 2), (0, 2**32 - 1)])
def test_another_seed_asks_other_requests(strategy: Strategy, seeds: tuple[int, int]) -> None:
    first, second = (requests(strategy, seed=seed) for seed in seeds)
    assert not [one for one in first if one in second]


@EACH
def test_more_wanted_of_one_label_adds_requests_and_changes_none(strategy: Strategy) -> None:
    before = requests(strategy, wanted=(8, 8, 8))
    rows, after = run(strategy, asking(strategy, wanted=(8, 20, 8)))
    assert [one for one in before if one not in after] == []
    assert len(after) == len(before) + 3
    assert Counter(rows.kept["label"][:]) == {"music": 2, "weather": 5, "table": 2}


@EACH
def test_the_description_of_one_label_changes_others_where_it_is_quoted_only(strategy: Strategy) -> None:
    def script(request: Request) -> str:
        return "a text"

    def asked(description: str) -> list[Request]:
        labels = (SPEECH[0], Label(name="weather", description=description), SPEECH[2])
        teacher = ScriptedTeacher(script)
        write(strategy, asking(strategy, labels=labels), teacher=teacher)
        return teacher.history

    before, after = asked("rain or shine"), asked("ask about clouds")
    assert before != after
    assert [
        (one.sample, one.max_tokens, *(m.content.replace("rain or shine", "ask about clouds") for m in one.messages))
        for one in before
    ] == [(one.sample, one.max_tokens, *(message.content for message in one.messages)) for one in after]


@EACH
def test_all_requests_share_their_beginning(strategy: Strategy) -> None:
    assert len({one.messages[0] for one in requests(strategy)}) == 1


@EACH
def test_hostile_words_reach_the_teacher_as_they_are(strategy: Strategy) -> None:
    labels = (Label(name="{{ name }}", description=HOSTILE), *SPEECH[1:])
    teacher = ScriptedTeacher(lambda request: "a thing")
    write(strategy, asking(strategy, description=f"A {HOSTILE} z", labels=labels), teacher=teacher)
    asked = "".join(message.content for one in teacher.history for message in one.messages)
    assert f"A {HOSTILE} z" in asked
    assert "{{ name }}: " + HOSTILE in asked
    assert "49" not in asked


def test_hostile_things_reach_the_teacher_as_they_are() -> None:
    teacher = ScriptedTeacher(lambda request: "{{ 7*7 }} {%raw%}")
    ATTRIBUTES.stage.run(asking(ATTRIBUTES, wanted=(4, 0, 0)), teacher=teacher)
    assert "{{ 7*7 }} {%raw%}" in teacher.history[-1].messages[-1].content


def test_a_prompt_that_misses_a_variable_is_an_error(tmp_path: Path) -> None:
    from jinja2 import UndefinedError

    path = tmp_path / "prompt.jinja"
    path.write_text("  Hello {{ name }}\n", encoding="utf-8")
    assert render(path, name="<{{ x }}>") == "Hello <{{ x }}>"
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        render(path)


@EACH
def test_a_budget_that_ends_loses_no_row_and_leaves_the_result_incomplete(strategy: Strategy) -> None:
    n_calls = len(requests(strategy))
    teacher = ScriptedTeacher(lambda request: "one\ntwo", spending=Spending(Budget(calls=n_calls - 2)))
    rows = write(strategy, asking(strategy), teacher=teacher)
    assert (len(teacher.history), len(rows.kept), len(rows.rejected)) == (n_calls - 2, 8, 0)
    assert (rows.is_complete, rows.report["stopped"]) == (False, "budget")


def test_a_budget_that_ends_among_the_things_leaves_the_result_incomplete() -> None:
    answers = iter([Abstain("budget"), "a thing", "a thing"])
    teacher = ScriptedTeacher(lambda request: next(answers, "a text"))
    rows = ATTRIBUTES.stage.run(asking(ATTRIBUTES), teacher=teacher)
    assert (rows.is_complete, rows.report["stopped"], len(rows.kept)) == (False, "budget", 6)


@EACH
def test_one_bad_reply_costs_its_own_texts_only(strategy: Strategy) -> None:
    calls = iter(range(1000))

    def script(request: Request) -> str | Abstain:
        is_repair = request.messages[-1].content.startswith("That cannot be used: a filter stopped it.")
        return Abstain("content-filter", "no") if is_repair or next(calls) % 2 else "one\ntwo"

    rows = write(strategy, asking(strategy), teacher=ScriptedTeacher(script))
    assert (len(rows.kept), rows.report["rejected_by_reason"], rows.is_complete) == (
        6,
        {"abstain-content-filter": 3},
        True,
    )


@EACH
def test_unknown_and_impossible_options_are_refused(strategy: Strategy) -> None:
    with pytest.raises(ValidationError, match=r"texts_a_call\s+Extra inputs are not permitted"):
        strategy.options.model_validate({"texts_a_call": 4})
    with pytest.raises(ValidationError, match=r"texts_per_call\s+Input should be greater than or equal to 1"):
        strategy.options.model_validate({"texts_per_call": 0})


@EACH
def test_every_option_enters_the_fingerprint(strategy: Strategy) -> None:
    keys = {
        key_of(strategy.stage, asking(strategy, options=strategy.options(texts_per_call=n))).fingerprint for n in (4, 5)
    }
    assert len(keys) == 2


@EACH
def test_the_forecast_is_positive_and_grows_with_what_is_wanted(strategy: Strategy) -> None:
    costs = [strategy.forecast(asking(strategy, wanted=(n, n, n))) for n in (1, 8, 80, 800)]
    for less, more in pairwise(costs):
        assert 0 < less.calls < more.calls
        assert 0 < less.prompt_tokens < more.prompt_tokens
        assert 0 < less.completion_tokens < more.completion_tokens


@EACH
def test_the_forecast_counts_the_calls_that_are_made(strategy: Strategy) -> None:
    assert strategy.forecast(asking(strategy)).calls == len(requests(strategy))


@EACH
def test_progress_is_told_call_by_call(strategy: Strategy) -> None:
    heard: list[Event] = []
    with listening(heard.append):
        run(strategy, asking(strategy))
    told = [event for event in heard if isinstance(event, Progressed) and event.note.endswith(" texts")]
    assert [(event.stage, event.done, event.total) for event in told] == [
        (strategy.stage.name, n, 6) for n in range(1, 7)
    ]
    assert told[-1].note == "6 texts"


@pytest.mark.parametrize(
    ("reply", "kept", "rejected"),
    [
        ("one\ntwo", ["one", "two"], []),
        ("Here are 8 texts:\n1. one\n2. two", ["one", "two"], []),
        ('["one", "two"]', ["one", "two"], []),
        ("play a song\n" * 200, ["play a song"], []),
        ("```\n```", [], [("```\n```", "abstain-no-text")]),
        ("I'm sorry, I cannot help with that.", [], [("I'm sorry, I cannot help with that.", "abstain-refusal")]),
        ("one\nAs an AI, I stop here.", ["one"], [("As an AI, I stop here.", "refusal")]),
        ("x" * (MAX_CHARS + 1), [], [("x" * MAX_CHARS, "too-long")]),
        ("\ud83d", [], [("?", "abstain-no-text")]),
        ("\ud83d one", ["one"], []),
        (Reply("one\ntw", "length", 1, 1), ["one"], []),
        (Reply("a text without end", "length", 1, 1), [], [("a text without end", "abstain-no-text")]),
        (Abstain("refusal", "no"), [], [("no", "abstain-refusal")]),
        (Abstain("malformed", "\ud83d"), [], [("?", "abstain-malformed")]),
    ],
)
def test_each_reply_becomes_rows_or_rejections(
    reply: str | Reply | Abstain, kept: list[str], rejected: list[tuple[str, str]]
) -> None:
    request = Request((Message("user", "write"),), max_tokens=9)
    rows = write_all([Asked("music", request)], ScriptedTeacher(lambda _: reply), strategy="labels")
    assert rows.kept["text"][:] == kept
    assert [(row["text"], row["reason"]) for row in rows.rejected] == rejected
    assert {row["label"] for part in (rows.kept, rows.rejected) for row in part} == {"music"}
    assert rows.is_complete


@pytest.mark.parametrize(
    "answer", ["", "I'm sorry, I cannot help with that.", "many words that no thing would ever have"]
)
def test_without_things_the_label_itself_has_to_do(answer: str) -> None:
    assert things_of(SPEECH[1], [Reply(answer, "stop", 1, 1)], UTTERANCE) == ("weather",)
    assert things_of(SPEECH[0], [Abstain("refusal", "no")], UTTERANCE) == ("play a song",)


def test_things_are_read_from_lines_and_from_commas_each_once() -> None:
    told = ("Here are 3 things:\n1. Oslo, Rome.\n2. Oslo", "- seven o'clock;\n- Rome")
    answers = [Reply(text, "stop", 1, 1) for text in told]
    assert things_of(SPEECH[0], answers, UTTERANCE) == ("Oslo", "Rome", "seven o'clock")


@pytest.mark.parametrize("name", GENRE_FILES)
def test_things_copied_from_the_demonstration_are_left_out(name: GenreName) -> None:
    genre = genre_of(name)
    copied = [thing.upper() for things in genre.demonstration.things.values() for thing in things]
    assert things_of(SPEECH[0], [Reply("\n".join([*copied, "Oslo"]), "stop", 1, 1)], genre) == ("Oslo",)


@EACH
def test_a_genre_brings_its_own_speaker_demonstration_styles_and_lengths(strategy: Strategy) -> None:
    article = asking(strategy, options=strategy.options(genre="article"))
    spoken, published = requests(strategy), requests(strategy, options=article.options)
    assert "published" not in spoken[0].messages[0].content
    assert "written by a professional for readers" in published[0].messages[0].content
    assert published[-1].max_tokens == 8 * 40 * 2
    assert strategy.forecast(article).completion_tokens > strategy.forecast(asking(strategy)).completion_tokens
    if strategy is ATTRIBUTES:
        assert any("Slugs Return to Kent" in message.content for message in published[-1].messages)
        assert "a title and" in published[-1].messages[-1].content


def scripted(n_things: int) -> Iterator[str]:
    yield from ("1. Adele\n2. some jazz, the radio", "Oslo\ntomorrow", "two people", *[""] * n_things)[:n_things]
    yield 'Sure, here are 4 texts:\n1. "play Adele"\n2. put on some jazz\n3. play Adele\n4. As an AI, I like jazz.'
    yield "```\n```"
    yield "- will it rain in Oslo?\n- snow tomorrow?"
    while True:
        yield "a table for two people"


@EACH
def test_golden_strategies(strategy: Strategy) -> None:
    params = asking(strategy, wanted=(8, 4, 4))
    teacher = ScriptedTeacher(scripted(n_things=strategy.forecast(params).calls - 4))
    rows = write(strategy, params, teacher=teacher)
    asked = [
        [one.messages[-1].content, one.max_tokens, one.sampling_temperature, one.top_p, one.sample]
        for one in teacher.history
    ]
    check_golden(strategy.stage, {"asked": asked, "before": str(teacher.history[-1].messages[:-1]), **in_words(rows)})


def test_the_names_of_the_table_are_the_names_of_the_stages() -> None:
    assert {name: strategy.stage.name for name, strategy in STRATEGIES.items()} == {name: name for name in STRATEGIES}
    assert (STRATEGIES["labels"], STRATEGIES["attributes"]) == (LABELS, ATTRIBUTES)


# Things that fit another label better


PHRASES = {"play a song": 0.0, "weather": 40.0, "table": 90.0}


@pytest.mark.parametrize(
    ("margin", "left", "foreign"),
    [
        (None, ["jazz", "Oslo", "rain"], None),
        (0.25, ["jazz", "Oslo"], {"rain": "weather"}),
        (0.0, ["jazz"], {"Oslo": "weather", "rain": "weather"}),
    ],
)
def test_things_that_fit_another_label_better_are_left_out_and_counted(
    margin: float | None, left: list[str], foreign: dict[str, str] | None
) -> None:
    encoder = Angles({**PHRASES, "jazz": -10.0, "Oslo": 25.0, "rain": 45.0})
    params = asking(ATTRIBUTES, wanted=(4, 0, 0), options=ATTRIBUTES.options(foreign_margin=margin))
    assert ATTRIBUTES.needs_encoder(params.options) is (margin is not None)
    teacher = ScriptedTeacher(lambda request: "jazz, Oslo\nrain")
    rows = ATTRIBUTES.stage.run(params, teacher=teacher, encoder=encoder)
    assert rows.report["things"]["music"] == left
    assert rows.report.get("foreign") == (None if foreign is None else {"music": foreign})
    assert rows.report.get("n_foreign", 0) == len(foreign or ())
    told = teacher.history[-1].messages[-1].content
    assert all((thing in told) is (thing in left) for thing in ("jazz", "Oslo"))


def test_a_label_all_of_whose_things_are_foreign_has_its_own_phrase() -> None:
    encoder = Angles({**PHRASES, "rain": 45.0})
    params = asking(ATTRIBUTES, wanted=(4, 0, 0), options=ATTRIBUTES.options(foreign_margin=0.1))
    rows = ATTRIBUTES.stage.run(params, teacher=ScriptedTeacher(lambda request: "rain"), encoder=encoder)
    assert rows.report["things"] == {"music": ["play a song"]}


def test_personas_change_the_style_and_no_other_draw() -> None:
    plain = run(ATTRIBUTES, asking(ATTRIBUTES, wanted=(4, 0, 0)))[1][-1].messages[-1].content
    options = ATTRIBUTES.options(texts_per_call=4, personas=["a nurse"])
    told = run(ATTRIBUTES, asking(ATTRIBUTES, wanted=(4, 0, 0), options=options))[1][-1].messages[-1].content
    assert told.replace(", as a nurse would put it", "") == plain != told


# Contrasts, by descriptions and by what a student confuses


def compared(request: Request) -> str:
    """Say how labels differ when asked, and something else otherwise."""
    return '{"A": "wants to hear.", "B": "wants to know"}' if request.schema else answer(request)


def test_the_teacher_says_how_the_nearest_labels_differ_before_it_writes() -> None:
    params = asking(CONTRASTIVE, wanted=(4, 0, 0), options=CONTRASTIVE.options(texts_per_call=4, rivals=1))
    teacher = ScriptedTeacher(compared)
    encoder = Angles(PHRASES)
    rows = CONTRASTIVE.stage.run(params, teacher=teacher, encoder=encoder)
    (asked,) = (one for one in teacher.history if one.schema)
    assert "maxLength" not in json.dumps(asked.schema)  # 40 times slower in llama.cpp
    assert "A. music: play a song\nB. weather: weather" in asked.messages[-1].content
    assert teacher.history.index(asked) < len(teacher.history) - 1
    told = teacher.history[-1].messages[-1].content
    assert "mistaken for weather.\nmusic: wants to hear.\nweather: wants to know.\n" in told
    assert told.endswith("Each text must be clearly music and not weather.")
    assert rows.report["contrasts"] == [
        {"label": "music", "rival": "weather", "this": "wants to hear", "other": "wants to know", "by": "teacher"}
    ]


@pytest.mark.parametrize(
    "said",
    ["", "no JSON", "[]", '{"A": "x"}', '{"A": 1, "B": 2}', '{"A": "", "B": "x"}', '{"A": "x", "B": "x"}', "[" * 99_999,
     '{"A": "As an AI, I", "B": "x"}'],
)  # fmt: skip
def test_where_the_teacher_does_not_say_how_labels_differ_descriptions_do(said: str) -> None:
    assert read_contrast(Reply(said, "stop", 1, 1)) is None
    params = asking(CONTRASTIVE, wanted=(4, 0, 0), options=CONTRASTIVE.options(texts_per_call=4, rivals=1))
    teacher = ScriptedTeacher(lambda request: said if request.schema else "a text")
    rows = CONTRASTIVE.stage.run(params, teacher=teacher, encoder=Angles(PHRASES))
    assert "music: play a song.\nweather: weather." in teacher.history[-1].messages[-1].content
    assert [one["by"] for one in rows.report["contrasts"]] == ["descriptions"]
    assert len([one for one in teacher.history if one.schema]) == 1


def test_a_long_difference_is_cut_off() -> None:
    said = json.dumps({"A": "word " * 200, "B": "1. other\nline."})
    assert read_contrast(Reply(said, "stop", 1, 1)) == Contrast(" ".join(["word"] * 30), "other line")


def hard(**probs: tuple[str, tuple[float, float, float]]) -> Rows:
    """Find what is hard of rows with a label and out-of-fold probabilities each, by text."""
    rows = all_kept(text_dataset([TextRow(text, label, Origin.SYNTHETIC) for text, (label, _) in probs.items()]))
    names = tuple(label.name for label in SPEECH)
    oof = Predictions(names, tuple(rows.kept["id"]), np.array([given for _, given in probs.values()]).reshape(-1, 3))
    return FOCUS.run(FocusParams(labels=names), rows=rows, oof=oof)


HARD = {
    "sure": ("music", (0.9, 0.05, 0.05)),
    "near": ("music", (0.45, 0.15, 0.4)),
    "nearer": ("music", (0.4, 0.1, 0.5)),
    "doubted": ("music", (0.02, 0.9, 0.08)),
    "rainy": ("weather", (0.0, 0.6, 0.4)),
}


def test_hard_rows_are_unsure_ones_and_not_those_that_look_mislabelled() -> None:
    found = hard(**HARD)
    assert found.kept["text"][:] == ["nearer", "near", "rainy"]
    assert list(found.report["rivals"].values()) == ["table", "table", "table"]
    assert found.report["pairs"] == [["music", "table", 2], ["music", "weather", 1], ["weather", "table", 1]]
    assert found.report["n_doubted"] == 1
    check_golden(FOCUS, in_words(found))


def test_nothing_hard_is_no_row_and_no_pair() -> None:
    for found in (hard(sure=HARD["sure"]), hard()):
        assert (len(found.kept), found.report["pairs"]) == (0, [])


def test_contrastive_pairs_come_from_what_a_student_confuses() -> None:
    params = asking(CONTRASTIVE, wanted=(8, 0, 4), options=CONTRASTIVE.options(texts_per_call=4, rivals=1))
    teacher = ScriptedTeacher(compared)
    rows = CONTRASTIVE.stage.run(params, teacher=teacher, encoder=Angles(PHRASES), focus=hard(**HARD))
    # By description weather is nearest to music, and music is far from table.
    assert [(one["label"], one["rival"]) for one in rows.report["contrasts"]] == [
        ("music", "table"),
        ("table", "music"),
    ]
    told = [one.messages[-1].content for one in teacher.history[-3:]]
    assert all("\n- nearer\n- near\n" in prompt or "\n- near\n- nearer\n" in prompt for prompt in told[:2])
    assert "were mistaken" not in told[2]  # no row of a table was hard
    assert rows.kept["parents"][0] == [row_id("nearer"), row_id("near")]
    assert rows.kept["parents"][2] == []


def test_attributes_show_hard_rows_of_the_label_and_a_copy_of_one_is_none() -> None:
    params = asking(ATTRIBUTES, wanted=(4, 4, 4))
    teacher = ScriptedTeacher(lambda request: "rainy\nrain again")
    rows = ATTRIBUTES.stage.run(params, teacher=teacher, focus=hard(**HARD))
    told = [one.messages[-1].content for one in teacher.history[-3:]]
    assert ["easily mistaken" in prompt for prompt in told] == [True, True, False]
    assert "doubted" not in "".join(told)
    assert [(row["label"], row["text"]) for row in rows.rejected] == [("weather", "rainy")]


@given(
    st.integers(0, 500),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0, 1e-9, 1e9]), min_size=1, max_size=30),
    st.integers(0, 99),
)
def test_shares_add_up_follow_weights_and_give_nothing_for_nothing(n: int, weights: list[float], start: int) -> None:
    shares = spread(n, weights, start=start)
    assert sum(shares) == (n if any(weights) else 0)
    assert all(share == 0 for share, weight in zip(shares, weights, strict=True) if not weight)
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - n * weight / (sum(weights) or 1)) < 1 + 1e-6


def test_equals_take_turns() -> None:
    assert [spread(1, (1, 1, 1), start=start) for start in range(3)] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
