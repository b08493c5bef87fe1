"""A small table with every kind of column, whose answer follows from them."""

import csv
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from factory.records import Origin, all_kept
from factory.records_table import table_dataset
from factory.release.export_table import ExportTableParams, export_table
from factory.release.files import Files
from factory.spec import Label, Model
from factory.spec_table import Column, ColumnKind, Table, Target
from factory.store import Artifact, Stage, run_stage
from factory.students import make_table_student
from factory.students.training import FittedStudent
from factory.tables.cells import read_cells


class Nothing(Model):
    """No parameters."""


COLUMNS = (
    Column(name="age", kind=ColumnKind.INTEGER, range=(0, 120)),
    Column(name="pay", kind=ColumnKind.NUMERIC),
    Column(name="owns", kind=ColumnKind.BOOLEAN),
    Column(name="job", kind=ColumnKind.CATEGORY),
    Column(name="school", kind=ColumnKind.ORDINAL, values=("none", "first", "second")),
    Column(name="since", kind=ColumnKind.DATE),
    Column(name="note", kind=ColumnKind.TEXT),
)
LABELS = Table(columns=COLUMNS, target=Target(column="good"), labels=(Label(name="no"), Label(name="yes")))
NUMBERS = Table(columns=COLUMNS, target=Target(column="price", unit="EUR"), labels=())
THREE = LABELS.model_copy(update={"labels": (*LABELS.labels, Label(name="maybe"))})


def raw_rows(n: int, *, seed: int = 0, missing: float = 0.1) -> tuple[list[dict[str, Any]], list[float]]:
    """Return rows as JSON has them, and the number that their cells decide, with little noise."""
    rng = np.random.default_rng(seed)
    rows, numbers = [], []
    for _ in range(n):
        row: dict[str, Any] = {
            "age": int(rng.integers(18, 90)),
            "pay": round(float(rng.normal(2000, 400)), 2),
            "owns": bool(rng.integers(2)),
            "job": str(rng.choice(["cook", "smith", "nurse"])),
            "school": str(rng.choice(["none", "first", "second"])),
            "since": (date(2000, 1, 1) + timedelta(days=int(rng.integers(8000)))).isoformat(),
            "note": str(rng.choice(["paid late", "paid early", "=1+1"])),
        }
        number = (row["pay"] - 2000) / 400 + 0.02 * (row["age"] - 54) + {"cook": -1, "smith": 0, "nurse": 1}[row["job"]]
        number += 0.5 * ("late" in row["note"]) + 0.7 * (row["school"] == "second") + float(rng.normal(0, 0.2))
        holes = rng.random(len(row)) < missing
        rows.append({name: None if hole else cell for (name, cell), hole in zip(row.items(), holes, strict=True)})
        numbers.append(number)
    return rows, numbers


def answers_to(table: Table, numbers: list[float]) -> list[Any]:
    """Return the right answers in the form of a table: numbers, or labels by their size."""
    if not table.labels:
        return numbers
    edges = np.quantile(numbers, np.linspace(0, 1, len(table.labels) + 1)[1:-1])
    return [table.label_names[int(level)] for level in np.searchsorted(edges, numbers)]


def dataset(table: Table, n: int, *, seed: int = 0, missing: float = 0.1) -> Any:
    """Return rows of a table."""
    rows, numbers = raw_rows(n, seed=seed, missing=missing)
    cells = {column.name: read_cells(column, [row[column.name] for row in rows])[0] for column in table.columns}
    label = pa.array(answers_to(table, numbers), pa.string() if table.labels else pa.float64())
    return table_dataset(cells, label, origin=Origin.GOLD)


def stored_table(outputs: Path, table: Table = LABELS, *, missing: float = 0.1) -> Artifact[Files]:
    """Store the release of a linear student of a table, as a build does."""
    rows = dataset(table, 150, missing=missing)
    student = make_table_student("linear", {}).fit(rows, table, seed=0)
    fitted = FittedStudent("linear", student, 150)
    exported = export_table(ExportTableParams(name="loans", table=table), fitted=fitted, rows=all_kept(rows))
    stage = Stage("release", 1, Nothing, lambda params: Files(exported.contents), Files)
    return run_stage(outputs, stage, Nothing())


def make_task(folder: Path, table: Table = LABELS, **changes: Any) -> Path:
    """Write a task folder with train and holdout rows; `changes` replace keys of its spec."""
    folder.mkdir(parents=True)
    spec: dict[str, Any] = {
        "name": "loans",
        "kind": f"tabular-{'classification' if table.labels else 'regression'}",
        "description": "Loans.",
        "columns": [column.model_dump(mode="json", exclude_defaults=True) for column in table.columns],
        "target": table.target.model_dump(mode="json", exclude_defaults=True),
        "data": {"train": "train.csv", "holdout": "holdout.csv"},
        "students": [{"name": "lightgbm", "params": {"trials": 2}}, "linear"],
        **({"labels": list(table.label_names)} if table.labels else {}),
        **changes,
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    for key, n, seed in (("train", 150, 0), ("holdout", 60, 1)):
        rows, numbers = raw_rows(n, seed=seed)
        with (folder / f"{key}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*rows[0], table.target.column])
            for row, answer in zip(rows, answers_to(table, numbers), strict=True):
                writer.writerow([*("" if cell is None else cell for cell in row.values()), answer])
    return folder
