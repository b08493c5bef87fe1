"""Everything at once: servers that misbehave by a seeded schedule, and builds that are killed again and again.

What must hold whatever happens: each answer belongs to its own request, each row is answered or in the ledger, the
budget is not exceeded, and a build that was killed ends with the data of one that was not.
"""

import json
import os
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factory.spec import Budget, TeacherSpec
from factory.teacher import Abstain, Message, Reply, Request, ask
from factory.teacher.limits import Limits
from factory.teacher.openai import OpenAITeacher
from factory.teacher.replies import Replies
from tests.fault_server import FaultServer, Say, completion

N_ROWS = 40
Fault = Callable[[random.Random, dict[str, Any]], Say]
FAULTS: list[Fault] = [
    lambda rng, answer: Say(429, {"error": "slow down"}),
    lambda rng, answer: Say(429, {"error": "slow down"}, headers={"Retry-After": "0.05"}),
    lambda rng, answer: Say(rng.choice([500, 502, 503, 529]), {"error": "boom"}),
    lambda rng, answer: Say(200, answer, end="reset"),
    lambda rng, answer: Say(200, answer, end="half"),
    lambda rng, answer: Say(200, answer, end="drip", delay_s=rng.choice([0.001, 0.2])),
    lambda rng, answer: Say(200, answer, end="hang"),
    lambda rng, answer: Say(200, b"<html>a login page</html>", headers={"Content-Type": "text/html"}),
    lambda rng, answer: Say(200, json.dumps(answer).encode()[:-20]),
    lambda rng, answer: Say(200, bytes(rng.randrange(256) for _ in range(60))),
]


def answer_to(body: dict[str, Any]) -> dict[str, Any]:
    """Return an answer that names its request."""
    return completion("answer to " + body["messages"][-1]["content"])


def chaos(seed: int, *, storm: bool) -> Callable[[dict[str, Any], int], Say]:
    """Let three answers in ten go wrong; in a storm, for a while, nine in ten are refused."""
    rng = random.Random(seed)

    def behave(body: dict[str, Any], number: int) -> Say:
        if storm and 20 <= number < 40 and rng.random() < 0.9:
            return Say(429, {"error": "slow down"}, headers={"Retry-After": "0.02"})
        if rng.random() < 0.3:
            return rng.choice(FAULTS)(rng, answer_to(body))
        if rng.random() < 0.1:
            return Say(200, answer_to(body), end="twice")
        return Say(200, answer_to(body), delay_s=rng.choice([0.0, 0.0, 0.02]))  # some overtake others

    return behave


@pytest.mark.parametrize("seed", range(50))
def test_thirty_percent_faults_attach_no_answer_to_the_wrong_row(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOS_KEY", "sk-chaos-0123456789")
    jumps = random.Random(seed)
    # The clock on the wall jumps by days, for everybody; nothing may hang on it.
    monkeypatch.setattr("time.time", lambda: 1.7e9 + jumps.uniform(-1e6, 1e6))
    budget = Budget(calls=N_ROWS - 5 if seed % 5 == 0 else None)
    schedule = chaos(seed, storm=seed % 2 == 0)
    n_served = 0

    def behave(body: dict[str, Any], number: int) -> Say:
        nonlocal n_served
        say = schedule(body, number)
        n_served += say.status == 200  # whether it arrives or not: the work was done
        return say

    with FaultServer(behave) as server:
        spec = TeacherSpec(
            name="openai", model="m", base_url=f"{server.url}/v1", api_key_env="CHAOS_KEY", budget=budget
        )
        limits = Limits(
            concurrency=16,
            timeout_s=0.4,
            first_delay_s=0.005,
            max_delay_s=0.02,
            max_attempts=12,
            hedge_after_s=0.15 if seed % 3 == 0 else None,
        )
        asked = [Request((Message("user", f"row {number}"),), max_tokens=9) for number in range(N_ROWS)]
        for _ in range(2 if budget.calls else 1):  # the same command again spends nothing more
            teacher = OpenAITeacher(spec, replies=Replies(tmp_path / "replies.log"), limits=limits)
            answers = ask(teacher, asked)
            teacher.close()
    failed = {one.asked: one.reason for one in Replies(tmp_path / "replies.log").ledger.failures()}
    for number, answer in enumerate(answers):
        if isinstance(answer, Reply):
            assert answer.text == f"answer to row {number}"
        else:
            assert answer.reason == "budget" or failed[f"row {number}"] == answer.reason
    n_refused = sum(isinstance(answer, Abstain) for answer in answers)
    # Where the machine stalls, calls are given up and made again: without a budget only the attempts bound them.
    most = budget.calls or 2 * limits.max_attempts * N_ROWS
    assert n_served <= teacher.spending.calls <= most
    assert n_refused >= 5 if budget.calls else n_refused <= 1
    for path in tmp_path.rglob("*"):
        assert b"sk-chaos" not in path.read_bytes()


BUILD = """
import sys
from pathlib import Path
from factory.labelling.verify import VERIFY, VerifyParams
from factory.spec import Label, TeacherSpec
from factory.store import run_stage
from factory.synthesis import STRATEGIES
from factory.synthesis.strategy import WriteParams
from factory.teacher import open_teacher
url, outputs = sys.argv[1], Path(sys.argv[2])
labels = (Label(name="refund", description="wants money back"), Label(name="delivery", description="asks for a parcel"))
spec = TeacherSpec(name="openai", model="m", base_url=url, concurrency=6)
teacher = open_teacher(spec, folder=Path(), outputs=outputs)
strategy = STRATEGIES["labels"]
write = WriteParams(
    description="Mails to a shop.", labels=labels, wanted=(160, 160), round=1, seed=0,
    options=strategy.options(texts_per_call=4),
)
rows = run_stage(outputs, strategy.stage, write, resources={"teacher": teacher})
verify = VerifyParams(description="Mails to a shop.", labels=labels)
verified = run_stage(outputs, VERIFY, verify, inputs={"rows": rows}, resources={"teacher": teacher})
teacher.close()
print(len(verified.load().kept), verified.content_hash)
"""


def speak(body: dict[str, Any], number: int) -> Say:
    """Answer as a function of the request alone: texts to a writing prompt, else a label."""
    digest = zlib.crc32(json.dumps(body).encode())
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    if "enum" in schema:
        text = json.dumps(schema["enum"][digest % len(schema["enum"])])
    else:
        text = "\n".join(f"Please look into order {digest} part {part} for me" for part in range(4))
    return Say(200, completion(text), delay_s=0.004)


def start(server: FaultServer, outputs: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", BUILD, f"{server.url}/v1", str(outputs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def test_builds_that_are_killed_at_random_points_end_with_the_same_data(tmp_path: Path) -> None:
    rng = random.Random(7)
    with FaultServer(speak) as server:
        out, err = start(server, tmp_path / "undisturbed").communicate()
        assert out, err
        n_calls, undisturbed = len(server.bodies), out
        n_kills = 0
        for attempt in range(4):
            folder = tmp_path / str(attempt)
            server.bodies.clear()
            for _ in range(5):
                process = start(server, folder)
                until = len(server.bodies) + rng.randrange(n_calls // 6)
                while process.poll() is None and len(server.bodies) <= until:
                    time.sleep(0.002)
                n_kills += process.poll() is None
                process.kill()
                process.communicate()
            out, err = start(server, folder).communicate()
            assert out == undisturbed, err
            assert len(server.bodies) <= n_calls + 5 * 6  # in flight at each kill
    assert n_kills >= 16
