"""Strategies: every entry of `STRATEGIES` takes the same tests. What becomes of replies, good and bad."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from factory.events import Event, Progressed, listening
from factory.prompts import render
from factory.records import Origin, Rows
from factory.spec import Budget, Label
from factory.store import key_of
from factory.synthesis import STRATEGIES
from factory.synthesis.attributes import ATTRIBUTES, things_of
from factory.synthesis.genre import GENRE_FILES, GenreName, genre_of
from factory.synthesis.labels import LABELS
from factory.synthesis.strategy import MAX_CHARS, Asked, Strategy, WriteParams, write_all
from factory.teacher.budget import Spending
from factory.teacher.protocol import Abstain, Message, Reply, Request
from factory.teacher.replies import Replies
from factory.teacher.scripted import ScriptedTeacher
from tests.golden_file import check_golden, in_words

SPEECH = (Label(name="music", description="play a song"), Label(name="weather"), Label(name="table"))
UTTERANCE = genre_of("utterance")
EACH = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
HOSTILE = "{{ 7*7 }} {% raw %}\n{# no #}\x07 <b>&amp;</b> ${HOME} %s {0} \u202e“"


def asking(strategy: Strategy, **changes: Any) -> WriteParams:
    options = strategy.options(texts_per_call=4)
    given = {"description": "What people say.", "labels": SPEECH, "wanted": (8, 8, 8), "round": 1, "seed": 0}
    return WriteParams(**{**given, "options": options, **changes})


def answer(request: Request) -> str:
    """Say what no other request is answered."""
    return f"a text number {abs(hash(request.messages)) + request.sample}"


def run(strategy: Strategy, params: WriteParams) -> tuple[Rows, list[Request]]:
    teacher = ScriptedTeacher(answer)
    return strategy.stage.run(params, teacher=teacher), teacher.history


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
    rows = strategy.stage.run(asking(strategy), teacher=teacher)
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
        rows = strategy.stage.run(asking(strategy, round=round_), teacher=teacher)
        texts.append(set(rows.kept["text"][:]))
        assert len(teacher.history) >= 6
        teacher.close()
    assert [len(found) for found in texts] == [6, 6]
    assert not texts[0] & texts[1]


@EACH
def test_the_same_round_again_asks_nothing_again(strategy: Strategy, tmp_path: Path) -> None:
    replies = Replies(tmp_path / "replies.log")
    first, second = (ScriptedTeacher(answer, replies=replies) for _ in range(2))
    made = [strategy.stage.run(asking(strategy), teacher=teacher).kept.to_list() for teacher in (first, second)]
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
        strategy.stage.run(asking(strategy, labels=labels), teacher=teacher)
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
    strategy.stage.run(asking(strategy, description=f"A {HOSTILE} z", labels=labels), teacher=teacher)
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
    rows = strategy.stage.run(asking(strategy), teacher=teacher)
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

    rows = strategy.stage.run(asking(strategy), teacher=ScriptedTeacher(script))
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
    rows = strategy.stage.run(params, teacher=teacher)
    asked = [
        [one.messages[-1].content, one.max_tokens, one.sampling_temperature, one.top_p, one.sample]
        for one in teacher.history
    ]
    check_golden(strategy.stage, {"asked": asked, "before": str(teacher.history[-1].messages[:-1]), **in_words(rows)})


def test_the_names_of_the_table_are_the_names_of_the_stages() -> None:
    assert {name: strategy.stage.name for name, strategy in STRATEGIES.items()} == {name: name for name in STRATEGIES}
    assert (STRATEGIES["labels"], STRATEGIES["attributes"]) == (LABELS, ATTRIBUTES)
