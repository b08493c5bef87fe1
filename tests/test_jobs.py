"""`label` and `augment` by themselves: they label and vary what a build would, so that it asks for none of it again."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from factory.check import Task, check_task
from factory.errors import FactoryError
from factory.labelling.voters import TEACHER
from factory.teacher import Teacher, open_teacher
from flows import jobs
from flows.builds import BuildNote
from flows.jobs import augment_rows, label_rows
from tests.plain_runner import Plain
from tests.scripted_task import LABELS, make_task, texts_of
from tests.test_augment_build import task_with
from tests.test_build import QUICK, walk
from tests.test_curation import Trigrams

POOL = [text for label in LABELS for text in texts_of(label)[:6]]
ORDERED = [text for label in LABELS for text in texts_of(label)[6:8]]


@dataclass
class Asking(Plain):
    """Knows whom to ask."""

    teacher: Teacher | None = None


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Run without Prefect, and return how many rows each run said it wanted."""
    wanted_rows: list[int] = []

    @contextmanager
    def running(task: Task, outputs: Path, *, wanted: int = -1) -> Iterator[tuple["Asking", Mapping[str, Teacher]]]:
        wanted_rows.append(wanted)
        root = outputs / task.spec.name
        teacher = open_teacher(task.spec.teacher, folder=task.folder, outputs=outputs)
        yield Asking(root, note=BuildNote(root), teacher=teacher), {TEACHER: teacher}
        teacher.close()

    monkeypatch.setattr(jobs, "running", running)
    monkeypatch.setattr(jobs, "publish_table", lambda *_: None)
    for module in ("flows.augmentation", "flows.rounds", "flows.pool"):
        monkeypatch.setattr(f"{module}.load_encoder", lambda _name="": Trigrams())
    return wanted_rows


def write_texts(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


def pooled(folder: Path, n_pool: int, *files: str) -> Path:
    data = {"pool": "pool.jsonl"} if "pool" in files else {}
    labelling = {"label_pool": n_pool, "ask_directly": 0}
    changes = {**QUICK, "data": data or None, "labelling": labelling, "synthesis": {"per_label": 2, "max_rounds": 1}}
    make_task(folder, **changes)
    for name in files:
        write_texts(folder / f"{name}.jsonl", {"pool": POOL, "ordered": ORDERED}[name])
    return folder


def written(said: str) -> list[dict[str, str]]:
    path = Path(said.partition(" rows in ")[2].partition(": ")[0])
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("files", [["pool"], ["ordered"], ["pool", "ordered"]])
def test_what_a_build_would_label_is_labelled_and_the_build_asks_for_none_of_it_again(
    tmp_path: Path, files: list[str], shown: list[int]
) -> None:
    folder, outputs = pooled(tmp_path / "task", 4, *files), tmp_path / "outputs"
    rows = written(label_rows(check_task(folder), outputs, None))
    texts = {row["text"] for row in rows}
    assert all(row["text"] in texts_of(row["label"]) for row in rows)
    assert len(texts & set(POOL)) == (4 if "pool" in files else 0)
    assert texts - set(POOL) == set(ORDERED if "ordered" in files else [])
    assert shown == [0 if "ordered" in files else 4]
    built = walk(folder, outputs)
    assert {row["text"] for row in built.artifacts["gather-0"].load().kept} == texts
    assert not [stage for stage in built.because if stage.startswith(("annotate", "select", "gather-real"))]


def test_what_a_person_has_reviewed_is_not_among_what_the_teacher_labelled(tmp_path: Path) -> None:
    folder = pooled(tmp_path / "task", 0, "ordered")
    line = {"text": ORDERED[0], "label": "table"}
    (folder / "reviewed.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    rows = written(label_rows(check_task(folder), tmp_path / "outputs", None))
    assert {row["text"] for row in rows} == set(ORDERED[1:])


def test_a_person_may_say_how_many_of_the_pool(tmp_path: Path) -> None:
    task = check_task(pooled(tmp_path / "task", 0, "pool"))
    assert len(written(label_rows(task, tmp_path / "outputs", 7))) == 7


@pytest.mark.parametrize(("files", "n_rows"), [([], None), (["pool"], None), (["ordered"], 5), ([], 5)])
def test_where_there_is_nothing_to_label_that_is_said(tmp_path: Path, files: list[str], n_rows: int | None) -> None:
    task = check_task(pooled(tmp_path / "task", 0, *files))
    with pytest.raises(FactoryError, match="scripted: there is nothing to label"):
        label_rows(task, tmp_path / "outputs", n_rows)


def test_what_a_build_would_vary_is_varied_without_what_people_decided_on(tmp_path: Path) -> None:
    folder, outputs = (
        task_with(tmp_path / "task", "train", augmentation={"per_label": 16}, synthesis=None),
        tmp_path / "outputs",
    )
    decided = texts_of("music")[0]
    line = {"text": decided, "action": "reject", "by": "Ann"}
    (folder / "reviewed.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    rows = written(augment_rows(check_task(folder), outputs, None))
    assert len({row["label"] for row in rows}) == len(LABELS)
    assert not [row for row in rows if row["text"].startswith(decided)]
    built = walk(folder, outputs)
    assert {"more-like-these", "paraphrase"} <= set(built.artifacts)
    assert not [stage for stage in built.because if stage.startswith(("more-like", "paraphrase", "meaning", "verify"))]
