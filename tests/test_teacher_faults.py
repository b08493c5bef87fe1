"""A teacher behind a server that misbehaves: what stops the run, what costs one row, and what is never lost."""

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from factory.errors import FactoryError, TeacherRefused, TeacherUnavailable
from factory.spec import TeacherSpec
from factory.teacher import Abstain, Message, Reply, Request, ask
from factory.teacher.limits import Limits
from factory.teacher.openai import OpenAITeacher
from factory.teacher.replies import Replies
from tests.fault_server import FaultServer, Say, completion, hear_ctrl_c

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULT_KEY", KEY)


def teacher_at(url: str, replies: Path | None = None, **limits: Any) -> OpenAITeacher:
    spec = TeacherSpec(name="openai", model="small-model", base_url=f"{url}/v1", api_key_env="FAULT_KEY")
    chosen: dict[str, Any] = {"concurrency": 8, "timeout_s": 5.0, "first_delay_s": 0.01, "max_attempts": 4, **limits}
    return OpenAITeacher(spec, replies=Replies(replies) if replies else None, limits=Limits(**chosen))


def question(text: str = "hello", **more: Any) -> Request:
    return Request((Message("user", text),), max_tokens=20, **more)


def questions(n: int) -> list[Request]:
    return [question(f"question {number}") for number in range(n)]


def text_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def always(say: Say) -> Callable[[dict[str, Any], int], Say]:
    return lambda body, number: say


def once(say: Say) -> Callable[[dict[str, Any], int], Say]:
    return lambda body, number: say if number == 0 else Say()


# What stops the run


@pytest.mark.parametrize(
    ("status", "named"),
    [(401, "FAULT_KEY"), (403, "FAULT_KEY"), (402, "no money left"), (404, "small-model"), (405, "base_url")],
)
def test_a_final_refusal_costs_one_call_and_names_what_to_check(status: int, named: str) -> None:
    with FaultServer(always(Say(status, {"error": {"message": "no"}}))) as server:
        with pytest.raises(TeacherRefused, match=f"HTTP {status}") as caught:
            ask(teacher_at(server.url), questions(30))
        assert named in caught.value.hint
        assert len(server.bodies) == 1


def test_no_quota_left_is_final_although_it_looks_like_a_rate_limit() -> None:
    body = {"error": {"code": "insufficient_quota", "message": "pay"}}
    with FaultServer(always(Say(429, body))) as server:
        with pytest.raises(TeacherRefused, match="insufficient_quota"):
            ask(teacher_at(server.url), questions(3))
        assert len(server.bodies) == 1


def test_an_endpoint_that_is_down_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(TeacherUnavailable, match=r"4 attempts; the last: .*[Cc]onnect") as caught:
            ask(teacher_at(f"http://127.0.0.1:{unused.getsockname()[1]}"), questions(3))
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("say", "message"),
    [
        (Say(500, {"error": "boom"}), "HTTP 500"),
        (Say(529, b"overloaded"), "HTTP 529: overloaded"),
        (Say(429, {"error": "slow down"}), "HTTP 429"),
        (Say(end="reset"), "the last: "),
        (Say(200, b"<html>welcome to the hotel network</html>"), "no JSON but '<html>welcome"),
        (Say(200, b""), "no JSON but ''"),
        (Say(200, {"error": {"message": "overloaded"}}), "no chat completion but"),
        (Say(200, b"[1, 2]"), "no chat completion but"),
        (Say(200, b"{}", headers={"Content-Length": "50"}), "the last: "),
    ],
)
def test_what_may_pass_is_tried_again_and_ends_as_unavailable(say: Say, message: str, tmp_path: Path) -> None:
    path = tmp_path / "replies.log"
    with FaultServer(always(say)) as server:
        teacher = teacher_at(server.url, path, timeout_s=0.5)
        with pytest.raises(TeacherUnavailable, match=message):
            ask(teacher, [question()])
        assert len(server.bodies) == 4
        teacher.close()
    stored = Replies(path)
    assert len(stored) == 0
    stored.close()


def test_a_server_that_never_answers_times_out() -> None:
    with FaultServer(always(Say(end="hang"))) as server:
        started = time.monotonic()
        with pytest.raises(TeacherUnavailable, match=r"no answer within 0\.1 s"):
            ask(teacher_at(server.url, timeout_s=0.1), [question()])
        assert time.monotonic() - started < 3


def test_a_server_that_asks_to_wait_for_an_hour_ends_the_run_at_once() -> None:
    with FaultServer(always(Say(429, headers={"Retry-After": "3600"}))) as server:
        with pytest.raises(TeacherUnavailable, match="asks to wait 3600 s"):
            ask(teacher_at(server.url), questions(3))
        assert len(server.bodies) == 1


def test_what_is_on_the_wire_when_the_run_stops_is_still_stored(tmp_path: Path) -> None:
    def behave(body: dict[str, Any], number: int) -> Say:
        return Say(401) if text_of(body) == "question 5" else Say(delay_s=0.3 if number else 0)

    with FaultServer(behave) as server:
        with pytest.raises(TeacherRefused, match="HTTP 401"):
            ask(teacher_at(server.url, tmp_path / "replies.log"), questions(100))
        n_asked = len(server.bodies)
    assert n_asked <= 1 + 8
    assert len(Replies(tmp_path / "replies.log")) == n_asked - 1
    (failure,) = Replies(tmp_path / "replies.log").ledger.failures()
    assert (failure.asked, failure.reason) == ("question 5", "refused")


def test_a_redirect_into_nowhere_is_not_an_answer() -> None:
    with FaultServer(always(Say(302, b"", headers={"Location": "/elsewhere"}))) as server:
        with pytest.raises(FactoryError):
            ask(teacher_at(server.url, timeout_s=0.5), [question()])


# What passes


@pytest.mark.parametrize(
    "say", [Say(500), Say(503), Say(408), Say(409), Say(429), Say(end="reset"), Say(200, b"oops"), Say(end="hang")]
)
def test_one_failure_does_not_show(say: Say) -> None:
    with FaultServer(once(say)) as server:
        (answer,) = ask(teacher_at(server.url, timeout_s=0.5), [question()])
        assert isinstance(answer, Reply)
        assert len(server.bodies) == 2


@pytest.mark.parametrize("form", ["seconds", "date", "date of a clock that is wrong"])
def test_retry_after_is_obeyed_by_the_request_it_was_said_to_and_by_no_other(form: str) -> None:
    times: dict[str, list[float]] = {}
    wrong_s = 5_000_000 if form.endswith("wrong") else 0

    def behave(body: dict[str, Any], number: int) -> Say:
        seen = times.setdefault(text_of(body), [])
        seen.append(time.monotonic())
        # A date has whole seconds: up to one of the two is lost.
        now = time.time() + wrong_s
        value = "2" if form == "seconds" else formatdate(now + 3, usegmt=True)
        is_refused = text_of(body) == "question 3" and len(seen) == 1
        return Say(429, headers={"Retry-After": value, "Date": formatdate(now, usegmt=True)}) if is_refused else Say()

    with FaultServer(behave) as server:
        answers = ask(teacher_at(server.url), questions(20))
    assert all(isinstance(answer, Reply) for answer in answers)
    refused = times.pop("question 3")
    assert 1.95 <= refused[1] - refused[0] < 30
    assert max(max(seen) for seen in times.values()) < refused[1]  # nobody else waited


def test_no_more_requests_a_minute_than_the_spec_allows() -> None:
    times: list[float] = []
    with FaultServer(lambda body, number: times.append(time.monotonic()) or Say()) as server:
        ask(teacher_at(server.url, requests_per_minute=600.0), questions(16))
    assert times[-1] - times[0] >= 0.4  # ten in the first second, the rest a tenth of a second apart


def test_a_slow_call_is_made_twice_and_the_first_answer_counts(tmp_path: Path) -> None:
    def behave(body: dict[str, Any], number: int) -> Say:
        return Say(end="hang") if number == 3 else Say()

    with FaultServer(behave) as server:
        teacher = teacher_at(server.url, tmp_path / "replies.log", hedge_after_s=0.1, timeout_s=60.0)
        started = time.monotonic()
        answers = ask(teacher, questions(6))
        assert time.monotonic() - started < 30
        assert len(server.bodies) >= 7  # on a slow machine others may seem slow too
    assert all(isinstance(answer, Reply) for answer in answers)
    assert teacher.spending.calls == len(server.bodies)  # both are charged
    teacher.close()


# What costs one row


def test_a_request_that_is_refused_costs_its_own_row_only() -> None:
    def behave(body: dict[str, Any], number: int) -> Say:
        return Say(400, {"error": {"message": "context too long"}}) if text_of(body) == "question 3" else Say()

    with FaultServer(behave) as server:
        answers = ask(teacher_at(server.url), questions(6))
        assert len(server.bodies) == 6
    assert [isinstance(answer, Reply) for answer in answers] == [True, True, True, False, True, True]
    abstained = answers[3]
    assert isinstance(abstained, Abstain) and abstained.reason == "bad-request"
    assert "context too long" in abstained.raw


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (completion(""), "empty"),
        (completion(" \n"), "empty"),
        (completion(None), "empty"),
        (completion("", finish_reason="length"), "empty"),
        ({"choices": []}, "empty"),
        (completion(None, refusal="I must not"), "refusal"),
        (completion("I wi", finish_reason="content_filter"), "content-filter"),
        (completion(None, finish_reason="content_filter"), "content-filter"),
        ({"choices": ["what?"]}, "malformed"),
        ({"choices": [{"message": {"content": ["parts"]}}]}, "malformed"),
    ],
)
def test_a_reply_that_is_no_answer_becomes_an_abstention(body: dict[str, Any], reason: str) -> None:
    with FaultServer(lambda asked, number: Say(200, body) if text_of(asked) == "question 1" else Say()) as server:
        answers = ask(teacher_at(server.url), questions(3))
        assert len(server.bodies) == 3
    assert [isinstance(answer, Reply) for answer in answers] == [True, False, True]
    assert isinstance(answers[1], Abstain) and answers[1].reason == reason


def test_a_request_that_always_fails_costs_its_own_row_only_and_stands_in_the_ledger(tmp_path: Path) -> None:
    def behave(body: dict[str, Any], number: int) -> Say:
        return Say(500, {"error": "boom"}) if text_of(body) == "question 4" else Say()

    with FaultServer(behave) as server:
        teacher = teacher_at(server.url, tmp_path / "replies.log")
        answers = ask(teacher, questions(9))
        assert len(server.bodies) == 8 + 4
    assert [isinstance(answer, Reply) for answer in answers] == [n != 4 for n in range(9)]
    abstained = answers[4]
    assert isinstance(abstained, Abstain) and abstained.reason == "unavailable" and abstained.may_pass
    (failure,) = Replies(tmp_path / "replies.log").ledger.failures()
    assert (failure.reason, failure.attempts, failure.asked) == ("unavailable", 4, "question 4")
    assert "HTTP 500" in failure.detail
    assert teacher.spending.calls == 8
    teacher.close()


def test_what_each_failure_cost_is_in_the_ledger(tmp_path: Path) -> None:
    bodies = {"question 1": Say(400, {"error": "no"}), "question 2": Say(200, completion(None, refusal="I must not"))}
    with FaultServer(lambda body, number: bodies.get(text_of(body), Say())) as server:
        teacher = teacher_at(server.url, tmp_path / "replies.log")
        ask(teacher, questions(4))
        teacher.close()
    failures = {one.asked: one for one in Replies(tmp_path / "replies.log").ledger.failures()}
    assert {asked: (one.reason, one.attempts, one.completion_tokens) for asked, one in failures.items()} == {
        "question 1": ("bad-request", 1, 0),
        "question 2": ("refusal", 1, 5),
    }


def test_a_request_may_not_take_longer_than_its_deadline() -> None:
    def behave(body: dict[str, Any], number: int) -> Say:
        return Say(503, headers={"Retry-After": "60"}) if text_of(body) == "question 2" else Say()

    with FaultServer(behave) as server:
        started = time.monotonic()
        answers = ask(teacher_at(server.url, deadline_s=0.5), questions(4))
        assert time.monotonic() - started < 30
    assert [getattr(answer, "reason", "") for answer in answers] == ["", "", "deadline", ""]


def test_an_endpoint_that_goes_down_in_the_middle_stops_the_run() -> None:
    with FaultServer(lambda body, number: Say() if number < 20 else Say(502)) as server:
        with pytest.raises(TeacherUnavailable, match="HTTP 502"):
            ask(teacher_at(server.url), questions(200))
        # Those in flight when the last answer came, those that took their places, and four more: the clock is not ours.
        assert len(server.bodies) <= 20 + (8 + 8 + 4) * 4


def test_a_truncated_reply_is_a_reply_that_says_so() -> None:
    with FaultServer(always(Say(200, completion("and then", finish_reason="length")))) as server:
        (answer,) = ask(teacher_at(server.url), [question()])
    assert isinstance(answer, Reply) and answer.finish_reason == "length"


def test_a_server_that_does_not_count_tokens_still_works() -> None:
    body = {"choices": [{"message": {"content": "ok"}}], "usage": None}
    with FaultServer(always(Say(200, body))) as server:
        (answer,) = ask(teacher_at(server.url), [question()])
    assert answer == Reply("ok", "stop", 0, 0)


@pytest.mark.parametrize("refuses", [True, False])
def test_a_server_without_logprobs_still_works(refuses: bool) -> None:
    def behave(body: dict[str, Any], number: int) -> Say:
        if refuses and "logprobs" in body:
            return Say(400, {"error": {"message": "logprobs are not supported"}})
        return Say()

    with FaultServer(behave) as server:
        answers = ask(teacher_at(server.url), [question(str(number), top_logprobs=5) for number in range(3)])
        assert len(server.bodies) == (4 if refuses else 3)
    assert all(isinstance(answer, Reply) and answer.logprobs == () for answer in answers)


# What goes over the wire


def test_the_request_carries_model_seed_schema_and_key() -> None:
    schema = {"type": "string", "enum": ["a", "b"]}
    with FaultServer() as server:
        ask(teacher_at(server.url), [question(schema=schema, sample=3, top_logprobs=2)])
        (body,) = server.bodies
        assert server.keys == [f"Bearer {KEY}"]
    assert body["model"] == "small-model"
    assert body["seed"] == 3
    assert body["response_format"]["json_schema"] == {"name": "answer", "strict": True, "schema": schema}
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)


def test_no_more_calls_are_in_flight_than_allowed() -> None:
    with FaultServer(always(Say(delay_s=0.02))) as server:
        started = time.monotonic()
        ask(teacher_at(server.url, concurrency=4), questions(20))
        assert time.monotonic() - started >= 5 * 0.02


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with FaultServer() as server:
        assert isinstance(ask(teacher_at(server.url), [question()])[0], Reply)


# What is never lost, and never written


RUN = """
import sys
from pathlib import Path
from factory.spec import TeacherSpec
from factory.teacher import Message, Request, ask, open_teacher
spec = TeacherSpec(name="openai", model="m", base_url=sys.argv[1], concurrency=8)
teacher = open_teacher(spec, folder=Path(), outputs=Path(sys.argv[2]))
requests = [Request((Message("user", f"question {n}"),), max_tokens=20) for n in range(200)]
answers = ask(teacher, requests)
teacher.close()
print(sum(hasattr(answer, "text") for answer in answers))
"""


def start_run(server: FaultServer, outputs: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", RUN, f"{server.url}/v1", str(outputs)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=hear_ctrl_c)


@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGINT"])
def test_a_run_that_was_killed_loses_only_the_calls_in_flight(tmp_path: Path, signal_name: str) -> None:
    import signal

    with FaultServer(always(Say(delay_s=0.01))) as server:
        first = start_run(server, tmp_path)
        while len(server.bodies) < 100:
            assert first.poll() is None
            time.sleep(0.005)
        first.send_signal(signal.Signals[signal_name])
        first.communicate()
        assert first.returncode not in (0, None)
        assert len(server.bodies) < 200
        second = start_run(server, tmp_path)
        assert second.communicate()[0] == "200\n"
        assert len(server.bodies) <= 200 + 8


def test_two_builds_may_share_a_cache_file(tmp_path: Path) -> None:
    with FaultServer(always(Say(delay_s=0.01))) as server:
        builds = [start_run(server, tmp_path) for _ in range(2)]
        assert [build.communicate()[0] for build in builds] == ["200\n", "200\n"]
        n_asked = len(server.bodies)
        assert start_run(server, tmp_path).communicate()[0] == "200\n"
        assert len(server.bodies) == n_asked <= 400


def test_the_key_is_in_no_file_no_message_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def repeat_the_key(body: dict[str, Any], number: int) -> Say:
        said = f"your key is {KEY}"
        statuses = {"question 1": 400, "question 2": 200}
        return Say(statuses.get(text_of(body), 200), completion(said))

    with FaultServer(repeat_the_key) as server:
        teacher = teacher_at(server.url, tmp_path / "replies.log")
        answers = ask(teacher, questions(4))
        server.behave = always(Say(401, {"error": {"message": f"wrong key {KEY}"}}))
        with pytest.raises(TeacherRefused) as refused:
            ask(teacher, [question("new")])
        server.behave = always(Say(500, {"error": {"message": f"wrong key {KEY}"}}))
        with pytest.raises(TeacherUnavailable) as unavailable:
            ask(teacher, [question("new")])
        assert set(server.keys) == {f"Bearer {KEY}"}
    messages = [str(refused.value), refused.value.hint, str(unavailable.value), repr(answers), teacher.identity]
    assert not any(KEY in message for message in [*messages, caplog.text])
    lines = (tmp_path / "replies.log").read_text().splitlines()
    assert len(lines) == 3 and not any(KEY in line for line in lines)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()
    teacher.close()
