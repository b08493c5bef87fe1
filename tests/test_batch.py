"""Teachers in `mode: batch`, behind a Batch API that misbehaves: nothing lost, nothing mixed up, nothing paid twice."""

import json
import logging
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from factory.errors import ArtifactCorrupt, TeacherRefused, TeacherUnavailable
from factory.events import Event, Progressed, Warned, listening
from factory.spec import Budget, TeacherSpec
from factory.teacher import Abstain, Message, Reply, Request, ask, open_teacher
from factory.teacher.batch_service import BatchRules
from factory.teacher.budget import upper_bound
from factory.teacher.ledger import Ledger
from factory.teacher.limits import Limits
from factory.teacher.openai import OpenAITeacher
from factory.teacher.replies import Replies
from tests.batch_server import Answer, BatchServer, Body, text_of
from tests.fault_server import FaultServer, completion, hear_ctrl_c

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_KEY", KEY)


def teacher_at(
    server: BatchServer | FaultServer, folder: Path, budget: Budget | None = None, **rules: Any
) -> OpenAITeacher:
    url = server.url if isinstance(server, BatchServer) else f"{server.url}/v1"
    mode: Any = "batch" if isinstance(server, BatchServer) else "live"
    spec = TeacherSpec(
        name="openai", model="m", base_url=url, api_key_env="BATCH_KEY", mode=mode, budget=budget or Budget()
    )
    chosen = {"gather_s": 0.05, "first_poll_s": 0.01, "longest_poll_s": 0.05, "patience_s": 2.0, **rules}
    limits = Limits(first_delay_s=0.01, timeout_s=5.0)
    return OpenAITeacher(spec, replies=Replies(folder / "replies.log"), limits=limits, rules=BatchRules(**chosen))


def asked_of(teacher: OpenAITeacher, requests: list[Request]) -> list[Reply | Abstain]:
    """Ask once, close, and check that nobody got the answer to something else."""
    try:
        answers = ask(teacher, requests)
    finally:
        teacher.close()
    for request, answer in zip(requests, answers, strict=True):
        if isinstance(answer, Reply):
            assert answer.text == f"answer to {request.messages[-1].content}"
    return answers


def question(text: str, **more: Any) -> Request:
    return Request((Message("user", text),), max_tokens=20, **more)


def questions(n: int) -> list[Request]:
    return [question(f"question {number}") for number in range(n)]


def reasons(answers: list[Reply | Abstain]) -> list[str]:
    return [answer.reason if isinstance(answer, Abstain) else "" for answer in answers]


def remembered(folder: Path) -> list[Body]:
    found: list[Body] = json.loads((folder / "batches.json").read_text())
    return found


def failing(method: str, start: str, say: Answer, *, times: int = 3) -> Callable[[str, str], Answer | None]:
    left = [times]

    def fault(was: str, path: str) -> Answer | None:
        if was == method and path.startswith(start) and left[0]:
            left[0] -= 1
            return say
        return None

    return fault


# One batch, as it should be


def test_all_requests_go_into_one_batch_and_every_answer_to_its_own_request(tmp_path: Path) -> None:
    with BatchServer() as server:
        answers = asked_of(teacher_at(server, tmp_path), questions(30))
        assert reasons(answers) == [""] * 30
        assert len(server.batches) == 1
        assert server.submitted == [f"question {n}" for n in range(30)]
    assert remembered(tmp_path) == []


def test_a_line_holds_the_payload_and_the_key_of_a_live_call_so_that_live_finds_the_reply(tmp_path: Path) -> None:
    schema = {"type": "string", "enum": ["b", "a"]}
    asked = question("what? \u2028\U0001f600", sample=3, schema=schema, top_logprobs=2)
    with BatchServer() as server:
        asked_of(teacher_at(server, tmp_path), [asked])
        (line,) = server.lines(server.batches[0])
        with closing(Replies(tmp_path / "replies.log")) as stored:
            (exchange,) = stored.exchanges()
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        assert line["custom_id"] == exchange.key
        assert line["body"] == exchange.payload
        spec = TeacherSpec(name="openai", model="m", base_url=server.url, api_key_env="BATCH_KEY")
        live = OpenAITeacher(spec, replies=Replies(tmp_path / "replies.log"))
        n_calls = len(server.calls)
        (answer,) = asked_of(live, [asked])
        assert isinstance(answer, Reply) and answer.from_cache
        assert len(server.calls) == n_calls


def test_what_is_in_the_cache_is_not_sent_and_equal_requests_are_sent_once(tmp_path: Path) -> None:
    with BatchServer() as server:
        asked_of(teacher_at(server, tmp_path), questions(5))
        answers = asked_of(teacher_at(server, tmp_path), [*questions(8), *questions(8)])
        assert [answer.from_cache for answer in answers[:8] if isinstance(answer, Reply)] == [True] * 5 + [False] * 3
        assert server.submitted[5:] == ["question 5", "question 6", "question 7"]
        n_calls = len(server.calls)
        asked_of(teacher_at(server, tmp_path), questions(8))
        assert len(server.calls) == n_calls


def test_the_defaults_work_through_the_spec_as_well(tmp_path: Path) -> None:
    with BatchServer() as server:
        spec = TeacherSpec(name="openai", model="m", base_url=server.url, mode="batch")
        teacher = open_teacher(spec, folder=tmp_path, outputs=tmp_path / "new")
        assert isinstance(ask(teacher, questions(1))[0], Reply)
        teacher.close()


@pytest.mark.parametrize(("rules", "sizes"), [({"max_requests": 4}, [4, 4, 2]), ({"max_bytes": 700}, [2] * 5)])
def test_files_are_no_longer_than_the_service_takes_them(tmp_path: Path, rules: Any, sizes: list[int]) -> None:
    with BatchServer() as server:
        assert reasons(asked_of(teacher_at(server, tmp_path, **rules), questions(10))) == [""] * 10
        assert [len(server.lines(batch)) for batch in server.batches] == sizes
        assert Counter(server.submitted) == Counter(f"question {n}" for n in range(10))


def test_whoever_waits_is_told_how_far_it_is(tmp_path: Path) -> None:
    def status(batch: Body) -> str:
        batch["request_counts"] = {"total": 6, "completed": batch.get("polls", 0), "failed": 0}
        batch["polls"] = batch.get("polls", 0) + 2
        return "completed" if batch["polls"] > 6 else "in_progress"

    seen: list[Event] = []
    with BatchServer(status=status) as server, listening(seen.append):
        asked_of(teacher_at(server, tmp_path), questions(6))
    told = [
        (event.done, event.total) for event in seen if isinstance(event, Progressed) and "sending" not in event.note
    ]
    assert told == [(0, 6), (2, 6), (4, 6), (6, 6)]


# Files that are not as they should be


def shuffled_and_doubled(lines: list[bytes]) -> bytes:
    rng = random.Random(7)
    lines = [*lines, *rng.sample(lines, len(lines) // 2)]
    rng.shuffle(lines)
    return b"".join(lines)


def test_lines_may_come_in_any_order_and_twice(tmp_path: Path) -> None:
    with BatchServer(mangle=shuffled_and_doubled) as server:
        assert reasons(asked_of(teacher_at(server, tmp_path), questions(40))) == [""] * 40
    with closing(Replies(tmp_path / "replies.log")) as stored:
        assert len(stored) == 40


@pytest.mark.parametrize(
    "strange",
    [
        b"\n",
        b"[]\n",
        b"null\n",
        b"\xff\xfe\n",
        b'{"custom_id": 5}\n',
        b'{"custom_id": "%s", "response": {"status_code": 200, "body": {"choices": [{"message": {}}]}}}\n'
        % (b"0" * 64),
    ],
)
def test_a_line_that_is_not_ours_hurts_nobody(tmp_path: Path, strange: bytes) -> None:
    with BatchServer(mangle=lambda lines: strange + strange.join(lines) + strange) as server:
        assert reasons(asked_of(teacher_at(server, tmp_path), questions(3))) == [""] * 3


def test_a_line_that_is_missing_leaves_its_row_open_and_is_asked_again(tmp_path: Path) -> None:
    with BatchServer(mangle=lambda lines: b"".join(lines[:2] + lines[3:])) as server:
        answers = asked_of(teacher_at(server, tmp_path), questions(5))
        assert reasons(answers) == ["", "", "unavailable", "", ""]
        assert isinstance(answers[2], Abstain) and answers[2].may_pass
        (failure,) = Ledger(tmp_path / "failures.jsonl").failures()
        assert (failure.reason, failure.asked) == ("unavailable", "question 2")
        assert "batch_0 completed without an answer" in failure.detail
        assert remembered(tmp_path) == []
        server.mangle = b"".join
        assert reasons(asked_of(teacher_at(server, tmp_path), questions(5))) == [""] * 5
        assert server.submitted[5:] == ["question 2"]


def test_a_file_that_is_torn_loses_its_torn_line_only(tmp_path: Path) -> None:
    with BatchServer(mangle=lambda lines: b"".join(lines)[:-20]) as server:
        assert reasons(asked_of(teacher_at(server, tmp_path), questions(5))) == [""] * 4 + ["unavailable"]


def test_a_download_that_was_torn_is_made_again_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    with BatchServer() as server:
        whole: list[bytes] = []

        def tear(method: str, path: str) -> Answer | None:
            if path.endswith("/content") and not whole:
                whole.append(server.files["output-batch_0"])
                return 200, whole[0][: len(whole[0]) // 2]
            return None

        server.fault_after = tear
        assert reasons(asked_of(teacher_at(server, tmp_path), questions(9))) == [""] * 9
        assert len(server.batches) == 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ((400, {"error": {"message": "context too long"}}), "bad-request"),
        ((422, {"error": {"message": "context too long"}}), "bad-request"),
        ((429, {"error": {"message": "context too long"}}), "unavailable"),
        ((500, {"error": {"message": "context too long"}}), "unavailable"),
        ((200, {"oops": "context too long"}), "unavailable"),
        ((200, completion(None, refusal="context too long")), "refusal"),
        ((200, completion("")), "empty"),
        (None, "unavailable"),
    ],
)
def test_a_request_without_an_answer_costs_its_own_row_only(tmp_path: Path, said: Answer | None, reason: str) -> None:
    def answer(body: Body) -> Answer | None:
        return said if text_of(body) == "question 3" else (200, completion(f"answer to {text_of(body)}"))

    with BatchServer(answer=answer) as server:
        answers = asked_of(teacher_at(server, tmp_path), questions(6))
        assert reasons(answers) == ["", "", "", reason, "", ""]
        (failure,) = Ledger(tmp_path / "failures.jsonl").failures()
        assert (failure.reason, failure.asked, failure.attempts) == (reason, "question 3", 1)
        assert said is None or reason == "empty" or "context too long" in failure.detail


@pytest.mark.parametrize(("status", "code"), [(401, "x"), (404, "model_not_found"), (429, "insufficient_quota")])
def test_a_line_that_refuses_the_model_or_the_money_stops_the_run_and_keeps_the_rest(
    tmp_path: Path, status: int, code: str
) -> None:
    def answer(body: Body) -> Answer | None:
        ok = (200, completion(f"answer to {text_of(body)}"))
        return ok if text_of(body) != "question 3" else (status, {"error": {"code": code}})

    with BatchServer(answer=answer) as server:
        with pytest.raises(TeacherRefused, match=f"HTTP {status}"):
            asked_of(teacher_at(server, tmp_path), questions(6))
    with closing(Replies(tmp_path / "replies.log")) as stored:
        assert len(stored) == 5


# Batches that do not end well


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_a_batch_brought_before_it_ended_early_is_kept_and_the_rest_is_asked_again(
    tmp_path: Path, status: str
) -> None:
    def answer(body: Body) -> Answer | None:
        early = text_of(body) in ("question 0", "question 2")
        return (200, completion(f"answer to {text_of(body)}")) if early or server.status({}) == "completed" else None

    with BatchServer(answer=answer, status=lambda batch: status) as server:
        answers = asked_of(teacher_at(server, tmp_path), questions(4))
        assert reasons(answers) == ["", "unavailable", "", "unavailable"]
        server.status = lambda batch: "completed"
        assert reasons(asked_of(teacher_at(server, tmp_path), questions(4))) == [""] * 4
        assert server.submitted[4:] == ["question 1", "question 3"]


def test_when_nothing_arrived_the_teacher_is_unavailable_and_the_next_run_asks_anew(tmp_path: Path) -> None:
    def status(batch: Body) -> str:
        batch["errors"] = {"data": [{"code": "token_limit_exceeded"}]}
        return "failed"

    with BatchServer(status=status) as server:
        with pytest.raises(TeacherUnavailable, match=r"batch_0 failed .*token_limit_exceeded"):
            asked_of(teacher_at(server, tmp_path), questions(3))
        server.status = lambda batch: "completed"
        assert reasons(asked_of(teacher_at(server, tmp_path), questions(3))) == [""] * 3
        assert len(server.batches) == 2


def test_one_batch_that_failed_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    statuses = {"batch_0": "completed", "batch_1": "failed", "batch_2": "completed"}
    with BatchServer(status=lambda batch: statuses[batch["id"]]) as server:
        answers = asked_of(teacher_at(server, tmp_path, max_requests=2), questions(6))
        assert reasons(answers) == ["", "", "unavailable", "unavailable", "", ""]


# A service that is down, busy, or refuses


@pytest.mark.parametrize("say", [(500, {}), (503, {}), (429, {}), (408, {}), (0, None), (200, b"<html>")])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/batches/"), ("GET", "/files/"), ("POST", "/files"), ("POST", "/batches")]
)
def test_what_may_pass_is_tried_again(tmp_path: Path, say: Answer, method: str, path: str) -> None:
    if path == "/files/" and say[0] == 200:
        say = (500, {})  # a strange file is no failure: it has no lines for us
    with BatchServer(fault=failing(method, path, say)) as server:
        assert reasons(asked_of(teacher_at(server, tmp_path), questions(3))) == [""] * 3
        assert len(server.batches) == 1


def test_a_batch_whose_making_was_not_confirmed_is_found_and_not_made_again(tmp_path: Path) -> None:
    with BatchServer(fault_after=failing("POST", "/batches", (500, {}), times=1)) as server:
        assert reasons(asked_of(teacher_at(server, tmp_path), questions(3))) == [""] * 3
        assert len(server.batches) == 1


def test_it_is_found_behind_batches_that_others_made_since(tmp_path: Path) -> None:
    with BatchServer(page=2) as server:

        def lose_the_answer(method: str, path: str) -> Answer | None:
            if (method, path) != ("POST", "/batches") or len(server.batches) > 1:
                return None
            server.batches += [{"id": f"other_{n}", "created_at": 2_000_000_001, "status": "failed"} for n in range(5)]
            return 500, {}

        server.fault_after = lose_the_answer
        assert reasons(asked_of(teacher_at(server, tmp_path), questions(3))) == [""] * 3
        assert server.n("POST", "/batches") == 1


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize(("method", "path"), [("POST", "/files"), ("POST", "/batches"), ("GET", "/batches/")])
def test_a_refusal_is_final_at_once(tmp_path: Path, status: int, method: str, path: str) -> None:
    with BatchServer(fault=failing(method, path, (status, {"error": f"no, {KEY}"}))) as server:
        with pytest.raises(TeacherRefused, match=f"HTTP {status}") as caught:
            asked_of(teacher_at(server, tmp_path), questions(3))
        assert len([call for call in server.calls if call[0] == method and call[1].startswith(path)]) == 1
    assert KEY not in f"{caught.value} {caught.value.hint}"
    assert "mode: live" in caught.value.hint


def test_a_service_that_takes_no_batch_says_why(tmp_path: Path) -> None:
    with BatchServer(fault=failing("POST", "/batches", (400, {"error": "billing_hard_limit_reached"}))) as server:
        with pytest.raises(TeacherRefused, match="billing_hard_limit_reached"):
            asked_of(teacher_at(server, tmp_path), questions(3))


def test_polling_in_vain_for_long_ends_the_run_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with BatchServer(fault=failing("GET", "/batches/", (503, {"error": "down"}), times=10_000)) as server:
        with pytest.raises(TeacherUnavailable, match="HTTP 503") as caught:
            asked_of(teacher_at(server, tmp_path, patience_s=0.2), questions(3))
        assert "the same command goes on" in caught.value.hint
        assert [one["id"] for one in remembered(tmp_path)] == ["batch_0"]
        server.fault = lambda method, path: None
        assert reasons(asked_of(teacher_at(server, tmp_path), questions(3))) == [""] * 3
        assert len(server.batches) == 1


@pytest.mark.parametrize("seed", range(8))
def test_whatever_goes_wrong_every_request_is_answered_and_paid_once(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    paid: Counter[str] = Counter()

    def answer(body: Body) -> Answer | None:
        chance = rng.random()
        if chance < 0.1:
            return None if chance < 0.05 else (rng.choice([408, 429, 500, 503]), {"error": "not now"})
        paid[text_of(body)] += 1
        return 200, completion(f"answer to {text_of(body)}")

    def fault(method: str, path: str) -> Answer | None:
        return rng.choice([(0, None), (429, {}), (500, {}), (502, b"<html>"), *[None] * 16])

    def status(batch: Body) -> str:
        return rng.choice(
            ["validating", "finalizing", "of_a_new_kind", "completed", "completed", "expired", "cancelled"]
        )

    with BatchServer(
        answer=answer, fault=fault, fault_after=fault, mangle=shuffled_and_doubled, status=status, page=3
    ) as server:
        for _ in range(30):
            try:
                found = reasons(asked_of(teacher_at(server, tmp_path, max_requests=17), questions(50)))
            except TeacherUnavailable:
                continue  # the last few requests got no answer: one more time
            if not any(found):
                break
        assert found == [""] * 50
    assert set(paid.values()) == {1} and len(paid) == 50
    assert remembered(tmp_path) == []


# The budget


@pytest.mark.parametrize("budget", [{"calls": 3}, {"tokens": 200}, {"tokens": 400}, {"tokens": 90}])
def test_the_budget_says_the_same_as_live_is_never_exceeded_and_does_not_grow_when_resumed(
    tmp_path: Path, budget: dict[str, int]
) -> None:
    with FaultServer() as server:
        live = teacher_at(server, tmp_path / "live", Budget(**budget))
        verdicts = reasons(ask(live, questions(40)))
        live.close()
    assert "budget" in verdicts
    with BatchServer() as batches:
        for _ in range(2):
            teacher = teacher_at(batches, tmp_path, Budget(**budget))
            assert reasons(asked_of(teacher, questions(40))) == verdicts
            assert teacher.spending.calls == live.spending.calls
            assert teacher.spending.tokens == live.spending.tokens
        assert len(batches.submitted) == verdicts.count("")


def test_an_answer_that_the_service_made_and_lost_is_charged_at_its_bound(tmp_path: Path) -> None:
    with BatchServer(mangle=lambda lines: b"".join(lines[:1])) as server:
        teacher = teacher_at(server, tmp_path)
        assert reasons(ask(teacher, questions(2))) == ["", "unavailable"]
        assert teacher.spending.calls == 2
        assert reasons(ask(teacher, questions(2))) == ["", ""]
        assert teacher.spending.calls == 3
        assert teacher.spending.tokens == 30 + sum(upper_bound(question("question 1")).model_dump().values())
        teacher.close()


def test_what_an_expired_batch_left_undone_is_not_charged(tmp_path: Path) -> None:
    with BatchServer(answer=lambda body: None, status=lambda batch: "expired") as server:
        teacher = teacher_at(server, tmp_path)
        with pytest.raises(TeacherUnavailable, match="expired"):
            ask(teacher, questions(3))
        assert teacher.spending.calls == 0
        teacher.close()


@pytest.mark.parametrize("lost", ["lines", "bodies"])
def test_the_budget_holds_over_many_runs_although_answers_are_lost(tmp_path: Path, lost: str) -> None:
    paid: list[str] = []

    def answer(body: Body) -> Answer:
        paid.append(text_of(body))
        good = completion(f"answer to {text_of(body)}")
        return 200, {"choices": "garbage", "usage": good["usage"]} if lost == "bodies" else good

    with BatchServer(answer=answer, mangle=lambda lines: b"".join(lines[:2])) as server:
        for _ in range(4):
            with suppress(TeacherUnavailable):
                asked_of(teacher_at(server, tmp_path, Budget(calls=10)), questions(20))
    assert len(paid) == 10


def test_a_model_without_log_probabilities_is_asked_without_them(tmp_path: Path) -> None:
    def answer(body: Body) -> Answer:
        if "logprobs" in body:
            return 400, {"error": {"message": "logprobs are not supported by this model"}}
        return 200, completion(f"answer to {text_of(body)}")

    with BatchServer(answer=answer) as server:
        asked = [replace(one, top_logprobs=5) for one in questions(5)]
        assert reasons(asked_of(teacher_at(server, tmp_path), asked)) == [""] * 5
        n_submitted = len(server.submitted)
        assert reasons(asked_of(teacher_at(server, tmp_path), asked)) == [""] * 5
        assert len(server.submitted) == n_submitted == 10


# Runs that die


RUN = """
import os, sys
from pathlib import Path
from factory.events import Warned, listening
from factory.spec import TeacherSpec
from factory.teacher import Message, Request, ask
from factory.teacher.batch_service import BatchRules
from factory.teacher.openai import OpenAITeacher
from factory.teacher.replies import Replies
spec = TeacherSpec(name="openai", model="m", base_url=sys.argv[1], mode="batch", api_key_env="BATCH_KEY")
rules = BatchRules(gather_s=0.05, first_poll_s=0.01, longest_poll_s=0.05, max_requests=120)
teacher = OpenAITeacher(spec, replies=Replies(Path(sys.argv[2]) / "replies.log"), rules=rules)
requests = [Request((Message("user", f"question {n}"),), max_tokens=20) for n in range(200)]
with listening(lambda event: isinstance(event, Warned) and print(event.message, flush=True)):
    answers = ask(teacher, requests)
teacher.close()
print(sum(answer.text == f"answer to question {n}" for n, answer in enumerate(answers)))
"""


Start = Callable[[BatchServer], "subprocess.Popen[str]"]


@pytest.fixture
def start_run(tmp_path: Path) -> Iterator[Start]:
    """A function that starts the same command again; no run outlives its test."""
    runs: list[subprocess.Popen[str]] = []

    def start(server: BatchServer) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", RUN, server.url, str(tmp_path)]
        pipe = subprocess.PIPE
        runs.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=hear_ctrl_c))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()
        run.communicate()


MOMENTS = [
    ("before", "POST", "/files", 1),
    ("after", "POST", "/files", 1),
    ("before", "POST", "/batches", 1),
    ("after", "POST", "/batches", 1),
    ("after", "POST", "/batches", 2),
    ("before", "GET", "/batches/batch_0", 1),
    ("after", "GET", "/batches/batch_0", 1),
    ("before", "GET", "/batches/batch_1", 1),
    ("before", "GET", "/files/output-batch_0/content", 1),
    ("after", "GET", "/files/output-batch_0/content", 1),
    ("after", "GET", "/files/output-batch_1/content", 1),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: " ".join(map(str, moment)))
def test_killed_at_any_moment_the_same_command_goes_on_and_nothing_is_submitted_twice(
    tmp_path: Path, start_run: Start, moment: tuple[str, str, str, int]
) -> None:
    when, method, path, number = moment
    with BatchServer(page=1) as server:

        def kill(was: str, where: str) -> Answer | None:
            if (was, where) == (method, path) and server.n(method, path) == number and first.poll() is None:
                first.kill()
                first.wait()
                return 0, None
            return None

        if when == "before":
            server.fault = kill
        else:
            server.fault_after = kill
        first = start_run(server)
        first.communicate()
        assert first.returncode == -signal.SIGKILL
        second = start_run(server)
        assert second.communicate() == ("200\n", "")
        assert [len(server.lines(batch)) for batch in server.batches] == [120, 80]
        assert len(set(server.submitted)) == 200
    assert remembered(tmp_path) == []


def test_killed_while_waiting_it_goes_on_waiting_for_the_same_batch(start_run: Start) -> None:
    with BatchServer(status=lambda batch: "in_progress") as server:
        for sign in (signal.SIGKILL, signal.SIGKILL, signal.SIGINT):
            polls = server.n("GET", "/batches/batch_1")
            run = start_run(server)
            while server.n("GET", "/batches/batch_1") < polls + 3:
                assert run.poll() is None
                time.sleep(0.01)
            run.send_signal(sign)
            said = run.communicate()[0]
            assert run.returncode not in (0, None)
            if sign == signal.SIGINT:
                assert "batch_0 (120 requests) runs on at the service; the same command goes on" in said
        server.status = lambda batch: "completed"
        assert start_run(server).communicate() == ("200\n", "")
        assert len(server.batches) == 2
        assert len(set(server.submitted)) == len(server.submitted) == 200


def test_two_runs_at_once_share_their_batches(tmp_path: Path) -> None:
    def slow_upload(method: str, path: str) -> Answer | None:
        if (method, path) == ("POST", "/files"):
            time.sleep(0.5)  # the second run meanwhile wants to send the same
        return None

    with BatchServer(fault=slow_upload) as server:
        server.status = lambda batch: "completed" if server.n("GET", f"/batches/{batch['id']}") > 9 else "in_progress"
        with ThreadPoolExecutor() as pool:
            runs = [pool.submit(asked_of, teacher_at(server, tmp_path), questions(50)) for _ in range(2)]
        assert [reasons(run.result()) for run in runs] == [[""] * 50] * 2
        assert len(server.submitted) == 50


def test_what_a_batch_brings_and_nobody_asks_for_any_more_is_there_when_somebody_does(tmp_path: Path) -> None:
    with BatchServer(fault=failing("GET", "/batches/", (401, {}), times=1)) as server:
        with pytest.raises(TeacherRefused):
            asked_of(teacher_at(server, tmp_path), questions(6))
        asked_of(teacher_at(server, tmp_path), questions(2))
        assert [len(one["keys"]) for one in remembered(tmp_path)] == [4]
        asked_of(teacher_at(server, tmp_path), questions(6))
        assert len(server.batches) == 1
    assert remembered(tmp_path) == []


def test_the_search_for_a_batch_that_may_have_been_made_ends_with_those_that_are_too_old(tmp_path: Path) -> None:
    now = time.time()
    with BatchServer(page=2) as server:
        asked_of(teacher_at(server, tmp_path), questions(1))  # for the identity
        identity = f"openai:{server.url}:m"
        intent = {"tag": "t", "endpoint": identity, "at": now, "keys": ["0" * 64], "id": None}
        (tmp_path / "batches.json").write_text(json.dumps([intent]))
        ages_s = [9e9, 8e5, 7e5, 6e5, 5e5, 4e5, 60, 0, -60]
        server.batches = [
            {
                "id": f"old_{n}",
                "status": "completed",
                "created_at": now - age,
                "metadata": None if n % 2 else {"a": "b"},
            }
            for n, age in enumerate(ages_s)
        ]
        asked_of(teacher_at(server, tmp_path), questions(2))
        assert server.n("GET", "/batches") == 2
    assert remembered(tmp_path) == []


def test_a_memory_that_was_edited_is_refused_and_nothing_is_sent(tmp_path: Path) -> None:
    (tmp_path / "batches.json").write_text('[{"tag": 5}')
    with BatchServer() as server:
        with pytest.raises(ArtifactCorrupt, match=r"batches\.json"):
            asked_of(teacher_at(server, tmp_path), questions(1))
        assert server.calls == []


def test_a_batch_of_another_model_or_server_is_left_alone(tmp_path: Path) -> None:
    other = {"tag": "t", "endpoint": "openai:http://elsewhere/v1:m", "at": 1.0, "keys": ["0" * 64], "id": None}
    (tmp_path / "batches.json").write_text(json.dumps([other]))
    with BatchServer() as server:
        asked_of(teacher_at(server, tmp_path), questions(1))
        assert server.n("GET", "/batches") == 0
    assert remembered(tmp_path) == [other]


# Secrets


def test_the_key_is_in_no_file_no_message_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[Event] = []

    def repeat_the_key(body: Body) -> Answer:
        return (400 if text_of(body) == "question 1" else 200), completion(f"your key is {KEY}")

    def status(batch: Body) -> str:
        batch["errors"] = f"wrong key {KEY}"
        return "completed" if batch["id"] == "batch_0" else "failed"

    with BatchServer(answer=repeat_the_key, status=status) as server, listening(seen.append):
        teacher = teacher_at(server, tmp_path)
        answers = ask(teacher, questions(4))
        errors = []
        for n, fault in enumerate([None, (500, KEY.encode()), (200, KEY.encode())]):
            server.fault = failing("GET", "/batches/", fault, times=99) if fault else server.fault
            with pytest.raises(TeacherUnavailable) as caught:
                ask(teacher_at(server, tmp_path, patience_s=0.1), [question(f"new {n}")])
            errors.append(f"{caught.value} {caught.value.hint}")
        teacher.close()
        assert server.keys == {f"Bearer {KEY}"}
    assert reasons(answers) == ["", "bad-request", "", ""]
    assert not any(KEY in said for said in [*errors, repr(answers), repr(seen), caplog.text])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"batches.json", "replies.log", "failures.jsonl"} <= {path.name for path in files}
    assert not any(KEY.encode() in path.read_bytes() for path in files)


def test_the_key_is_blotted_out_however_it_is_written(tmp_path: Path) -> None:
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in KEY).encode()

    def mangle(lines: list[bytes]) -> bytes:
        return b"".join(lines).replace(b"question", escaped)

    with BatchServer(mangle=mangle) as server:
        teacher = teacher_at(server, tmp_path)
        (answer,) = ask(teacher, questions(1))
        teacher.close()
    assert answer == Reply("answer to *** 0", "stop", 10, 5)
    assert KEY not in (tmp_path / "replies.log").read_text()


def test_warnings_are_for_batches_that_run_on_only(tmp_path: Path) -> None:
    seen: list[Event] = []
    with BatchServer() as server, listening(seen.append):
        asked_of(teacher_at(server, tmp_path), questions(2))
    assert not any(isinstance(event, Warned) for event in seen)


# What the spec and the program refuse


def test_only_the_openai_teacher_has_batches() -> None:
    with pytest.raises(ValueError, match="mode batch is for the openai teacher; the embedded teacher answers live"):
        TeacherSpec(mode="batch")


def test_batches_need_a_reply_store() -> None:
    with pytest.raises(ValueError, match="needs a reply store"):
        OpenAITeacher(TeacherSpec(name="openai", model="m", mode="batch"))
