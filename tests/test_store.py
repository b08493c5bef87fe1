"""The store: identity over content, atomic writes, nothing reused that should not be."""

import errno
import json
import math
import multiprocessing
import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from factory import store
from factory.errors import ArtifactCorrupt, ArtifactError
from factory.events import Event, StageFinished, StageStarted, listening
from factory.fingerprint import plain
from factory.result_folder import read_manifest, sweep
from factory.spec import Model
from factory.store import Stage, explain_miss, key_of, run_stage


@dataclass(frozen=True)
class Text:
    """The smallest possible result."""

    value: str
    is_complete: bool = True
    calls: ClassVar[list[str]] = []

    @property
    def summary(self) -> str:
        return self.value

    def save(self, folder: Path) -> None:
        (folder / "text.txt").write_text(self.value)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls((folder / "text.txt").read_text())


class WordParams(Model):
    word: str = "a"
    options: dict[str, Any] = {}


@dataclass(frozen=True)
class Named:
    """A resource that is its name."""

    identity: str


def write(params: WordParams, *, before: Text | None = None, teacher: Named | None = None) -> Text:
    Text.calls.append(params.word)
    return Text((before.value if before else "") + params.word)


WRITE: Stage[Text] = Stage("write", 1, WordParams, write, Text)


@pytest.fixture(autouse=True)
def _forget_calls() -> None:
    Text.calls.clear()


def test_the_second_run_reads_what_the_first_one_stored(tmp_path: Path) -> None:
    first = run_stage(tmp_path, WRITE, WordParams())
    second = run_stage(tmp_path, WRITE, WordParams())
    assert (first.was_cached, second.was_cached) == (False, True)
    assert second.load() == Text("a")
    assert Text.calls == ["a"]


@pytest.mark.parametrize(
    ("change", "miss"),
    [
        (lambda: (WRITE, WordParams(word="b"), {}, {}), "params.word changed"),
        (lambda: (replace(WRITE, version=2), WordParams(), {}, {}), "version changed"),
        (lambda: (WRITE, WordParams(), {}, {"teacher": Named("x")}), "resources.teacher changed"),
    ],
)
def test_whatever_the_result_depends_on_changes_the_key_and_is_named(tmp_path: Path, change: Any, miss: str) -> None:
    run_stage(tmp_path, WRITE, WordParams())
    stage, params, inputs, resources = change()
    key = key_of(stage, params, inputs=inputs, resources=resources)
    assert store.find(tmp_path, stage, key) is None
    assert explain_miss(tmp_path, stage, key) == miss


def test_a_changed_prompt_file_changes_the_key(tmp_path: Path) -> None:
    prompt = tmp_path / "p.jinja"
    prompt.write_text("one")
    stage = replace(WRITE, files=(prompt,))
    before = key_of(stage, WordParams())
    prompt.write_text("two")
    assert key_of(stage, WordParams()).fingerprint != before.fingerprint


def test_equal_content_from_another_upstream_run_is_no_reason_to_run_again(tmp_path: Path) -> None:
    one = run_stage(tmp_path, WRITE, WordParams(word="same"))
    other = run_stage(tmp_path, replace(WRITE, version=2), WordParams(word="same"))
    assert one.fingerprint != other.fingerprint
    run_stage(tmp_path, WRITE, WordParams(), inputs={"before": one})
    assert run_stage(tmp_path, WRITE, WordParams(), inputs={"before": other}).was_cached


def test_key_order_counts_because_prompts_list_labels_in_order() -> None:
    ab = key_of(WRITE, WordParams(options={"a": 1, "b": 2}))
    ba = key_of(WRITE, WordParams(options={"b": 2, "a": 1}))
    assert ab.fingerprint != ba.fingerprint


@pytest.mark.parametrize("value", [{1, 2}, Path("x"), math.nan, math.inf, {1: "a"}, b"x", object()])
def test_values_without_a_stable_form_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"params\.options\.x(\[0\])?: cannot fingerprint"):
        plain(WordParams(options={"x": value}))


def test_values_that_look_alike_have_different_keys() -> None:
    values = [None, "null", 0, 0.0, False, "0", "", [], {}, "a-b", ["a", "b"], ["a-b"]]
    keys = {key_of(WRITE, WordParams(options={"x": value})).fingerprint for value in values}
    assert len(keys) == len(values)


def test_params_of_another_stage_are_refused(tmp_path: Path) -> None:
    class Other(Model):
        pass

    with pytest.raises(TypeError, match="takes WordParams, not Other"):
        run_stage(tmp_path, WRITE, Other())


@pytest.mark.parametrize("damage", ["change", "delete", "add"])
def test_a_folder_edited_by_hand_is_refused_with_the_file_and_the_remedy(tmp_path: Path, damage: str) -> None:
    artifact = run_stage(tmp_path, WRITE, WordParams())
    file = artifact.folder / "text.txt"
    if damage == "delete":
        file.unlink()
    else:
        (file if damage == "change" else artifact.folder / "new.txt").write_text("edited")
    with pytest.raises(ArtifactCorrupt, match=r"\.txt: the file (was changed|is missing|was added)") as caught:
        artifact.load()
    assert "delete the folder" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[]", "an object"),
        ("{}", "stage, fingerprint"),
        ('{"is_complete": true}', "stage, fingerprint, key, files, content_hash, summary, varying\\n"),
        ('{"is_complete": 1}', "stage, .*content_hash, is_complete, summary"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ArtifactCorrupt, match=rf"manifest\.json: not a manifest: expected {expected}") as caught:
        read_manifest(tmp_path)
    assert caught.value.hint == f"delete the folder {tmp_path} and run the same command again"


def test_a_torn_manifest_is_an_error_not_a_miss(tmp_path: Path) -> None:
    artifact = run_stage(tmp_path, WRITE, WordParams())
    (artifact.folder / "manifest.json").write_text('{"stage": "wri')
    with pytest.raises(ArtifactCorrupt, match="not a manifest"):
        run_stage(tmp_path, WRITE, WordParams())


def test_an_incomplete_result_is_kept_but_run_again_and_then_replaced(tmp_path: Path) -> None:
    results = [Text("half", is_complete=False), Text("whole")]
    stage: Stage[Text] = Stage("write", 1, WordParams, lambda params: results.pop(0), Text)
    assert run_stage(tmp_path, stage, WordParams()).load().value == "half"
    assert explain_miss(tmp_path, stage, key_of(stage, WordParams())).startswith("ended early")
    assert run_stage(tmp_path, stage, WordParams()).load().value == "whole"
    assert run_stage(tmp_path, stage, WordParams()).was_cached
    assert not list(tmp_path.glob("*/.tmp-*"))


def test_a_failing_stage_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(params: WordParams) -> Text:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run_stage(tmp_path, replace(WRITE, run=fail), WordParams())
    assert not list(tmp_path.rglob("*"))


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_result(tmp_path: Path) -> None:
    class Heavy(Text):
        def save(self, folder: Path) -> None:
            (folder / "half.bin").write_bytes(b"0")
            raise OSError(errno.ENOSPC, "No space left on device")

    stage: Stage[Heavy] = Stage("write", 1, WordParams, lambda params: Heavy("x"), Heavy)
    with pytest.raises(ArtifactError, match="the disk is full") as caught:
        run_stage(tmp_path, stage, WordParams())
    assert "free some space" in caught.value.hint
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_readers_never_see_a_folder_that_is_not_finished(tmp_path: Path) -> None:
    seen: list[bool] = []

    class Watching(Text):
        def save(self, folder: Path) -> None:
            super().save(folder)
            seen.append((tmp_path / "write" / key_of(stage, WordParams()).fingerprint).exists())

    stage: Stage[Watching] = Stage("write", 1, WordParams, lambda params: Watching("x"), Watching)
    artifact = run_stage(tmp_path, stage, WordParams())
    assert seen == [False]
    assert (artifact.folder / "manifest.json").is_file()


def _run_in_process(root: str, barrier: Any, queue: Any) -> None:
    barrier.wait()
    queue.put(run_stage(Path(root), WRITE, WordParams()).load().value)


def test_two_builds_at_once_end_with_one_good_artifact(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_run_in_process, args=(str(tmp_path), barrier, queue)) for _ in range(3)]
    for worker in workers:
        worker.start()
    values = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
    assert values == ["a", "a", "a"]
    assert [path.name for path in (tmp_path / "write").iterdir()] == [key_of(WRITE, WordParams()).fingerprint]


def test_sweep_removes_what_dead_processes_left_and_nothing_else(tmp_path: Path) -> None:
    dead = multiprocessing.get_context("spawn").Process(target=print)
    dead.start()
    dead.join()
    (stage := tmp_path / "write").mkdir()
    left = stage / f".tmp-{platform.node()}-{dead.pid}-0123abcd"
    mine = stage / f".tmp-{platform.node()}-{os.getpid()}-0123abcd"
    elsewhere = stage / f".tmp-another-host-{dead.pid}-0123abcd"
    for folder in (left, mine, elsewhere):
        folder.mkdir()
    sweep(tmp_path)
    assert (left.exists(), mine.exists(), elsewhere.exists()) == (False, True, True)


def test_a_run_tells_why_it_ran_and_what_came_out(tmp_path: Path) -> None:
    events: list[Event] = []
    with listening(events.append):
        run_stage(tmp_path, WRITE, WordParams())
        run_stage(tmp_path, WRITE, WordParams())
        run_stage(tmp_path, WRITE, WordParams(word="b"))
    assert [event.because for event in events if isinstance(event, StageStarted)] == [
        "never run",
        "params.word changed",
    ]
    assert [event.cached for event in events if isinstance(event, StageFinished)] == [False, True, False]


def test_what_varies_stays_out_of_the_hashed_part(tmp_path: Path) -> None:
    one = run_stage(tmp_path / "one", WRITE, WordParams())
    two = run_stage(tmp_path / "two", WRITE, WordParams())
    without = [
        {k: v for k, v in json.loads((a.folder / "manifest.json").read_text()).items() if k != "varying"}
        for a in (one, two)
    ]
    assert without[0] == without[1]
