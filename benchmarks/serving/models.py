"""Students trained on real rows, without a teacher: only speed, size and agreement are measured on them."""

import json
from dataclasses import dataclass
from pathlib import Path

from factory.records import Origin, TextRow, all_kept, text_dataset
from factory.release.export import Exported, ExportParams, export
from factory.release.predict import FORMAT_VERSION
from factory.release.registry import Registry
from factory.spec import Label, Model
from factory.store import Stage, run_stage
from factory.students import make_student
from factory.students.training import FittedStudent

N_VALIDATION = 300


@dataclass(frozen=True)
class Data:
    """Rows of a public set."""

    train: list[TextRow]
    test: list[TextRow]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels."""
        return tuple(sorted({str(row.label) for row in self.train}))

    @property
    def texts(self) -> list[str]:
        """Of the test rows."""
        return [row.text for row in self.test]


def read(folder: Path, n_train: int) -> Data:
    """Read train.jsonl and test.jsonl of a folder."""
    train, test = (
        [
            TextRow(row["text"], row["label"], Origin.GOLD)
            for row in map(json.loads, (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
        ]
        for name in ("train", "test")
    )
    return Data(train[: n_train + N_VALIDATION], test)


class Variant(Model):
    """Tells releases of one student apart."""

    number: int


def fit(name: str, data: Data) -> FittedStudent:
    """Train a student on all but the validation rows."""
    rows = data.train[N_VALIDATION:]
    labels = [Label(name=label) for label in data.labels]
    return FittedStudent(name, make_student(name, {}).fit(text_dataset(rows), labels, seed=0), len(rows))


def release(outputs: Path, task: str, fitted: FittedStudent, data: Data, *, n_versions: int = 1) -> list[Path]:
    """Export a student, int8 where that is good enough, and register it, the first version as champion.

    Args:
        outputs: Where to.
        task: Name of the task.
        fitted: The student.
        data: Its rows.
        n_versions: How many; they differ in one byte of a comment.

    Returns:
        Their folders.
    """
    exported = export(
        ExportParams(name=task, labels=data.labels),
        fitted=fitted,
        rows=all_kept(text_dataset(data.train[:N_VALIDATION])),
    )

    def variant(params: Variant) -> Exported:
        return Exported({**exported.contents, "variant.txt": f"{params.number}\n".encode()})

    stage = Stage("release", 1, Variant, variant, Exported)
    folders = [run_stage(outputs / task, stage, Variant(number=n)).folder for n in range(1, n_versions + 1)]
    for number, folder in enumerate(folders, start=1):
        Registry(outputs).register(task, folder, metrics={}, tags={}, passed_gate=number == 1)
    return folders


def float32(folder: Path, fitted: FittedStudent) -> Path:
    """Write the graph as it is before int8."""
    folder.mkdir(parents=True, exist_ok=True)
    student = fitted.student
    config = {"format_version": FORMAT_VERSION, "labels": student.labels_, "inputs": student.to_onnx(folder)}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
