"""What the benchmarks of quality promise: replays, an unread holdout, arms that are what they say."""

import json
import lzma
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import quality, recorded
from benchmarks.ablate import ARMS, ablate
from benchmarks.cells import Run, Setup, opened
from benchmarks.holdout import HoldoutRead, require_unread
from benchmarks.quality import markdown, measure
from benchmarks.recorded import Recorded, Recording, RepliesMissing, recording_of, restore
from factory.check import Task, check_task
from factory.curation.gather import GATHER, GatherParams
from factory.curation.leakage import LeakageParams, remove_leaks
from factory.data import DataFile
from factory.encoders import load_encoder
from factory.errors import ArtifactCorrupt, ArtifactMissing, FactoryError
from factory.records import Origin, Rows, TextRow, all_kept, text_dataset
from factory.spec import Spec
from factory.store import Artifact
from factory.synthesis import STRATEGIES
from factory.teacher import open_teacher
from flows.recipe import read_file, recipe
from flows.steps import named
from tests.scripted_task import LABELS, make_task

QUICK: dict[str, Any] = {"students": ["tfidf-linear"], "curation": [], "labelling": {"ask_directly": 9}}
"""A build takes a second or two."""


@dataclass(frozen=True)
class Built:
    task: Task
    outputs: Path
    path: Path
    """Of the recording."""
    artifacts: list[Artifact[Any]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A build that was recorded, and that tests only look at."""
    place = tmp_path_factory.mktemp("recorded")
    task, outputs = check_task(make_task(place / "task", **QUICK)), place / "outputs"
    artifacts = build(task, outputs)
    path = place / "scripted-z0.jsonl.xz"
    recording_of(task, artifacts, outputs).save(path)
    return Built(task, outputs, path, artifacts)


def build(task: Task, outputs: Path, recording: Recording | None = None) -> list[Artifact[Any]]:
    with opened(Setup(task, outputs, recording)) as run:
        recipe(task, run.teacher, run)
        return run.artifacts


def test_a_replay_gives_the_same_figures_and_asks_nobody(built: Built, tmp_path: Path) -> None:
    task, path, artifacts = built.task, built.path, built.artifacts
    recording, outputs = Recording.load(path), tmp_path / "replayed"
    restore(task, recording, outputs)
    with opened(Setup(task, outputs, recording)) as run:
        assert isinstance(run.teacher, Recorded)
        cell = measure(task, run, recording.header.seconds)
        made = {one.manifest["stage"]: one for one in run.artifacts}
    for one in artifacts:
        if one.manifest["stage"] != "measure":  # measured milliseconds
            again = made[one.manifest["stage"]]
            assert (again.content_hash, again.manifest["key"]) == (one.content_hash, one.manifest["key"])
            assert again.manifest["varying"]["replies"] == one.manifest["varying"]["replies"]
    assert cell.calls == sum(
        one.manifest["varying"]["teacher_calls"] for one in artifacts if one.manifest["stage"] != "annotate-holdout"
    )
    assert len(cell.seeds.accuracies) == 3
    assert cell.small is not None
    assert cell.small.student == "tfidf-linear"
    assert markdown([cell]).count("| scripted |") == 2
    beside_rows = replace(cell, alone="83.8 (80.4 to 87.0)", minus_alone="+1.8 (-0.8 to +4.6)")  # as in the regime aug
    assert "| not fitted |  | 83.8 (80.4 to 87.0) | **+1.8 (-0.8 to +4.6)** |" in markdown([beside_rows])


@pytest.mark.slow
def test_few_labelled_rows_are_compared_with_setfit_on_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "PEER_PARAMS", {"max_steps": 1})
    few = {"holdout": "holdout.jsonl", "seeds": "seeds.jsonl"}
    folder = make_task(tmp_path / "task", **QUICK, data=few, augmentation={"strategies": []})
    seeds = [{"text": text, "label": label} for label in LABELS for text in (f"{label} one", f"{label} two")]
    (folder / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in seeds), encoding="utf-8")
    task = check_task(folder)
    with opened(Setup(task, tmp_path / "outputs")) as run:
        cell = measure(task, run, {})
        peer = next(one for one in run.artifacts if one.manifest["stage"] == "fit-setfit")
    assert peer.manifest["summary"] == "setfit fitted on 6 rows"
    assert cell.alone
    assert cell.minus_alone.endswith(")")
    assert cell.minus_peer.endswith(")")
    assert cell.peer in markdown([cell])


def test_a_recording_holds_no_prompt_and_is_the_same_bytes_again(built: Built, tmp_path: Path) -> None:
    task, path, artifacts = built.task, built.path, built.artifacts
    lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    assert json.loads(lines[0])["encoder"] == "all-MiniLM-L6-v2"
    assert all(len(json.loads(line)[0]) == 64 for line in lines[1:])
    # Gold texts are only ever in prompts.
    assert "umbrella" not in "".join(lines)
    assert task.spec.description not in "".join(lines)
    again = tmp_path / "again.jsonl.xz"
    recording_of(task, artifacts, built.outputs).save(again)
    assert again.read_bytes() == path.read_bytes()


def test_a_changed_prompt_is_said_before_anything_is_trained(built: Built, tmp_path: Path) -> None:
    changed = check_task(make_task(tmp_path / "task", **QUICK, description="What people shout at a machine."))
    with pytest.raises(
        RepliesMissing, match=r"the prompt has changed: .* replies of stage attributes-1 are missing"
    ) as e:
        restore(changed, Recording.load(built.path), tmp_path / "replayed")
    assert "9 replies of stage annotate-holdout" in str(e.value)
    assert "record again" in str(e.value.hint)
    assert not [*(tmp_path / "replayed").glob("*/fit-*")]


def test_a_stage_that_lacks_a_reply_is_named(built: Built, tmp_path: Path) -> None:
    task, path, artifacts = built.task, built.path, built.artifacts
    recording, outputs = Recording.load(path), tmp_path / "replayed"
    restore(task, recording, outputs)
    verify = next(one for one in artifacts if one.manifest["stage"].startswith("verify"))
    left = set(recording.replies) - set(verify.manifest["varying"]["replies"][:2])
    recorded._write_store(replace(recording, replies={key: recording.replies[key] for key in left}), outputs)
    with pytest.raises(RepliesMissing, match=f"2 replies of stage {verify.manifest['stage']} are missing"):
        build(task, outputs, recording)


def test_recordings_too_large_together_are_not_written(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / built.path.name
    recording = Recording.load(built.path)
    recording.save(path)
    monkeypatch.setattr(recorded, "MOST_BYTES", path.stat().st_size + 100)
    recording.save(path)  # in the place of itself
    with pytest.raises(FactoryError, match="is more than"):
        recording.save(path.with_name("other.jsonl.xz"))
    assert not path.with_name("other.jsonl.xz").exists()


def test_what_cannot_be_recorded_or_read_is_said(built: Built, tmp_path: Path) -> None:
    task, path, artifacts = built.task, built.path, built.artifacts
    with pytest.raises(FactoryError, match=r"replies of this build are not there"):
        recording_of(task, artifacts, tmp_path / "pruned")
    with pytest.raises(ArtifactMissing, match="no such recording"):
        Recording.load(tmp_path / "none.jsonl.xz")
    torn = tmp_path / path.name
    torn.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtifactCorrupt, match="not a recording"):
        Recording.load(torn)


def test_another_teacher_than_the_recorded_one_is_refused(built: Built, tmp_path: Path) -> None:
    task = check_task(make_task(tmp_path / "task", **QUICK))
    with (task.folder / "replies.jsonl").open("a") as script:
        script.write('{"contains": "x", "reply": "y"}\n')
    with pytest.raises(FactoryError, match="the teacher of this task is"):
        restore(task, Recording.load(built.path), tmp_path / "replayed")


def test_a_build_reads_gold_rows_for_its_report_alone(built: Built) -> None:
    require_unread(built.artifacts)


def run_of(task: Task, outputs: Path) -> Run:
    return Run(outputs / task.spec.name, open_teacher(task.spec.teacher, folder=task.folder, outputs=outputs))


def test_gold_rows_that_reach_training_are_noticed_however_they_come(built: Built, tmp_path: Path) -> None:
    task = built.task
    run = run_of(task, tmp_path / "outputs")
    gold = read_file(task, "holdout", run)
    gathered = run(named(GATHER, "0"), GatherParams(), inputs={"written": gold})
    with pytest.raises(HoldoutRead, match="gather-0 had gold rows before the final report: its input `written`"):
        require_unread(run.artifacts)
    # The same after a stage that may read them: what it makes is followed too.
    rest = [one for one in run.artifacts if one is not gathered]
    predicted = run(named(GATHER, "1"), GatherParams(), inputs={"predicted": gathered})
    renamed = replace(gathered)
    renamed.__dict__["manifest"] = {**gathered.manifest, "stage": "predict-pool"}
    with pytest.raises(HoldoutRead, match=r"gather-1 had gold rows .* `predicted` is the result of predict-pool"):
        require_unread([*rest, renamed, predicted])
    run.teacher.close()


def test_what_is_made_after_gold_rows_were_read_is_noticed(built: Built) -> None:
    artifacts = built.artifacts
    fitted = next(one for one in artifacts if one.manifest["stage"] == "fit-tfidf-linear")
    late = [*(one for one in artifacts if one is not fitted), fitted]
    with pytest.raises(HoldoutRead, match=r"fit-tfidf-linear came after answer had read gold rows"):
        require_unread(late)


def test_the_holdout_given_as_the_pool_is_noticed(built: Built, tmp_path: Path) -> None:
    task = built.task
    both = replace(task, files={**task.files, "pool": DataFile(task.files["holdout"].path)})
    run = run_of(task, tmp_path / "outputs")
    for key in ("holdout", "pool"):
        read_file(both, key, run)
    with pytest.raises(HoldoutRead, match="read-pool read the file of the holdout"):
        require_unread(run.artifacts)
    run.teacher.close()


def test_the_leakage_filter_looks_at_no_label_of_the_holdout() -> None:
    gold = [TextRow(f"how hot is it in town {n}", label, Origin.GOLD) for n, label in enumerate("abcabc")]
    rows = [TextRow("how hot is it in town 3", "a", Origin.SYNTHETIC), TextRow("play jazz", "b", Origin.SYNTHETIC)]
    labels = [row.label for row in gold]
    random.Random(0).shuffle(labels)
    shuffled = [replace(row, label=label) for row, label in zip(gold, labels, strict=True)]
    assert labels != [row.label for row in gold]

    def filtered(holdout: list[TextRow]) -> Rows:
        given = {"rows": all_kept(text_dataset(rows)), "holdout": all_kept(text_dataset(holdout))}
        return remove_leaks(LeakageParams(), encoder=load_encoder(), **given)

    one, other = filtered(gold), filtered(shuffled)
    assert one.kept["text"][:] == other.kept["text"][:] == ["play jazz"]
    assert (one.rejected["reason"][:], one.report) == (other.rejected["reason"][:], other.report)


BASE: dict[str, Any] = {
    "name": "base",
    "kind": "text-classification",
    "description": "Texts.",
    "labels": ["a", "b"],
    "data": {"pool": "pool.jsonl", "holdout": "holdout.jsonl"},
    "synthesis": {
        "strategies": [
            {"name": "attributes", "params": {"genre": "article", "personas": ["a cook"]}},
            {"name": "contrastive", "params": {"genre": "article"}},
        ]
    },
    "encoder": "all-mpnet-base-v2",
    "labelling": {"self_training": {}},
    "students": [{"name": "blend", "params": {"encoder": "all-mpnet-base-v2"}}, "sentence-linear"],
}


def spec_of(**changes: Any) -> Spec:
    kept = {key: value for key, value in {**BASE, **changes}.items() if value is not None}
    return Spec.model_validate_json(json.dumps(kept))


@pytest.mark.parametrize("name", list(ARMS))
def test_an_arm_is_a_valid_spec_that_differs(name: str) -> None:
    plain = {"strategies": [{"name": "attributes", "params": {"genre": "article"}}], "per_label": 40}
    spec = spec_of(synthesis=plain) if ARMS[name].adds else spec_of()
    changed = ARMS[name].change(spec)
    assert changed is not None
    assert changed != spec
    assert ARMS[name].adds == name.startswith("+")
    assert Spec.model_validate_json(changed.model_dump_json()).model_dump() == changed.model_dump()
    for plugin in changed.synthesis.strategies:
        assert STRATEGIES[plugin.name].options(**plugin.params).genre == "article"


def test_arms_of_steps_that_a_build_does_not_have_are_left_out() -> None:
    changes = {"synthesis": None, "labelling": None, "encoder": None, "students": ["tfidf-linear"], "curation": []}
    spec = spec_of(data={"holdout": "holdout.jsonl"}, **changes)
    left = [name for name, arm in ARMS.items() if arm.change(spec) is not None]
    assert left == ["attributes", "verify", "hard labels", "+contrastive", "+loop", "+personas", "+foreign things"]


def test_a_step_that_is_added_earns_what_the_arm_has_and_the_whole_recipe_has_not(built: Built) -> None:
    (whole, added), _ = ablate(Setup(built.task, built.outputs), ["+personas"])
    assert (whole.earned, added.step, added.instead) == ("", "+personas", "nobody in particular speaks")
    gained = float(added.accuracy.split()[0]) - float(whole.accuracy.split()[0])
    assert float(added.earned.split()[0]) == pytest.approx(gained, abs=0.11)


def test_the_whole_recipe_of_an_ablation_is_that_of_a_build(built: Built) -> None:
    lines, artifacts = ablate(Setup(built.task, built.outputs), [])
    assert [line.step for line in lines] == ["the whole recipe"]
    assert [one.manifest["stage"] for one in artifacts if not one.was_cached] == []
    assert {"fit-tfidf-linear", "predict-tfidf-linear"} <= {one.manifest["stage"] for one in artifacts}


@pytest.mark.slow
def test_an_ablation_shares_what_its_arms_have_in_common(tmp_path: Path) -> None:
    task = check_task(make_task(tmp_path / "task", **QUICK | {"labelling": {"ask_directly": 0}}))
    lines, artifacts = ablate(Setup(task, tmp_path / "outputs"), ["verify", "attributes", "encoder"])
    assert [line.step for line in lines] == ["the whole recipe", "verify", "attributes"]
    whole, unverified, plain = lines
    assert whole.earned == ""
    assert unverified.calls < whole.calls
    assert plain.calls <= whole.calls
    assert unverified.earned.endswith(")")
    written = [one for one in artifacts if one.manifest["stage"] == "attributes-1"]
    assert [one.was_cached for one in written] == [False, True]
    recording = recording_of(task, artifacts, tmp_path / "outputs")
    restore(task, recording, tmp_path / "replayed")
    again, _ = ablate(Setup(task, tmp_path / "replayed", recording), ["verify", "attributes"])
    assert again == lines


def test_the_recordings_beside_the_code_are_whole_and_small() -> None:
    paths = [*recorded.FOLDER.glob("*")]
    assert all(Recording.load(path).replies for path in paths)
    assert sum(path.stat().st_size for path in paths) <= recorded.MOST_BYTES
