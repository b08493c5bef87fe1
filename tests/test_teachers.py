"""What every teacher must do, whatever stands behind it; then what is special about each."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from factory.errors import ArtifactMissing, SpecError, TeacherError, TeacherRefused, TeacherUnavailable
from factory.events import Event, Listener, TeacherUsed
from factory.events import logger as events_logger
from factory.labelling.distribution import label_distribution
from factory.spec import Budget, TeacherSpec
from factory.teacher import TEACHERS, Abstain, Message, Reply, Request, ScriptedTeacher, Teacher, ask, open_teacher
from factory.teacher.embedded import EmbeddedTeacher
from factory.teacher.endpoint import Retryable
from factory.teacher.limits import Limits
from factory.teacher.openai import OpenAITeacher
from factory.teacher.protocol import TokenLogprob
from factory.teacher.replies import Replies
from factory.teacher.weights import QWEN, find_weights
from factory.teacher.wire import completion_of, decode, encode
from tests.fault_server import FaultServer

FAKE_LLAMA = Path(__file__).with_name("fault_server.py")


def fake_llama(weights: Path, n_slots: int) -> list[str]:
    return [sys.executable, str(FAKE_LLAMA), str(weights)]


def question(text: str = "hello", sample: int = 0) -> Request:
    return Request((Message("system", "Be brief."), Message("user", text)), max_tokens=20, sample=sample)


Open = Callable[..., Teacher]


@pytest.fixture(params=sorted(TEACHERS))
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """A function that opens a teacher which always says `ok`; called twice it opens the same one again."""
    gguf = tmp_path / "fake.gguf"
    gguf.write_bytes(b"weights")
    monkeypatch.setenv("FACTORY_GGUF", str(gguf))
    monkeypatch.setenv("FACTORY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "replies.jsonl").write_text('{"contains": "", "reply": "ok"}\n')
    with ExitStack() as stack:
        server = stack.enter_context(FaultServer())

        def make(budget: Budget | None = None) -> Teacher:
            budget = budget or Budget()
            if request.param == "embedded":
                # The real one with llama.cpp is below, marked `teacher`.
                spec = TeacherSpec(budget=budget)
                teacher: Teacher = EmbeddedTeacher(spec, replies=Replies(tmp_path / "r.log"), command=fake_llama)
            else:
                model = {"openai": "m", "scripted": "replies.jsonl"}[request.param]
                spec = TeacherSpec(name=request.param, model=model, base_url=f"{server.url}/v1", budget=budget)
                teacher = open_teacher(spec, folder=tmp_path, outputs=tmp_path)
            stack.callback(teacher.close)
            return teacher

        yield make


def test_it_answers_every_request_in_order(opened: Open) -> None:
    seen: list[int] = []
    answers = ask(opened(), [question(str(n)) for n in range(20)], on_reply=lambda n, _: seen.append(n))
    assert [answer.text for answer in answers if isinstance(answer, Reply)] == ["ok"] * 20
    assert sorted(seen) == list(range(20))


def test_it_answers_nothing_with_nothing(opened: Open) -> None:
    assert ask(opened(), []) == []


def test_it_works_again_in_another_event_loop(opened: Open) -> None:
    teacher = opened()
    for text in "abc":
        assert isinstance(ask(teacher, [question(text)])[0], Reply)


def test_what_was_answered_comes_from_the_cache_the_next_time(opened: Open) -> None:
    (first,) = ask(opened(), [question()])
    (second,) = ask(opened(), [question()])
    assert isinstance(first, Reply) and isinstance(second, Reply)
    assert (first.from_cache, second.from_cache) == (False, True)
    assert (first.text, first.prompt_tokens) == (second.text, second.prompt_tokens)


def test_an_answer_says_where_it_stands_in_the_reply_store_live_and_cached(opened: Open) -> None:
    answers = [ask(opened(), [question(), question("other")]) for _ in range(2)]
    keys = [[answer.key for answer in both] for both in answers]
    assert keys[0] == keys[1]
    assert len({len(key) for key in keys[0]}) == 1 and len(set(keys[0])) == 2 and len(keys[0][0]) == 64


def test_an_abstention_says_where_its_failure_stands_in_the_ledger(tmp_path: Path) -> None:
    replies = Replies(tmp_path / "replies.log")
    teacher = ScriptedTeacher([Abstain("refusal", "no")], replies=replies)
    (answer,) = ask(teacher, [question()])
    assert [failure.key for failure in replies.ledger.failures()] == [answer.key]
    assert answer == Abstain("refusal", "no")
    teacher.close()


def test_another_sample_is_another_question(opened: Open) -> None:
    teacher = opened()
    ask(teacher, [question(sample=0)])
    (answer,) = ask(teacher, [question(sample=1)])
    assert isinstance(answer, Reply) and not answer.from_cache


def test_its_identity_is_stable_and_tells_it_apart(opened: Open) -> None:
    assert opened().identity == opened().identity
    assert opened().identity.partition(":")[0] in TEACHERS


def test_beyond_its_budget_it_abstains(opened: Open) -> None:
    answers = ask(opened(Budget(calls=2)), [question(str(n)) for n in range(4)])
    assert answers[2:] == [Abstain("budget"), Abstain("budget")]


def test_closing_twice_is_fine(opened: Open) -> None:
    teacher = opened()
    ask(teacher, [question()])
    teacher.close()
    teacher.close()


# The wire format


def test_a_request_becomes_the_body_of_a_chat_completion() -> None:
    schema = {"type": "object", "properties": {"b": {"enum": ["x"]}, "a": {"type": "string"}}}
    request = Request((Message("user", "hi"),), 9, 0.5, 0.9, schema=schema, top_logprobs=5, sample=3)
    assert encode(request, model="m") == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": schema},
        },
        "logprobs": True,
        "top_logprobs": 5,
    }


def test_a_reply_with_logprobs_survives_the_wire() -> None:
    logprobs = (TokenLogprob("o", -0.1, (("o", -0.1), ("x", -3.0))), TokenLogprob("k", 0.0, ()))
    reply = Reply("ok", "length", 7, 2, logprobs)
    assert decode(json.loads(json.dumps(completion_of(reply))), {}) == reply


# The engine, with scripts


def test_equal_requests_in_flight_are_sent_once() -> None:
    teacher = ScriptedTeacher(lambda _: "ok", limits=Limits(concurrency=8, first_call_alone=False))
    answers = ask(teacher, [question("a"), question("b"), question("a"), question("a")])
    assert [answer.text for answer in answers if isinstance(answer, Reply)] == ["ok"] * 4
    assert len(teacher.history) == 2


def test_a_failure_that_passes_is_tried_again() -> None:
    teacher = ScriptedTeacher([Retryable("busy"), Retryable("busy"), "ok"])
    (answer,) = ask(teacher, [question()])
    assert isinstance(answer, Reply) and answer.text == "ok"


def test_a_failure_that_stays_ends_the_run_and_keeps_what_was_answered(tmp_path: Path) -> None:
    replies = Replies(tmp_path / "replies.log")
    teacher = ScriptedTeacher(
        lambda request: "ok" if request.messages[1].content < "5" else Retryable("still busy"), replies=replies
    )
    with pytest.raises(TeacherUnavailable, match="6 attempts; the last: still busy"):
        ask(teacher, [question(str(n)) for n in range(10)])  # three are given up, and two more to be sure
    assert len(replies) == 5
    teacher.close()


def test_a_refusal_ends_the_run_after_one_call() -> None:
    def refuse(_: Request) -> Exception:
        return TeacherRefused("no")

    teacher = ScriptedTeacher(refuse, limits=Limits(concurrency=8))
    with pytest.raises(TeacherRefused, match="no"):
        ask(teacher, [question(str(n)) for n in range(8)])
    assert len(teacher.history) == 1


def test_one_request_without_an_answer_does_not_touch_its_neighbours() -> None:
    teacher = ScriptedTeacher(["a", Abstain("bad-request", "too long"), "c"])
    answers = ask(teacher, [question(str(n)) for n in range(3)])
    assert answers[1] == Abstain("bad-request", "too long")
    assert [answer.text for answer in answers if isinstance(answer, Reply)] == ["a", "c"]


def test_an_abstention_is_not_remembered(tmp_path: Path) -> None:
    teacher = ScriptedTeacher([Abstain("bad-request"), "ok"], replies=Replies(tmp_path / "replies.log"))
    assert ask(teacher, [question()]) == [Abstain("bad-request")]
    assert isinstance(ask(teacher, [question()])[0], Reply)
    teacher.close()


def test_listeners_hear_of_use_at_most_twice_a_second_and_at_the_end() -> None:
    seen: list[Event] = []
    listener = Listener(seen.append)
    before = events_logger.level
    events_logger.addHandler(listener)
    events_logger.setLevel("INFO")
    try:
        started = time.monotonic()
        ask(ScriptedTeacher(lambda _: Reply("ok", "stop", 3, 2)), [question(str(n)) for n in range(300)])
        seconds = time.monotonic() - started
    finally:
        events_logger.removeHandler(listener)
        events_logger.setLevel(before)
    used = [event for event in seen if isinstance(event, TeacherUsed)]
    assert len(used) <= 2 + 2 * seconds
    assert (used[-1].calls, used[-1].prompt_tokens, used[-1].completion_tokens) == (300, 900, 600)


def test_cancelling_keeps_what_was_answered(tmp_path: Path) -> None:
    replies = Replies(tmp_path / "replies.log")
    teacher = ScriptedTeacher(lambda _: "ok", replies=replies)
    n_done = 0

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None

        def stop_at_ten(position: int, answer: Reply | Abstain) -> None:
            nonlocal n_done
            n_done += 1
            if n_done == 10:
                task.cancel()

        await teacher.complete([question(str(n)) for n in range(100)], on_reply=stop_at_ten)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert n_done <= len(replies) <= n_done + 1
    teacher.close()


# Scripted


def scripted(folder: Path, model: str | None = "replies.jsonl") -> ScriptedTeacher:
    return ScriptedTeacher.from_spec(TeacherSpec(name="scripted", model=model), folder=folder)


def test_a_script_in_the_task_folder_answers_by_what_a_request_contains(tmp_path: Path) -> None:
    lines = [{"contains": "jazz", "reply": "music"}, {"contains": "", "reply": ["one", "two"]}]
    (tmp_path / "replies.jsonl").write_text("\n".join(map(json.dumps, lines)))
    answers = ask(scripted(tmp_path), [question("jazz"), question("x", sample=0), question("x", sample=1)])
    assert [answer.text for answer in answers if isinstance(answer, Reply)] == ["music", "one", "two"]


def test_a_request_that_fits_no_line_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "replies.jsonl").write_text('{"contains": "jazz", "reply": "music"}')
    with pytest.raises(TeacherError, match="no line fits the request"):
        ask(scripted(tmp_path), [question("blues")])


def test_all_wrong_lines_of_a_script_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "replies.jsonl").write_text('{"contains": "a"}\n\nnonsense\n{"contains": "", "reply": "ok"}')
    with pytest.raises(SpecError, match=r"replies\.jsonl:1: reply: Field required\n.*replies\.jsonl:3: not JSON"):
        scripted(tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [(None, "needs the name of a file"), ("../x.jsonl", "outside the task folder"), ("no.jsonl", "no file no.jsonl")],
)
def test_a_script_must_be_a_file_of_the_task_folder(tmp_path: Path, model: str | None, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        scripted(tmp_path, model)


def test_an_empty_script_and_one_that_is_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "replies.jsonl").write_text("\n")
    with pytest.raises(SpecError, match="has no replies"):
        scripted(tmp_path)
    (tmp_path / "replies.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="not UTF-8"):
        scripted(tmp_path)


# OpenAI


def test_a_missing_key_is_named_before_any_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    teacher = OpenAITeacher(TeacherSpec(name="openai", model="m", api_key_env="MY_KEY"))
    with pytest.raises(TeacherRefused, match="MY_KEY is not set"):
        ask(teacher, [question()])


@pytest.mark.parametrize("key", ["sk-secret\nsecret", "sk-\x7fsecret", "sk-sécret"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MY_KEY", f" {key}\n")
    teacher = OpenAITeacher(TeacherSpec(name="openai", model="m", api_key_env="MY_KEY"))
    with pytest.raises(TeacherRefused, match="the key in MY_KEY has a line break") as caught:
        ask(teacher, [question()])
    assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_the_endpoint_comes_from_the_spec_or_else_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://here:1/v1")
    assert OpenAITeacher(TeacherSpec(name="openai", model="m")).identity == "openai:http://here:1/v1:m"
    spec = TeacherSpec(name="openai", model="m", base_url="http://there:2/v1/")
    assert OpenAITeacher(spec).identity == "openai:http://there:2/v1:m"


def test_a_secret_in_the_address_does_not_enter_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:hunter2@[::1]:8/v1?key=hunter2")
    assert OpenAITeacher(TeacherSpec(name="openai", model="m")).identity == "openai:http://[::1]:8/v1:m"


# Embedded


@pytest.fixture
def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "fake.gguf"
    path.write_bytes(b"weights")
    monkeypatch.setenv("FACTORY_GGUF", str(path))
    monkeypatch.setenv("FACTORY_CACHE", str(tmp_path / "cache"))
    return path


def test_nothing_is_started_when_the_cache_has_every_answer(gguf: Path, tmp_path: Path) -> None:
    first = EmbeddedTeacher(TeacherSpec(), replies=Replies(tmp_path / "r.log"), command=fake_llama)
    ask(first, [question()])
    first.close()
    second = EmbeddedTeacher(TeacherSpec(), replies=Replies(tmp_path / "r.log"), command=lambda *_: ["false"])
    (answer,) = ask(second, [question()])
    assert isinstance(answer, Reply) and answer.from_cache
    second.close()


def test_the_built_in_weights_are_known_without_looking_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACTORY_GGUF", raising=False)
    assert EmbeddedTeacher(TeacherSpec()).identity == f"embedded:{QWEN.sha256}"


def test_the_embedded_teacher_keeps_its_rates_and_deadlines(gguf: Path) -> None:
    teacher = EmbeddedTeacher(TeacherSpec(requests_per_minute=6, deadline_s=5), command=fake_llama)
    answers = ask(teacher, [question(str(number)) for number in range(3)])
    teacher.close()
    assert [getattr(answer, "reason", "") for answer in answers] == ["", "deadline", "deadline"]


@pytest.mark.parametrize(("spec", "seconds"), [(TeacherSpec(), 900.0), (TeacherSpec(timeout_s=7), 7.0)])
def test_the_embedded_teacher_takes_its_time_unless_the_spec_says_otherwise(
    gguf: Path, spec: TeacherSpec, seconds: float
) -> None:
    assert EmbeddedTeacher(spec, command=fake_llama)._engine.limits.timeout_s == seconds


def test_a_child_that_cannot_start_tells_why(gguf: Path) -> None:
    gguf.write_bytes(b"crash")
    teacher = EmbeddedTeacher(TeacherSpec(), command=fake_llama)
    with pytest.raises(TeacherError, match=r"exit code 1\nerror: tensor 'blk\.0' has the wrong shape") as caught:
        ask(teacher, [question()])
    assert "GGUF" in caught.value.hint


def test_a_child_that_dies_while_answering_is_noticed_and_started_again_by_the_next_run(gguf: Path) -> None:
    gguf.write_bytes(b"die")
    teacher = EmbeddedTeacher(TeacherSpec(), command=fake_llama)
    with pytest.raises(TeacherUnavailable, match="ended with exit code 9"):
        ask(teacher, [question()])
    gguf.write_bytes(b"weights")
    assert isinstance(ask(teacher, [question()])[0], Reply)
    teacher.close()


def test_closing_ends_the_child(gguf: Path) -> None:
    teacher = EmbeddedTeacher(TeacherSpec(), command=fake_llama)
    ask(teacher, [question()])
    teacher.close()
    assert is_gone(gguf, within_s=0.0)


PARENT = """
import os, signal, sys, threading
from pathlib import Path
from factory.spec import TeacherSpec
from factory.teacher import Message, Request, ask
from factory.teacher.embedded import EmbeddedTeacher
teacher = EmbeddedTeacher(TeacherSpec(), command=lambda weights, n_slots: [sys.executable, sys.argv[1], str(weights)])
ask(teacher, [Request((Message("user", "hi"),), max_tokens=5)])
if sys.argv[2] == "exception":
    raise RuntimeError
if sys.argv[2].startswith("SIG"):
    number = getattr(signal, sys.argv[2])
    if number != signal.SIGKILL:  # whoever runs tests in the background may have them ignored
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.kill(os.getpid(), number)
    threading.Event().wait()
"""


@pytest.mark.parametrize("ending", ["exit", "exception", "SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_the_child_ends_with_its_parent_however_that_ends(gguf: Path, ending: str) -> None:
    command = [sys.executable, "-c", PARENT, str(FAKE_LLAMA), ending]
    subprocess.run(command, check=False, stderr=subprocess.DEVNULL, timeout=60)
    assert is_gone(gguf, within_s=5.0)


def is_gone(gguf: Path, *, within_s: float) -> bool:
    """Return whether the fake llama.cpp stops answering on its port."""
    url = urlsplit(gguf.with_suffix(".address").read_text())
    deadline = time.monotonic() + within_s
    while True:
        try:
            socket.create_connection((url.hostname or "", url.port or 0), timeout=1).close()
        except ConnectionRefusedError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)


@pytest.mark.teacher
@pytest.mark.slow
def test_the_real_embedded_teacher_chooses_from_an_enum_and_says_how_sure_it_is(tmp_path: Path) -> None:
    try:
        find_weights()
    except ArtifactMissing as error:
        pytest.skip(str(error))
    schema = {"type": "string", "enum": ["PlayMusic", "GetWeather"]}
    text = 'Which label fits "will it rain in Paris tomorrow"? PlayMusic or GetWeather?'
    request = Request((Message("user", text),), max_tokens=16, schema=schema, top_logprobs=5)
    teacher = EmbeddedTeacher(TeacherSpec(concurrency=2), replies=Replies(tmp_path / "replies.log"))
    try:
        (answer,) = ask(teacher, [request])
    finally:
        teacher.close()
    assert isinstance(answer, Reply)
    assert (json.loads(answer.text), answer.finish_reason) == ("GetWeather", "stop")
    assert answer.logprobs[0].token.startswith('"')
    assert all(token.logprob <= 0 and len(token.top) == 5 for token in answer.logprobs)


def test_where_only_objects_are_taken_an_answer_is_wrapped_and_unwrapped_with_its_tokens() -> None:
    request = Request((Message("user", "x"),), max_tokens=5, schema={"type": "string", "enum": ["ab", "cd"]})
    payload = encode(request, model="m", only_objects=True)
    schema = payload["response_format"]["json_schema"]["schema"]
    assert schema["type"] == "object"
    assert schema["properties"]["answer"]["enum"] == ["ab", "cd"]
    tokens = [("{", ()), ('"answer":', ()), (' "', ((" '", -3.0),)), ("ab", (("cd", -2.0),)), ('"}', ())]
    written = Reply(
        text='{"answer": "ab"}',
        finish_reason="stop",
        prompt_tokens=1,
        completion_tokens=5,
        logprobs=tuple(TokenLogprob(token, -0.1, top) for token, top in tokens),
    )
    answer = decode(completion_of(written), payload)
    assert isinstance(answer, Reply)
    assert answer.text == '"ab"'
    assert [token.token for token in answer.logprobs] == ['"', "ab", '"']
    assert label_distribution(answer.logprobs, ["ab", "cd"]) is not None


def test_elsewhere_the_schema_goes_over_the_wire_as_it_is() -> None:
    request = Request((Message("user", "x"),), max_tokens=5, schema={"type": "string", "enum": ["ab", "cd"]})
    assert encode(request, model="m")["response_format"]["json_schema"]["schema"] == dict(request.schema or {})


@pytest.mark.teacher
@pytest.mark.slow
def test_a_generation_that_nobody_waits_for_any_more_is_stopped() -> None:
    try:
        find_weights()
    except ArtifactMissing as error:
        pytest.skip(str(error))
    teacher = EmbeddedTeacher(TeacherSpec(concurrency=1))

    def counting(max_tokens: int) -> Request:
        return Request((Message("user", "Count from 1 to 1000, all numbers, one a line."),), max_tokens=max_tokens)

    async def run() -> tuple[float, float]:
        await teacher.complete([counting(1)])
        started = time.monotonic()
        await teacher.complete([counting(10)])
        for_10 = time.monotonic() - started
        left_alone = asyncio.create_task(teacher.complete([counting(1600)]))
        await asyncio.sleep(for_10)
        left_alone.cancel()
        await asyncio.gather(left_alone, return_exceptions=True)
        started = time.monotonic()
        await teacher.complete([counting(2)])
        return for_10, time.monotonic() - started

    try:
        for_10, waited = asyncio.run(run())
    finally:
        teacher.close()
    assert waited < 60 * for_10  # going on to the end would take 159 times as long
