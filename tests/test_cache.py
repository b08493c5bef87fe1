"""The reply store from outside: what is in it, what a build would not find there, and what nobody needs any more."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factory.check import check_task
from factory.errors import ArtifactMissing
from factory.teacher import REPLIES_FILE, Message, Reply, Request, ask
from factory.teacher.ledger import Failure
from factory.teacher.nearest import PARTS, Nearest, difference
from factory.teacher.probe import NOT_STORED, DependsOnMissing, Probe
from factory.teacher.protocol import Abstain
from factory.teacher.replies import Exchange, Replies
from factory.teacher.scripted import ScriptedTeacher
from flows.builds import BuildNote
from flows.cache import plan_pruning, prune_replies, read_stats
from flows.explain import ExplainedStage, explain
from flows.plan import make_plan
from tests.conftest import Factory
from tests.fault_server import completion
from tests.noted_build import MANY, Built, build, scripted
from tests.scripted_task import make_task
from tests.test_build import QUICK, described

SYSTEM, SHOWN, LAST = "You are brief.", "an example", "Text: rain"
PAYLOAD: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": SHOWN},
        {"role": "assistant", "content": "an answer"},
        {"role": "user", "content": LAST},
    ],
    "max_tokens": 8,
    "temperature": 0.0,
    "top_p": 1.0,
    "seed": 3,
    "response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1, "b": 2}}},
    "logprobs": True,
    "top_logprobs": 20,
}


def exchange(endpoint: str = "e", sample: int = 3, at: str = "", **changes: Any) -> Exchange:
    payload = {name: value for name, value in {**PAYLOAD, **changes}.items() if value is not None}
    return Exchange(endpoint, payload, sample, completion(), 1.5, at)


def said(position: int, content: str) -> list[dict[str, str]]:
    messages = [dict(one) for one in PAYLOAD["messages"]]
    messages[position]["content"] = content
    return messages


def stored(path: Path, *exchanges: Exchange) -> Replies:
    replies = Replies(path / REPLIES_FILE)
    for one in exchanges:
        replies.put(one.key, one)
    return replies


# Which part of a key differs

OTHER_SCHEMA = {"type": "json_schema", "json_schema": {"schema": {"b": 2, "a": 1}}}


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        (exchange("f"), ["endpoint"]),
        (exchange(model="n"), ["model"]),
        (exchange(messages=said(0, SYSTEM + " ")), ["system message"]),
        (exchange(messages=said(1, "another example")), ["messages before the last"]),
        (exchange(messages=said(3, "Text: snow")), ["last message"]),
        (exchange(max_tokens=9), ["max_tokens"]),
        (exchange(max_tokens=None, max_completion_tokens=8), ["max_tokens"]),
        (exchange(temperature=1.0), ["temperature"]),
        (exchange(top_p=0.9), ["top_p"]),
        (exchange(sample=4, seed=4), ["seed"]),
        (exchange(response_format=OTHER_SCHEMA), ["schema"]),
        (exchange(response_format=None), ["schema"]),
        (exchange(top_logprobs=5), ["log-probabilities"]),
        (exchange(logprobs=None, top_logprobs=None), ["log-probabilities"]),
        (exchange(stop=["x"]), ["other settings"]),
        (exchange("f", model="n", temperature=1.0), ["endpoint", "model", "temperature"]),
        (Exchange("e", dict(reversed(PAYLOAD.items())), 3, {}, 0.0), ["order of the settings"]),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, list) else "",
)
def test_the_parts_that_differ_are_named(asked: Exchange, parts: list[str]) -> None:
    assert asked.key != exchange().key
    assert set(parts) <= set(PARTS)
    assert list(difference(exchange(), asked).parts) == parts


def test_equal_exchanges_differ_in_nothing() -> None:
    assert difference(exchange(), exchange()).parts == ()


def test_an_excerpt_shows_where_two_texts_part() -> None:
    before, after = "a" * 500 + " old\nline " + "z" * 500, "a" * 500 + " new " + "z" * 500
    (change,) = difference(exchange(messages=said(3, before)), exchange(messages=said(3, after))).changes
    assert (change.before[:3], change.before[-3:]) == ("...", "...")
    assert "aaa old\\nline zzz" in change.before
    assert "aaa new zzz" in change.after
    assert len(change.before) < 100
    (change,) = difference(exchange(), exchange(response_format=None)).changes
    assert change.after == "nothing"


def test_the_nearest_exchange_shares_most_parts() -> None:
    far = exchange("f", model="n")
    near = exchange("f")
    assert Nearest([far, near, exchange("g", model="o", top_p=0.5)]).to(exchange()) == near.key
    assert Nearest([]).to(exchange()) is None


def test_of_equally_near_ones_the_most_similar_text_counts_and_then_the_newest() -> None:
    one, two = exchange(messages=said(3, "Text: will it rain in Oslo")), exchange(messages=said(3, "Text: jazz"))
    asked = exchange(messages=said(3, "Text: will it rain in Rome"))
    assert Nearest([one, two]).to(asked) == Nearest([two, one]).to(asked) == one.key
    same = [exchange(sample=n, seed=n) for n in (1, 2)]
    assert Nearest(same).to(exchange()) == same[1].key


def test_a_thousand_missing_among_ten_thousand_take_seconds() -> None:
    nearest = Nearest(exchange(messages=said(3, f"Text: number {n}")) for n in range(10_000))
    assert len(nearest) == 10_000
    started = time.process_time()
    for n in range(1_000):
        nearest.to(exchange(messages=said(3, f"Text: other {n}")))
    assert time.process_time() - started < 10


# The probe


def question(text: str) -> Request:
    return Request((Message("user", text),), max_tokens=8)


@pytest.fixture
def asked_once(tmp_path: Path) -> ScriptedTeacher:
    teacher = ScriptedTeacher(lambda request: "ok", replies=Replies(tmp_path / REPLIES_FILE))
    ask(teacher, [question("a"), question("b")])
    teacher.close()
    return teacher


def test_a_probe_answers_what_is_stored_and_asks_and_stores_nothing(
    asked_once: ScriptedTeacher, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    probe = Probe(asked_once.endpoint, tmp_path / REPLIES_FILE)
    answers = ask(probe, [question("a"), question("c"), question("b"), question("c")])
    probe.close()
    assert [one.reason if isinstance(one, Abstain) else one.text for one in answers] == ["ok", NOT_STORED] * 1 + [
        "ok",
        NOT_STORED,
    ]
    assert probe.identity == asked_once.identity
    assert (len(probe.found), len(probe.missing)) == (2, 1)
    ((key, missing),) = probe.missing.items()
    assert (missing.key, missing.payload["messages"]) == (key, [{"role": "user", "content": "c"}])
    assert len(asked_once.history) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_is_asked_after_a_reply_was_missing_is_not_guessed(asked_once: ScriptedTeacher, tmp_path: Path) -> None:
    probe = Probe(asked_once.endpoint, tmp_path / REPLIES_FILE)
    ask(probe, [question("c")])
    with pytest.raises(DependsOnMissing):
        ask(probe, [question("made from the answer")])
    assert [one.payload["messages"][0]["content"] for one in probe.missing.values()] == ["c"]
    assert isinstance(ask(probe, [question("b")])[0], Reply)
    probe.forget()
    (answer,) = ask(probe, [question("a")])
    assert isinstance(answer, Reply)
    probe.close()


def test_a_probe_makes_no_file(tmp_path: Path) -> None:
    probe = Probe(ScriptedTeacher([]).endpoint, tmp_path / "outputs" / REPLIES_FILE)
    assert len(ask(probe, [question("a")])) == 1
    probe.close()
    assert list(tmp_path.iterdir()) == []


# What a build would ask


def explained(folder: Path, outputs: Path) -> dict[str, ExplainedStage]:
    return {stage.stage: stage for stage in explain(check_task(folder), outputs).stages}


def without_stages(outputs: Path, elsewhere: Path) -> Path:
    """Copy the reply store alone."""
    elsewhere.mkdir()
    (elsewhere / REPLIES_FILE).write_bytes((outputs / REPLIES_FILE).read_bytes())
    return elsewhere


def test_after_a_build_nothing_would_be_asked(noted: Built) -> None:
    found = explained(noted.folder, noted.outputs)
    assert {name: stage.state for name, stage in found.items()} == dict.fromkeys(
        ["attributes-1", "verify-attributes-1"], "cached"
    )


def test_a_store_of_replies_alone_answers_every_stage(noted: Built, tmp_path: Path) -> None:
    outputs = without_stages(noted.outputs, tmp_path / "outputs")
    found = explained(noted.folder, outputs)
    assert {stage.state for stage in found.values()} == {"stored"}
    store = Replies(outputs / REPLIES_FILE)
    assert sum(stage.n_stored for stage in found.values()) == len(store)
    store.close()
    assert [path.name for path in outputs.iterdir()] == [REPLIES_FILE]


def test_a_changed_description_is_named_with_what_it_was_and_is(noted: Built, tmp_path: Path) -> None:
    changed = scripted(tmp_path / "task", **MANY, labels=described(music="ask for a tune"))
    found = explained(changed, noted.outputs)
    stage = found["attributes-1"]
    assert (stage.state, stage.because) == ("missing", "params.labels[1].description changed")
    assert (stage.n_missing, stage.is_open) == (3, True)
    (group,) = stage.groups
    assert (group.n, [change.part for change in group.changes]) == (3, ["last message"])
    assert "ask for a tune" in group.changes[0].after
    assert (found["verify-attributes-1"].state, found["verify-attributes-1"].n_missing) == ("unknown", 0)


def test_a_changed_teacher_is_named_as_such(noted: Built, tmp_path: Path) -> None:
    changed = scripted(tmp_path / "task", **MANY)
    with (changed / "replies.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"contains": "never", "reply": ""}\n')
    (group,) = explained(changed, noted.outputs)["attributes-1"].groups
    assert [change.part for change in group.changes] == ["endpoint"]


def test_one_missing_reply_is_one_request(noted: Built, tmp_path: Path) -> None:
    outputs = without_stages(noted.outputs, tmp_path / "outputs")
    store = Replies(outputs / REPLIES_FILE)
    gone = [one.key for one in store.exchanges()][-1]
    store.drop([gone])
    store.close()
    found = explained(noted.folder, outputs)
    assert [(stage.state, stage.n_missing) for stage in found.values()] == [("stored", 0), ("missing", 1)]
    (group,) = found["verify-attributes-1"].groups
    assert (group.asked, [change.part for change in group.changes]) == (gone, ["last message"])
    because = {stage.name: stage.because for stage in make_plan(check_task(noted.folder), outputs).stages}
    assert because["gather-1"] == "waits for verify-attributes-1"  # not built on what the missing reply left out


def test_without_a_store_everything_is_missing_and_nothing_is_made(tmp_path: Path) -> None:
    found = explained(make_task(tmp_path / "task", **QUICK), tmp_path / "outputs")
    assert (found["attributes-1"].n_missing, found["attributes-1"].groups[0].nearest) == (9, None)
    assert not (tmp_path / "outputs").exists()


def test_a_plan_says_how_many_replies_are_stored(noted: Built, tmp_path: Path) -> None:
    def known(folder: Path, outputs: Path) -> list[int | None]:
        return [stage.stored for stage in make_plan(check_task(folder), outputs).stages if stage.cost.calls]

    fresh = tmp_path / "nothing"
    alone = without_stages(noted.outputs, tmp_path / "alone")
    changed = scripted(tmp_path / "task", **MANY, labels=described(music="ask for a tune"))
    n_stored = [stage.n_stored for stage in explained(noted.folder, alone).values()]
    assert known(noted.folder, fresh) == [0, 0]
    assert known(noted.folder, alone) == n_stored
    assert known(noted.folder, noted.outputs) == []
    assert known(changed, noted.outputs) == [6, None]
    assert make_plan(check_task(noted.folder), alone).stored == sum(n_stored)


# Stats


def test_stats_add_up_by_endpoint_and_model(tmp_path: Path) -> None:
    replies = stored(tmp_path, exchange(), exchange(sample=4), exchange("f"))
    replies.ledger.note(Failure("k", "e", "refusal", 1, 0.5, 0, 0, 0.0, "?", ""))
    replies.close()
    with (tmp_path / REPLIES_FILE).open("ab") as file:
        file.write(b"rubbish\n")
    with replies.ledger.path.open("ab") as file:
        file.write(b'{"torn\n{"key": "of another version"}\n[]\n')
    found = read_stats(tmp_path)
    assert [(one.endpoint, one.model, one.replies, one.prompt_tokens, one.seconds) for one in found.shares] == [
        ("e", "m", 2, 20, 3.0),
        ("f", "m", 1, 10, 1.5),
    ]
    assert (found.replies, found.damaged_lines, found.failures, found.damaged_failures) == (3, 1, {"refusal": 1}, 3)
    assert found.n_bytes == (tmp_path / REPLIES_FILE).stat().st_size


@pytest.mark.parametrize("look", [read_stats, plan_pruning])
def test_where_nothing_is_stored_that_is_said_and_nothing_is_made(
    tmp_path: Path, look: Callable[[Path], object]
) -> None:
    with pytest.raises(ArtifactMissing, match=r"replies\.log: no such file"):
        look(tmp_path / "outputs")
    assert not (tmp_path / "outputs").exists()


# Pruning


def test_what_the_newest_build_used_stays_and_the_rest_goes(tmp_path: Path) -> None:
    old, new = scripted(tmp_path / "one"), scripted(tmp_path / "two", labels=described(music="ask for a tune"))
    outputs = tmp_path / "outputs"
    build(old, outputs)
    build(new, outputs)
    pruning = plan_pruning(outputs)
    store = Replies(outputs / REPLIES_FILE)
    assert 0 < len(pruning.going) < pruning.n_replies == len(store)
    prune_replies(outputs, pruning)
    assert len(store) == pruning.n_replies - len(pruning.going)
    store.close()
    alone = without_stages(outputs, tmp_path / "alone")
    assert {stage.state for stage in explained(new, alone).values()} == {"stored"}
    assert explained(old, alone)["attributes-1"].state == "missing"
    assert plan_pruning(outputs).going == ()


def test_replies_of_a_build_that_has_not_ended_stay(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    replies = stored(outputs, exchange())
    BuildNote(outputs / "begun")
    assert plan_pruning(outputs).kept == {"came after a build began that has not ended": 1}
    BuildNote(outputs / "begun").finished()
    assert len(plan_pruning(outputs).going) == 1
    replies.close()


def test_an_unfinished_build_does_not_make_the_finished_one_old(tmp_path: Path) -> None:
    folder = scripted(tmp_path / "task")
    build(folder, tmp_path / "outputs")
    BuildNote(tmp_path / "outputs" / "scripted")
    assert plan_pruning(tmp_path / "outputs").going == ()


def test_where_no_build_was_noted_the_replies_of_its_teacher_stay(noted: Built, tmp_path: Path) -> None:
    folder = scripted(tmp_path / "task")
    build(folder, tmp_path / "outputs")
    (tmp_path / "outputs" / "scripted" / "builds.jsonl").unlink()
    stored(tmp_path / "outputs", exchange()).close()
    pruning = plan_pruning(tmp_path / "outputs")
    assert pruning.going == (exchange().key,)
    assert list(pruning.kept) == ["of the teacher of a task whose last build is not known"]


def test_replies_that_are_not_old_enough_stay(tmp_path: Path) -> None:
    stored(tmp_path, exchange()).close()
    assert plan_pruning(tmp_path, older_than_days=1).kept == {"not older than 1 days": 1}
    assert len(plan_pruning(tmp_path).going) == 1


def test_replies_that_came_since_the_look_stay(tmp_path: Path) -> None:
    replies = stored(tmp_path, exchange())
    pruning = plan_pruning(tmp_path)
    late = exchange(sample=9)
    replies.put(late.key, late)
    prune_replies(tmp_path, pruning)
    assert [one.key for one in replies.exchanges()] == [late.key]
    replies.close()


# The commands


def test_nothing_is_deleted_without_yes(factory: Factory, tmp_path: Path) -> None:
    stored(tmp_path, exchange()).close()
    before = (tmp_path / REPLIES_FILE).read_bytes()
    done = factory("cache", "prune", "--out", tmp_path)
    assert done.out.startswith("1 of 1 replies would go")
    assert done.out.endswith("nothing was deleted; add --yes to delete them\n")
    assert (tmp_path / REPLIES_FILE).read_bytes() == before
    told = json.loads(factory("cache", "prune", "--out", tmp_path, "--json").out)
    assert (told["deleted"], told["going"]) == (False, [exchange().key])
    assert factory("cache", "prune", "--out", tmp_path, "--yes").out.startswith("1 of 1 replies are deleted")
    assert (tmp_path / REPLIES_FILE).read_bytes() == b""


def test_stats_are_printed_and_written(factory: Factory, tmp_path: Path) -> None:
    stored(tmp_path, exchange(), exchange(model="[bold]x")).close()
    out = factory("cache", "stats", "--out", tmp_path).out
    assert "2 replies, no damaged line" in out
    assert "[bold]x at e" in out
    told = json.loads(factory("cache", "stats", "--out", tmp_path, "--json").out)
    assert (told["replies"], told["shares"][0]["completion_tokens"]) == (2, 5)


def test_an_explanation_is_printed_and_written(factory: Factory, noted: Built, tmp_path: Path) -> None:
    changed = scripted(tmp_path / "task", **MANY, labels=described(music="ask for a [tune]"))
    done = factory("cache", "explain", changed, "--out", noted.outputs)
    assert (done.code, done.err) == (0, "")
    assert "  3 requests differ from the nearest stored one in: last message" in done.out
    assert "ask for a [tune]" in done.out
    assert done.out.endswith("scripted: 3 requests would be made that are known now\n")
    told = json.loads(factory("cache", "explain", changed, "--out", noted.outputs, "--json").out)
    assert (told["n_missing"], told["stages"][0]["groups"][0]["n"]) == (3, 3)
