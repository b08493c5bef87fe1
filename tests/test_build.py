"""The whole job, from a task folder to a registered model: what it leaves behind, and what a fault cannot break."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from factory.check import check_task
from factory.errors import ArtifactMissing
from factory.events import Event, StageFinished, StageStarted, listening
from factory.release.registry import Registry
from factory.store import Artifact, Result
from factory.teacher import ScriptedTeacher, open_teacher
from factory.teacher.replies import Replies
from flows.builds import builds_of
from flows.recipe import Products, recipe
from tests.fault_server import Behaviour, FaultServer, Say, completion, hear_ctrl_c
from tests.plain_runner import Plain
from tests.scripted_task import LABELS, make_task

R = TypeVar("R", bound=Result)

QUICK: dict[str, Any] = {"students": ["tfidf-linear"], "curation": [], "data": None}
"""A spec without an encoder: a build takes a second or two."""
KEY = "sk-secret-123456789"
TIMED = {"measure", "release"}
OF_THE_REPORT = {"data-map"}
"""Made when a build is registered, after the recipe."""
"""Stages whose files hold measured milliseconds."""
RELEASED = {"model.onnx", "config.json", "predict.py", "card.md", "report.html", "lineage.json", "manifest.json"}


@dataclass(frozen=True)
class Walk:
    """One build without Prefect, and what it took."""

    products: Products
    artifacts: dict[str, Artifact[Any]]
    asked: list[str]
    """Each request that reached the script, in full."""
    because: dict[str, str]
    """Why each stage that was not cached ran."""


def walk(folder: Path, outputs: Path) -> Walk:
    task = check_task(folder)
    run = Plain(outputs / task.spec.name)
    teacher = open_teacher(task.spec.teacher, folder=folder, outputs=outputs)
    because: dict[str, str] = {}
    try:
        with listening(lambda event: _note(event, because)):
            products = recipe(task, teacher, run)
    finally:
        teacher.close()
    asked = [repr(one) for one in teacher.history] if isinstance(teacher, ScriptedTeacher) else []
    return Walk(products, run.artifacts, asked, because)


def _note(event: Event, because: dict[str, str]) -> None:
    if isinstance(event, StageStarted):
        because[event.stage] = event.because


def described(**changes: str) -> list[dict[str, str]]:
    return [{"name": name, "description": text} for name, text in {**LABELS, **changes}.items()]


# One build with everything in it


@dataclass(frozen=True)
class Built:
    folder: Path
    outputs: Path
    events: list[Any]
    outcome: Any


@pytest.fixture(scope="module")
def built(prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    from flows.build import build

    place = tmp_path_factory.mktemp("built")
    folder = make_task(place / "task")
    events: list[Any] = []
    with listening(events.append):
        outcome = build(folder, place / "outputs")
    return Built(folder, place / "outputs", events, outcome)


@pytest.mark.slow
def test_a_build_that_shall_ask_a_person_promotes_nothing_and_says_how(
    prefect_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.build import build
    from flows.outcome import print_outcome

    outcome = build(make_task(tmp_path / "task", **QUICK, promotion="ask"), tmp_path / "outputs")
    assert (outcome.gate.passed, outcome.version.aliases, outcome.waits) == (True, ("candidate",), True)
    assert outcome.as_json()["waits_for_approval"] is True
    print_outcome(outcome)
    assert "factory promote scripted 1 --note" in capsys.readouterr().out
    assert "champion" in Registry(tmp_path / "outputs").promote("scripted").aliases


@pytest.mark.slow
def test_a_build_ends_with_a_judged_and_registered_model(built: Built) -> None:
    outcome = built.outcome
    assert outcome.sentence.startswith("sentence-linear answers")
    assert outcome.evaluation.gold
    assert outcome.evaluation.champion == "sentence-linear"
    assert outcome.gate.passed
    assert outcome.teacher.calls > 0
    assert outcome.seconds > 0
    assert outcome.version.version == 1
    assert set(outcome.version.aliases) == {"candidate", "champion"}
    assert set(outcome.version.metrics) >= {"accuracy", "macro_f1", "p95_ms"}
    assert Registry(built.outputs).resolve("scripted") == outcome.folder


@pytest.mark.slow
def test_the_release_folder_is_complete(built: Built) -> None:
    names = {path.name for path in built.outcome.folder.iterdir()}
    assert RELEASED | {"tokenizer.json", "requirements.txt"} <= names
    lineage = json.loads((built.outcome.folder / "lineage.json").read_text(encoding="utf-8"))
    finished = [event.stage for event in built.events if isinstance(event, StageFinished)]
    assert [stage["stage"] for stage in lineage["stages"]] == finished[:-1]
    assert lineage["teacher"].startswith("scripted:")
    assert set(lineage["data_sha256"]) == {"holdout"}


@pytest.mark.slow
def test_a_build_notes_its_stages_and_its_end(built: Built) -> None:
    (noted,) = builds_of(built.outputs / "scripted")
    finished = [event.stage for event in built.events if isinstance(event, StageFinished)]
    assert [folder.parent.name for folder in noted.folders] == finished
    assert noted.is_finished


@pytest.mark.slow
def test_the_release_answers_without_the_factory(built: Built) -> None:
    command = [sys.executable, str(built.outcome.folder / "predict.py"), "--json", "play some jazz by Adele"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert json.loads(answer.stdout)["label"] == "music"


@pytest.mark.slow
def test_building_again_asks_nothing_and_gives_the_same_version(built: Built) -> None:
    from flows.build import build

    events: list[Any] = []
    with listening(events.append):
        again = build(built.folder, built.outputs)
    assert again.teacher is None
    assert [event for event in events if isinstance(event, StageStarted)] == []
    assert {event.cached for event in events if isinstance(event, StageFinished)} == {True}
    assert again.folder == built.outcome.folder
    assert again.version == built.outcome.version
    assert len(Registry(built.outputs).versions("scripted")) == 1


@pytest.mark.slow
def test_every_stage_is_cached_for_a_walk_without_prefect_too(built: Built, tmp_path: Path) -> None:
    assert walk(built.folder, built.outputs).because == {}


@pytest.mark.slow
def test_an_encoder_that_cannot_be_had_is_said_before_the_teacher_is_asked(
    prefect_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import build as flow

    def absent(student: str, params: object) -> None:
        raise ArtifactMissing(f"no encoder for {student}")

    monkeypatch.setattr(flow, "resources_for", absent)
    with pytest.raises(ArtifactMissing, match="no encoder for tfidf-linear"):
        flow.build.fn(make_task(tmp_path / "task", **QUICK), tmp_path / "outputs")
    assert not (tmp_path / "outputs").exists()


# What a change costs


def test_changing_the_students_does_not_pay_the_teacher_again(tmp_path: Path) -> None:
    first = walk(make_task(tmp_path / "one", **QUICK), tmp_path / "outputs")
    assert len(first.asked) > 30
    params = [{"name": "tfidf-linear", "params": {"strength": 3.0}}]
    changed = make_task(tmp_path / "two", **{**QUICK, "students": params})
    second = walk(changed, tmp_path / "outputs")
    assert second.asked == []
    assert not [stage for stage in second.because if stage.startswith(("attributes", "verify", "gather"))]
    assert "params.params" in second.because["fit-tfidf-linear"]


def test_the_description_filter_halves_what_was_written_and_the_audit_reads_the_rest(tmp_path: Path) -> None:
    changes = {**QUICK, "curation": ["description"], "synthesis": {"per_label": 12, "max_rounds": 1}}
    artifacts = walk(make_task(tmp_path / "task", **changes), tmp_path / "outputs").artifacts
    written, left = artifacts["gather-1"].load(), artifacts["description-1"].load()
    assert len(left.kept) == len(written.kept) - len(written.kept) // 2
    assert set(left.rejected["reason"]) == {"far-from-description"}
    assert artifacts["audit"].load().n_rows == len(left.kept)


def test_a_changed_description_asks_again_only_what_mentions_it(tmp_path: Path) -> None:
    first = walk(make_task(tmp_path / "one", **QUICK), tmp_path / "outputs")
    changed = make_task(tmp_path / "two", **{**QUICK, "labels": described(music="ask for a tune")})
    second = walk(changed, tmp_path / "outputs")
    assert second.because["attributes-1"] == "params.labels[1].description changed"
    # Most prompts list all labels, to tell them apart; things to write about are asked label by label.
    spared = {request for request in first.asked if LABELS["music"] not in request}
    fresh = walk(changed, tmp_path / "elsewhere")
    assert len(spared) >= len(LABELS) - 1
    assert spared < set(fresh.asked)
    assert set(second.asked) == set(fresh.asked) - spared


def test_a_stage_runs_once_more_only_if_what_it_reads_changed(tmp_path: Path) -> None:
    walk(make_task(tmp_path / "one", **QUICK), tmp_path / "outputs")
    more = make_task(tmp_path / "two", **{**QUICK, "gate": {"accuracy": 0.5}, "labelling": {"ask_directly": 7}})
    assert walk(more, tmp_path / "outputs").because == {}


def test_more_rows_ask_only_for_what_is_not_there(tmp_path: Path) -> None:
    spec = {**QUICK, "synthesis": {"per_label": 6, "max_rounds": 1}}
    first = walk(make_task(tmp_path / "one", **spec), tmp_path / "outputs")
    second = walk(make_task(tmp_path / "two", **QUICK), tmp_path / "outputs")
    assert not set(first.asked) & set(second.asked)
    fresh = walk(tmp_path / "two", tmp_path / "elsewhere")
    assert set(first.asked) | set(second.asked) == set(fresh.asked)


# The budget


def test_a_budget_stops_the_build_gracefully_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    def with_budget(name: str, calls: int) -> Path:
        teacher = {"name": "scripted", "model": "replies.jsonl", "budget": {"calls": calls}}
        return make_task(tmp_path / name, **{**QUICK, "teacher": teacher})

    first = walk(with_budget("small", 30), tmp_path / "outputs")
    assert len(first.asked) == 30
    verified = first.artifacts["verify-attributes-1"]
    assert verified.manifest["is_complete"] is False
    assert verified.load().report["stopped"] == "budget"
    assert len(first.products.rows.load().kept) > 0

    second = walk(with_budget("large", 1000), tmp_path / "outputs")
    assert second.because["verify-attributes-1"] == "ended early: the budget was used up"
    assert not set(first.asked) & set(second.asked)
    undisturbed = walk(make_task(tmp_path / "free", **QUICK), tmp_path / "elsewhere")
    assert len(first.asked) + len(second.asked) == len(undisturbed.asked)
    assert second.products.made.exported.content_hash == undisturbed.products.made.exported.content_hash


def test_a_budget_that_allows_nothing_says_so(tmp_path: Path) -> None:
    from factory.errors import FactoryError

    teacher = {"name": "scripted", "model": "replies.jsonl", "budget": {"calls": 1}}
    folder = make_task(tmp_path / "task", **{**QUICK, "teacher": teacher})
    with pytest.raises(FactoryError, match=r"leave 0 training rows.*the budget was used up"):
        walk(folder, tmp_path / "outputs")


# Killed, interrupted, and twice at once: each step goes on from where the one before was stopped


def speak(script: Path) -> Behaviour:
    """Answer as the scripted teacher would."""
    lines = [json.loads(line) for line in script.read_text(encoding="utf-8").splitlines()]

    def answer(body: dict[str, Any], _number: int) -> Say:
        text = "\n".join(message["content"] for message in body["messages"])
        reply = next(line["reply"] for line in lines if line["contains"] in text)
        return Say(body=completion(reply if isinstance(reply, str) else reply[body["seed"] % len(reply)]))

    return answer


@dataclass
class Site:
    """A task whose teacher is a loopback server, and where it is built."""

    folder: Path
    outputs: Path
    server: FaultServer
    env: dict[str, str]
    hung: list[int] = field(default_factory=list)
    """Positions of the requests that got no answer."""

    def start(self) -> "subprocess.Popen[str]":
        # A new session, so that whoever is left over can be found by its process group.
        command = [sys.executable, "-m", "factory.cli", "build", str(self.folder), "--out", str(self.outputs)]
        return subprocess.Popen(
            command,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=hear_ctrl_c,
        )

    def start_and_hang_at(self, n_answered: int) -> "subprocess.Popen[str]":
        """Return a build that waits for an answer, after as many more were given."""
        speaking, already = self.server.behave, len(self.server.bodies)
        self.server.behave = lambda body, number: (
            speaking(body, number) if number - already < n_answered else Say(end="hang")
        )
        process = self.start()
        deadline = time.monotonic() + 200
        while (
            len(self.server.bodies) - already <= n_answered and process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        if process.poll() is not None:
            pytest.fail(f"the build ended by itself: {process.communicate()}")
        self.hung.append(already + n_answered)
        self.server.behave = speaking
        return process

    def n_stored(self) -> int:
        replies = Replies(self.outputs / "replies.log")
        try:
            return len(replies)
        finally:
            replies.close()


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str
    n_stored: int
    """Replies on disk after the process had ended."""
    n_asked: int
    """Requests the server has had so far, over all processes; those that hang are none."""
    is_alone: bool
    """Whether no child outlived the process."""


def end(site: Site, process: "subprocess.Popen[str]", n_hanging: int = 0) -> Ended:
    code = process.wait(timeout=200)
    deadline = time.monotonic() + 10
    while group_lives(process.pid) and code >= 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    is_alone = not group_lives(process.pid)
    if not is_alone:
        os.killpg(process.pid, signal.SIGKILL)  # else whoever is left keeps the pipes open
    out, err = process.communicate()
    return Ended(code, out, err, site.n_stored(), len(site.server.bodies) - n_hanging, is_alone)


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("site")
    with FaultServer() as server:
        teacher = {"name": "openai", "model": "stub", "base_url": f"{server.url}/v1", "concurrency": 1}
        folder = make_task(place / "task", **{**QUICK, "teacher": teacher})
        server.behave = speak(folder / "replies.jsonl")
        env = {
            **os.environ,
            "OPENAI_API_KEY": KEY,
            "PREFECT_HOME": str(place),
        }  # a folder that exists: Prefect's server makes no parents
        yield Site(folder, place / "outputs", server, env)


@pytest.fixture(scope="module")
def killed(site: Site) -> Ended:
    process = site.start_and_hang_at(9)
    process.kill()
    return end(site, process, n_hanging=1)


@pytest.fixture(scope="module")
def interrupted(site: Site, killed: Ended) -> Ended:
    process = site.start_and_hang_at(20)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the whole foreground group
    return end(site, process, n_hanging=2)


@pytest.fixture(scope="module")
def twins(site: Site, interrupted: Ended) -> list[Ended]:
    processes = [site.start(), site.start()]
    return [end(site, process, n_hanging=2) for process in processes]


@pytest.fixture(scope="module")
def undisturbed(site: Site, twins: list[Ended], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Content hash of each stage of a build nobody disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        artifacts = walk(site.folder, tmp_path_factory.mktemp("undisturbed")).artifacts
    return {name: artifact.content_hash for name, artifact in artifacts.items()}


@pytest.mark.slow
def test_a_killed_build_keeps_every_reply(killed: Ended) -> None:
    assert killed.code == -signal.SIGKILL
    assert 8 <= killed.n_stored <= 9


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(interrupted: Ended) -> None:
    assert interrupted.code == 130
    assert interrupted.err.rstrip().endswith("stopped; nothing paid for is lost: run the same command again to go on")
    assert "Traceback" not in interrupted.err
    assert all(re.match("([a-z0-9-]+: |stopped|$)", line) for line in interrupted.err.splitlines()), interrupted.err
    assert interrupted.is_alone


@pytest.mark.slow
def test_two_builds_at_once_make_one_version(site: Site, twins: list[Ended]) -> None:
    assert [one.code for one in twins] == [0, 0], twins
    assert ["version 1 (candidate, champion)" in one.out for one in twins] == [True, True]
    assert len(Registry(site.outputs).versions("scripted")) == 1
    assert list(site.outputs.glob("*/*/.tmp-*")) == []


@pytest.mark.slow
def test_a_disturbed_build_ends_with_the_same_artifacts(site: Site, undisturbed: dict[str, str]) -> None:
    root = site.outputs / "scripted"
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in root.glob("*/*/manifest.json")]
    found = {one["stage"]: one["content_hash"] for one in manifests if one["stage"] not in TIMED | OF_THE_REPORT}
    assert found == {name: content for name, content in undisturbed.items() if name not in TIMED}


@pytest.mark.slow
def test_no_stored_reply_is_asked_for_again(site: Site, killed: Ended, interrupted: Ended, twins: list[Ended]) -> None:
    assert interrupted.n_asked - killed.n_asked == interrupted.n_stored - killed.n_stored
    # Two of the requests up to then got no answer. Those of the undisturbed build, if it ran already, come last.
    n_before, n_after = (one.n_asked + len(site.hung) for one in (interrupted, twins[-1]))
    bodies = [json.dumps(body) for body in site.server.bodies[:n_after]]
    stored = {body for position, body in enumerate(bodies[:n_before]) if position not in site.hung}
    assert len(stored) == interrupted.n_stored
    assert len(bodies) > n_before
    assert not stored & set(bodies[n_before:])


@pytest.mark.slow
def test_the_key_is_in_no_file_and_in_no_output(
    site: Site, killed: Ended, interrupted: Ended, twins: list[Ended]
) -> None:
    assert set(site.server.keys) == {f"Bearer {KEY}"}
    said = "".join(one.out + one.err for one in (killed, interrupted, *twins))
    assert KEY not in said
    files = [path for path in site.folder.parent.rglob("*") if path.is_file()]  # with those of Prefect
    assert len(files) > 50
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
