"""What attempts cost that brought no answer, and which of them stop the run: counted where the work is done."""

import asyncio
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from factory.errors import ArtifactError, TeacherRefused, TeacherUnavailable
from factory.events import Event, Warned, listening
from factory.spec import Budget, TeacherSpec
from factory.teacher import Abstain, Message, Reply, Request, ScriptedTeacher, ask
from factory.teacher.chat import _retry_after_s
from factory.teacher.engine import Engine
from factory.teacher.ledger import Failure, Ledger
from factory.teacher.limits import Limits, Pool
from factory.teacher.openai import OpenAITeacher
from factory.teacher.repair import ask_and_read
from factory.teacher.replies import Replies
from tests.fault_server import FaultServer, Say, completion

KEY = 'sk-se"cr/et-0123456789'
Body = dict[str, Any]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTEMPTS_KEY", KEY)


@contextmanager
def teacher_at(
    server: FaultServer, folder: Path | None = None, budget: Budget | None = None, **limits: Any
) -> Iterator[OpenAITeacher]:
    spec = TeacherSpec(
        name="openai",
        model="m",
        base_url=f"{server.url}/v1",
        api_key_env="ATTEMPTS_KEY",
        budget=budget or Budget(),
    )
    chosen: dict[str, Any] = {"concurrency": 8, "timeout_s": 5.0, "first_delay_s": 0.01, "max_attempts": 4, **limits}
    replies = Replies(folder / "replies.log") if folder is not None else None
    with closing(OpenAITeacher(spec, replies=replies, limits=Limits(**chosen))) as teacher:
        yield teacher


def row(number: int, **more: Any) -> Request:
    return Request((Message("user", f"row {number}"),), max_tokens=20, **more)


def rows(n: int) -> list[Request]:
    return [row(number) for number in range(n)]


def text_of(body: Body) -> str:
    return str(body["messages"][-1]["content"])


def kinds(answers: list[Reply | Abstain]) -> dict[str, int]:
    return dict(Counter(answer.reason if isinstance(answer, Abstain) else "ok" for answer in answers))


def failures(folder: Path) -> dict[str, Failure]:
    return {one.asked: one for one in Ledger(folder / "failures.jsonl").failures()}


def bad_rows(numbers: Mapping[int, Say] | set[int], say: Say | None = None) -> Callable[[Body, int], Say]:
    said = numbers if isinstance(numbers, Mapping) else dict.fromkeys(numbers, say or Say(500, {"error": "boom"}))
    return lambda body, number: said.get(int(text_of(body).split()[1]), Say())


# What is paid for


WHOLE = completion()


@pytest.mark.parametrize(
    ("fault", "limits"),
    [
        (Say(200, WHOLE, end="half"), {}),
        (Say(200, WHOLE, end="reset"), {}),
        (Say(200, b'{"choices": [{"mess'), {}),
        (Say(200, b"["), {}),
        (Say(200, {"choices": [{"finish_reason": "error"}]}), {}),
        (Say(504), {}),
        (Say(200, WHOLE, delay_s=0.5), {"timeout_s": 0.15}),
    ],
)
def test_an_answer_that_was_made_and_did_not_arrive_whole_is_charged(
    fault: Say, limits: dict[str, float], tmp_path: Path
) -> None:
    with FaultServer(lambda body, number: fault if number % 2 else Say()) as server:
        for _ in range(2):  # and remembered by the next run
            with teacher_at(server, tmp_path, Budget(calls=10), concurrency=4, **limits) as teacher:
                answers = ask(teacher, rows(30))
            assert teacher.spending.calls == 10
        assert len(server.bodies) == 10
    assert kinds(answers)["ok"] <= 8


def test_a_token_budget_holds_for_answers_that_cannot_be_read() -> None:
    with FaultServer(lambda body, number: Say(200, b"{") if number % 4 else Say()) as server:
        with teacher_at(server, budget=Budget(tokens=600)) as teacher:
            ask(teacher, rows(30))
        assert 0 < 15 * len(server.bodies) <= teacher.spending.tokens <= 600


def test_what_the_server_refused_is_not_charged(tmp_path: Path) -> None:
    with FaultServer(lambda body, number: Say(503) if number % 2 else Say()) as server:
        with teacher_at(server, tmp_path, Budget(calls=10), max_attempts=30) as teacher:
            assert kinds(ask(teacher, rows(10))) == {"ok": 10}
        with teacher_at(server, tmp_path, Budget(calls=10)) as teacher:
            assert kinds(ask(teacher, rows(10))) == {"ok": 10}
            assert teacher.spending.calls == 10


class SlowToHangUp:
    """Answers the first call once it is made a second time; that the second hangs up is seen, and may take long."""

    identity = "slow-to-hang-up"

    def __init__(self, hang_up: Callable[[], object]) -> None:
        self.n_sent = 0
        self._hang_up = hang_up
        self._is_hedged = asyncio.Event()

    def encode(self, request: Request) -> Body:
        return {"asked": request.messages[-1].content}

    async def connect(self) -> "SlowToHangUp":
        return self

    async def send(self, request: Request, payload: Mapping[str, Any]) -> Body:
        self.n_sent += 1
        if self.n_sent == 2:
            self._is_hedged.set()
            try:
                await asyncio.Event().wait()
            finally:
                self._hang_up()
        await self._is_hedged.wait()
        return completion()

    async def aclose(self) -> None:
        pass


def test_an_answer_is_not_thrown_away_because_hanging_up_on_its_hedge_outlasts_the_time_limit() -> None:
    endpoint = SlowToHangUp(lambda: time.sleep(1.1))  # the machine stalls, so the loop does not run
    engine = Engine(endpoint, limits=Limits(hedge_after_s=0.01, timeout_s=1.0, first_delay_s=0.0))
    (answer,) = asyncio.run(engine.complete([row(0)]))
    assert isinstance(answer, Reply)
    assert engine.spending.calls == endpoint.n_sent == 2


def test_cancelled_while_it_hangs_up_on_a_hedge_a_run_has_paid_for_the_answer_too() -> None:
    async def run() -> None:
        running = asyncio.create_task(engine.complete([row(0)]))
        cancel.append(running.cancel)
        with pytest.raises(asyncio.CancelledError):
            await running

    cancel: list[Callable[[], bool]] = []
    endpoint = SlowToHangUp(lambda: cancel[0]())
    engine = Engine(endpoint, limits=Limits(hedge_after_s=0.01))
    asyncio.run(run())
    assert engine.spending.calls == endpoint.n_sent == 2


def test_an_answer_that_cannot_be_stored_is_charged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(*_: object) -> None:
        raise ArtifactError("the disk is full")

    with FaultServer() as server:
        with teacher_at(server, tmp_path, Budget(calls=1)) as teacher, monkeypatch.context() as patched:
            patched.setattr(Replies, "put", put)
            with pytest.raises(ArtifactError, match="the disk is full"):
                ask(teacher, rows(1))
            assert teacher.spending.calls == 1
            assert kinds(ask(teacher, rows(2))) == {"budget": 2}
        with teacher_at(server, tmp_path, Budget(calls=1)) as teacher:
            assert kinds(ask(teacher, rows(2))) == {"budget": 2}
        assert len(server.bodies) == 1


def test_hedges_are_still_paid_for_in_later_runs(tmp_path: Path) -> None:
    with FaultServer(lambda body, number: Say(delay_s=0.3)) as server:
        for n in (5, 10, 15):
            with teacher_at(server, tmp_path, Budget(calls=10), hedge_after_s=0.05, concurrency=4) as teacher:
                ask(teacher, rows(n))
        assert len(server.bodies) == 10


def test_what_was_paid_for_is_counted_before_anything_new_is_asked(tmp_path: Path) -> None:
    with FaultServer(bad_rows({2, 3})) as server:
        with teacher_at(server, tmp_path, Budget(calls=6)) as teacher:
            assert kinds(ask(teacher, rows(8))) == {"unavailable": 2, "ok": 6}
        server.behave = lambda body, number: Say()
        n_before = len(server.bodies)
        with teacher_at(server, tmp_path, Budget(calls=6)) as teacher:
            assert kinds(ask(teacher, rows(8))) == {"budget": 2, "ok": 6}
        assert len(server.bodies) == n_before


def test_a_final_refusal_is_remembered_and_costs_a_call_in_every_run(tmp_path: Path) -> None:
    bad = {number: Say(400, {"error": "no"}) for number in range(1, 20, 3)}
    with FaultServer(bad_rows(bad)) as server:
        for _ in range(3):
            with teacher_at(server, tmp_path, Budget(calls=30)) as teacher:
                assert kinds(ask(teacher, rows(20))) == {"ok": 13, "bad-request": 7}
                assert teacher.spending.calls == 20
        assert len(server.bodies) == 20


def test_a_server_that_counts_backwards_does_not_undo_the_budget() -> None:
    body = {**WHOLE, "usage": {"prompt_tokens": -100_000, "completion_tokens": 1}}
    with (
        FaultServer(lambda asked, number: Say(200, body)) as server,
        teacher_at(server, budget=Budget(tokens=500)) as teacher,
    ):
        assert kinds(ask(teacher, rows(50)))["budget"] > 40
        assert 0 < teacher.spending.tokens <= 500


def test_a_reply_with_half_a_count_is_a_reply() -> None:
    body = {**WHOLE, "usage": {"prompt_tokens": 10, "completion_tokens": None}}
    with FaultServer(lambda asked, number: Say(200, body)) as server, teacher_at(server) as teacher:
        assert ask(teacher, [row(1)]) == [Reply("ok", "stop", 0, 0)]
        assert teacher.spending.tokens > 15  # the bound


def test_a_server_that_counts_more_than_can_be_widens_the_bounds_and_people_hear_of_it() -> None:
    body = {**WHOLE, "usage": {"prompt_tokens": 10, "completion_tokens": 500}}
    heard: list[Event] = []
    with (
        FaultServer(lambda asked, number: Say(200, body)) as server,
        teacher_at(server, budget=Budget(tokens=2000), concurrency=32) as teacher,
    ):
        with listening(heard.append):
            assert kinds(ask(teacher, rows(50)))["ok"] == 3
        assert teacher.spending.tokens <= 2000
    assert sum(isinstance(event, Warned) and "500 written" in event.message for event in heard) == 1


# What stops the run, and what costs one row


@pytest.mark.parametrize(
    "bad",
    [
        {0},
        {20, 50, 80},
        {97, 98, 99},
        {0, 1, 2, 3, 4, 5, 6, 7, 99} - {1},
    ],
)
def test_rows_that_always_fail_do_not_stop_the_others(bad: set[int], tmp_path: Path) -> None:
    with FaultServer(bad_rows(bad)) as server, teacher_at(server, tmp_path) as teacher:
        assert kinds(ask(teacher, rows(100))) == {"ok": 100 - len(bad), "unavailable": len(bad)}
    assert set(failures(tmp_path)) == {f"row {number}" for number in bad}


def test_rows_given_up_after_their_neighbours_were_answered_cast_no_doubt_on_the_endpoint() -> None:
    with FaultServer(bad_rows({1, 2, 3})) as server:
        with teacher_at(server, concurrency=30, first_delay_s=0.5, max_delay_s=0.5) as teacher:
            assert kinds(ask(teacher, rows(30))) == {"ok": 27, "unavailable": 3}
            assert teacher._engine.is_proven


def test_while_the_first_row_is_tried_again_the_second_is_asked() -> None:
    with FaultServer(bad_rows({0: Say(end="hang")})) as server:
        started = time.monotonic()
        with teacher_at(server, timeout_s=1.0, max_attempts=2) as teacher:
            assert kinds(ask(teacher, rows(20))) == {"ok": 19, "unavailable": 1}
        assert time.monotonic() - started < 10


def test_rows_whose_endpoint_is_down_are_in_the_ledger(tmp_path: Path) -> None:
    with FaultServer(lambda body, number: Say(500)) as server, teacher_at(server, tmp_path) as teacher:
        with pytest.raises(TeacherUnavailable, match="HTTP 500"):
            ask(teacher, rows(30))
        assert len(server.bodies) <= 3 * 4  # two to be sure, and the one that began meanwhile
    assert {one.reason for one in failures(tmp_path).values()} == {"unavailable"}
    assert "row 0" in failures(tmp_path)


@pytest.mark.parametrize(
    "say",
    [
        Say(429, headers={"Retry-After": "3600"}),
        *(Say(status, b"") for status in (206, 226, 300, 404, 410, 418, 421, 423, 424, 426, 431, 451, 499)),
        Say(400, {"error": {"message": "Model Not Exist"}}),
    ],
)
def test_what_stops_a_run_at_its_start_costs_one_row_later(say: Say, tmp_path: Path) -> None:
    with FaultServer(bad_rows({9: say})) as server, teacher_at(server, tmp_path) as teacher:
        assert kinds(ask(teacher, rows(20))) == {"ok": 19, "unavailable": 1}
        assert len(server.bodies) == 20
    assert failures(tmp_path)["row 9"].attempts == 1
    with FaultServer(lambda body, number: say) as server, teacher_at(server, tmp_path) as teacher:
        with pytest.raises((TeacherRefused, TeacherUnavailable)):
            ask(teacher, rows(20))
        assert len(server.bodies) == 1
    assert "row 0" in failures(tmp_path)


@pytest.mark.parametrize(
    "say",
    [
        Say(400, {"error": {"message": "Model Not Exist", "type": "invalid_request_error"}}),
        Say(400, {"error": {"message": "API key not valid", "status": "INVALID_ARGUMENT"}}),
        Say(400, {"error": {"code": "model_not_found"}}),
        Say(200, {"error": {"code": 401, "message": "no"}}),
        Say(200, {"error": {"code": "invalid_api_key"}}),
    ],
)
def test_a_wrong_key_or_model_costs_one_call_however_it_is_said(say: Say) -> None:
    with FaultServer(lambda body, number: say) as server, teacher_at(server) as teacher:
        with pytest.raises(TeacherRefused):
            ask(teacher, rows(30))
        assert len(server.bodies) == 1


def test_a_server_that_refuses_whatever_it_is_asked_is_not_asked_everything(tmp_path: Path) -> None:
    with FaultServer(lambda body, number: Say(400, {"error": "odd"})) as server:
        with teacher_at(server, tmp_path) as teacher, pytest.raises(TeacherRefused, match="the first 2 requests"):
            ask(teacher, rows(30))
        assert len(server.bodies) == 2
        server.behave = lambda body, number: Say()  # somebody mended it: nothing was held to be final
        with teacher_at(server, tmp_path) as teacher:
            assert kinds(ask(teacher, rows(30))) == {"ok": 30}


def test_a_long_prompt_is_not_mistaken_for_a_wrong_model() -> None:
    say = Say(400, {"error": {"message": "This model's maximum context length is 4097 tokens"}})
    with FaultServer(bad_rows({0: say})) as server, teacher_at(server) as teacher:
        assert kinds(ask(teacher, rows(5))) == {"bad-request": 1, "ok": 4}


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_the_server_does_not_take_is_not_tried_again(status: int) -> None:
    with FaultServer(bad_rows({3: Say(status)})) as server, teacher_at(server) as teacher:
        assert kinds(ask(teacher, rows(6))) == {"ok": 5, "bad-request": 1}
        assert len(server.bodies) == 6


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"choices":' * 200_000, b'{"choices": [' + b"[" * 200_000])
def test_an_answer_that_is_nested_without_end_costs_its_own_row_only(body: bytes) -> None:
    with FaultServer(bad_rows({5: Say(200, body)})) as server, teacher_at(server) as teacher:
        assert kinds(ask(teacher, rows(20))) == {"ok": 19, "unavailable": 1}


def test_an_error_nobody_foresaw_costs_its_own_row_only(tmp_path: Path) -> None:
    def answer(request: Request) -> str | Exception:
        return ZeroDivisionError("oops") if request.messages[0].content == "row 3" else "ok"

    teacher = ScriptedTeacher(answer, replies=Replies(tmp_path / "replies.log"), limits=Limits(first_delay_s=0.001))
    assert kinds(ask(teacher, rows(9))) == {"ok": 8, "unavailable": 1}
    teacher.close()
    assert "ZeroDivisionError: oops" in failures(tmp_path)["row 3"].detail


@pytest.mark.parametrize("value", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 99 Jan", "nan", "", ",,,"])
def test_a_date_that_is_none_says_nothing(value: str) -> None:
    assert _retry_after_s({"retry-after": value}) is None
    assert _retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT", "date": value}) == 0.0


# Waits


def test_a_deadline_bounds_an_attempt_too() -> None:
    with (
        FaultServer(bad_rows({2: Say(end="hang")})) as server,
        teacher_at(server, deadline_s=0.5, timeout_s=60.0) as teacher,
    ):
        started = time.monotonic()
        assert kinds(ask(teacher, rows(5))) == {"ok": 4, "deadline": 1}
        assert time.monotonic() - started < 20


def test_a_deadline_bounds_the_wait_for_the_pace_too() -> None:
    with FaultServer() as server, teacher_at(server, deadline_s=2.0, requests_per_minute=6.0) as teacher:
        started = time.monotonic()
        assert kinds(ask(teacher, rows(3))) == {"ok": 1, "deadline": 2}
        assert time.monotonic() - started < 5


def test_requests_that_were_told_to_wait_let_the_others_pass() -> None:
    times: dict[str, list[float]] = {}

    def behave(body: Body, number: int) -> Say:
        seen = times.setdefault(text_of(body), [])
        seen.append(time.monotonic())
        told = text_of(body) in {f"row {n}" for n in range(1, 5)} and len(seen) == 1
        return Say(429, headers={"Retry-After": "3"}) if told else Say()

    with FaultServer(behave) as server, teacher_at(server, concurrency=4) as teacher:
        assert kinds(ask(teacher, rows(60))) == {"ok": 60}
    assert max(seen[-1] for text, seen in times.items() if len(seen) == 1) < min(
        seen[1] for seen in times.values() if len(seen) == 2
    )


def test_a_retry_that_waits_for_money_and_a_new_row_that_waits_for_a_slot_do_not_wait_for_each_other() -> None:
    with (
        FaultServer(lambda body, number: Say(200, b"oops") if number == 1 else Say()) as server,
        teacher_at(server, budget=Budget(calls=3), concurrency=1) as teacher,
    ):
        assert kinds(ask(teacher, rows(4)))["ok"] == 2
        assert len(server.bodies) == 3


def test_hedges_work_when_every_slot_is_taken() -> None:
    seen: Counter[str] = Counter()

    def behave(body: Body, number: int) -> Say:
        seen[text_of(body)] += 1
        return Say(end="hang") if seen[text_of(body)] == 1 and number else Say()

    with FaultServer(behave) as server, teacher_at(server, hedge_after_s=0.1, timeout_s=60.0) as teacher:
        started = time.monotonic()
        assert kinds(ask(teacher, rows(9))) == {"ok": 9}
        assert time.monotonic() - started < 30


def test_hedges_take_from_the_allowance_of_requests() -> None:
    with FaultServer(lambda body, number: Say(delay_s=0.4)) as server:
        started = time.monotonic()
        with teacher_at(server, hedge_after_s=0.05, requests_per_minute=120.0) as teacher:
            ask(teacher, rows(3))
        assert len(server.bodies) <= 2 * (time.monotonic() - started) + 3


@pytest.mark.parametrize(("allowance", "n_calls"), [({}, 2), ({"requests_per_minute": 30.0}, 1)])
def test_a_hedge_does_not_wait_for_its_turn(allowance: dict[str, float], n_calls: int) -> None:
    """A second call that may only be made when the first has long been answered is not made at all."""
    with FaultServer(lambda body, number: Say(delay_s=0.4)) as server:
        with teacher_at(server, hedge_after_s=0.05, **allowance) as teacher:
            assert kinds(ask(teacher, rows(1))) == {"ok": 1}
        assert len(server.bodies) == n_calls


def test_the_allowance_of_tokens_is_kept() -> None:
    times: list[float] = []
    with (
        FaultServer(lambda body, number: times.append(time.monotonic()) or Say()) as server,
        teacher_at(server, tokens_per_minute=6000.0) as teacher,
    ):
        ask(teacher, rows(8))
    n_tokens = (len("row 0") + 64) / 4 + 20
    assert times[-1] - times[0] >= 0.8 * (8 * n_tokens / 100 - 1)


def test_a_storm_of_refusals_narrows_the_pool() -> None:
    def behave(body: Body, number: int) -> Say:
        return Say(429, {"error": "slow down"}) if 1 <= number < 120 else Say(delay_s=0.02)

    widths: list[float] = []
    saw = Pool.saw

    def seen(self: Pool, *, refused: bool) -> None:
        saw(self, refused=refused)
        widths.append(self.width)

    with pytest.MonkeyPatch.context() as patch, FaultServer(behave) as server:
        patch.setattr(Pool, "saw", seen)
        with teacher_at(server, concurrency=16, max_attempts=30, max_delay_s=0.02) as teacher:
            assert kinds(ask(teacher, rows(40))) == {"ok": 40}
    assert min(widths) < 8


# The ledger


def test_rows_that_the_budget_refused_are_in_the_ledger_once(tmp_path: Path) -> None:
    with FaultServer() as server:
        for _ in range(2):
            with teacher_at(server, tmp_path, Budget(calls=2)) as teacher:
                assert kinds(ask(teacher, rows(5))) == {"ok": 2, "budget": 3}
    noted = list(Ledger(tmp_path / "failures.jsonl").failures())
    assert [(one.asked, one.reason, one.attempts) for one in noted] == [(f"row {n}", "budget", 0) for n in (2, 3, 4)]


def test_what_cannot_be_read_even_when_asked_again_is_in_the_ledger_once_with_its_cost(tmp_path: Path) -> None:
    with FaultServer(lambda body, number: Say(200, completion("not json"))) as server:
        for _ in range(2):
            with teacher_at(server, tmp_path) as teacher:
                ask_and_read(teacher, [row(1)], lambda reply: Abstain("unparseable", reply.text), most_tokens=50)
    (failure,) = Ledger(tmp_path / "failures.jsonl").failures()
    assert (failure.asked, failure.reason, failure.attempts) == ("row 1", "unparseable", 2)
    assert (failure.prompt_tokens, failure.completion_tokens, failure.detail) == (20, 10, "not json")


def test_attempts_that_brought_nothing_have_a_cost(tmp_path: Path) -> None:
    with FaultServer(bad_rows({1: Say(200, b"oops")})) as server, teacher_at(server, tmp_path) as teacher:
        ask(teacher, rows(3))
    failure = failures(tmp_path)["row 1"]
    assert failure.attempts == 4
    assert failure.completion_tokens == 4 * 20 and failure.prompt_tokens > 0


def failure(key: str) -> Failure:
    return Failure(key, "e", "empty", 1, 1.0, 0, 0, 0.0, "asked", "detail")


def test_a_torn_line_of_the_ledger_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    ledger = Ledger(path)
    ledger.note(failure("1"))
    path.write_bytes(path.read_bytes()[:-10])
    ledger.note(failure("2"))
    ledger.note(failure("3"))
    assert ([one.key for one in ledger.failures()], ledger.n_damaged) == (["2", "3"], 1)


# What the server says, and where it ends up


def test_a_build_from_the_store_reads_what_a_live_one_read(tmp_path: Path) -> None:
    body = b'{"choices":[{"message":{"content":"hi \\ud83d there"}}]}'
    answers = []
    with FaultServer(lambda asked, number: Say(200, body)) as server:
        for _ in range(2):
            with teacher_at(server, tmp_path) as teacher:
                answers += ask(teacher, [row(1)])
    texts = [answer.text for answer in answers if isinstance(answer, Reply)]
    assert texts == ["hi ? there"] * 2


@pytest.mark.parametrize("written", ["plain", "slashes", "numbers"])
def test_the_key_is_blotted_out_however_it_is_written(
    written: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = b'{"choices": [{"message": {"content": "your key is KEY", "KEY": 1}}]}'
    plain = KEY.replace('"', '\\"')
    numbers = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    said = {"plain": plain, "slashes": plain.replace("/", "\\/"), "numbers": numbers}[written]
    say = Say(200, body.replace(b"KEY", said.encode()))
    with FaultServer(lambda asked, number: say) as server, teacher_at(server, tmp_path) as teacher:
        (answer,) = ask(teacher, [row(1)])
        server.behave = lambda asked, number: Say(400, b'{"error": "bad key ' + said.encode() + b'"}')
        answers = ask(teacher, [row(2)])
    assert isinstance(answer, Reply) and answer.text == "your key is ***"
    for text in (repr(answers), caplog.text, *(path.read_text() for path in tmp_path.iterdir())):
        assert not any(form in text for form in (KEY, plain, said))


def test_the_first_choice_is_the_one_with_the_lowest_number() -> None:
    choices = [{"index": n, "message": {"content": f"choice {n}"}} for n in (1, 0)]
    with FaultServer(lambda body, number: Say(200, {"choices": choices})) as server, teacher_at(server) as teacher:
        (answer,) = ask(teacher, [row(1)])
    assert isinstance(answer, Reply) and answer.text == "choice 0"


def test_an_answer_that_broke_off_is_asked_for_again() -> None:
    def behave(body: Body, number: int) -> Say:
        return Say(200, completion("half an ans", finish_reason="error")) if number == 0 else Say()

    with FaultServer(behave) as server, teacher_at(server) as teacher:
        (answer,) = ask(teacher, [row(1)])
        assert isinstance(answer, Reply) and answer.text == "ok"
        assert teacher.spending.calls == 2


def test_what_is_stored_is_what_was_sent_where_a_server_has_no_log_probabilities(tmp_path: Path) -> None:
    def behave(body: Body, number: int) -> Say:
        return Say(400, {"error": {"message": "logprobs are not supported"}}) if "logprobs" in body else Say()

    asked = [row(number, top_logprobs=5) for number in range(4)]
    with FaultServer(behave) as server:
        with teacher_at(server, tmp_path, Budget(calls=5)) as teacher:
            assert kinds(ask(teacher, asked)) == {"ok": 4}
            assert teacher.spending.calls == len(server.bodies) == 5
        with closing(Replies(tmp_path / "replies.log")) as stored:
            # They are sent side by side, so they arrive and are stored in any order.
            kept = sorted(str(one.payload["messages"]) for one in stored.exchanges())
            assert kept == sorted(str(body["messages"]) for body in server.bodies[1:])
            assert all(dict(one.payload) in server.bodies[1:] for one in stored.exchanges())
        with teacher_at(server, tmp_path) as teacher:  # it is known by now
            assert kinds(ask(teacher, asked)) == {"ok": 4}
        assert len(server.bodies) == 5


KILLED = """
import sys
from pathlib import Path
from factory.spec import Budget, TeacherSpec
from factory.teacher import Message, Request, ask, open_teacher
spec = TeacherSpec(name="openai", model="m", base_url=sys.argv[1], concurrency=3, budget=Budget(calls=8))
teacher = open_teacher(spec, folder=Path(), outputs=Path(sys.argv[2]))
answers = ask(teacher, [Request((Message("user", f"row {number}"),), max_tokens=20) for number in range(8)])
print(sum(hasattr(answer, "text") for answer in answers))
"""


def test_a_run_that_is_killed_again_and_again_stays_within_its_budget(tmp_path: Path) -> None:
    """What was on the wire when the process was killed may have been answered, and charged: it counts."""

    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", KILLED, f"{server.url}/v1", str(tmp_path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with FaultServer(lambda body, number: Say(end="hang") if number > 2 else Say()) as server:
        for _ in range(3):
            n_before = len(server.bodies)
            with start() as process:
                while process.poll() is None and len(server.bodies) == n_before:
                    time.sleep(0.01)
                time.sleep(0.2)
                process.kill()
        n_sent = len(server.bodies)
        assert 3 < n_sent <= 8
        server.behave = lambda body, number: Say()
        out, _ = start().communicate()
        assert len(server.bodies) == 8
    assert int(out) == 3 + 8 - n_sent


def test_cancelled_with_calls_in_flight_a_run_has_paid_for_them(tmp_path: Path) -> None:

    async def run(teacher: OpenAITeacher) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await teacher.complete(rows(8))

    with FaultServer(lambda body, number: Say(end="hang") if number > 2 else Say()) as server:
        with teacher_at(server, tmp_path, Budget(calls=8), concurrency=3) as teacher:
            asyncio.run(run(teacher))
        n_sent = len(server.bodies)
        assert 3 < n_sent <= 6
        server.behave = lambda body, number: Say()
        with teacher_at(server, tmp_path, Budget(calls=8)) as teacher:
            answers = ask(teacher, rows(8))
        assert len(server.bodies) == 8
    assert kinds(answers)["ok"] == 3 + 8 - n_sent
