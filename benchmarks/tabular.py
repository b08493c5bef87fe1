"""Students of tables on all rows of six public sets, without an LLM: docs/benchmarks-tables.md.

    python -m benchmarks.tabular --data ../shared/data            every student on every set
    python -m benchmarks.tabular --data ../shared/data --speed    the released folders: one row, and rows a second
    python -m benchmarks.tabular --rows 1000000                   a synthetic table of 20 columns, built as a task

Hyperparameters are chosen by cross-validation on the training rows; the test rows are read once, for the table.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from factory.check import Task, check_task
from factory.data import DataFile
from factory.evaluation.row_metrics import OF_LABELS, OF_NUMBERS, measure_rows
from factory.records import Origin, Rows, column_of
from factory.release.export_table import ExportTableParams, as_json_rows, export_table
from factory.release.predict import Predictor
from factory.spec_table import DEFAULT_STUDENTS, Table
from factory.students.tables.training import (
    CrossPredictTableParams,
    FitTableParams,
    cross_predict_table,
    fit_table,
    tune,
)
from factory.tables.read import ReadTableParams, read_table

SETS = {
    "german_credit": ("auc", 0.75),
    "bank_marketing": ("auc", 0.80),
    "heart_disease": ("auc", 0.89),
    "adult_income": ("auc", 0.925),
    "bike_sharing": ("r2", 0.94),
    "concrete_strength": ("r2", 0.92),
}
"""Figure and what must be reached."""
LEFT_OUT = {"bank_marketing": ["duration"], "adult_income": ["fnlwgt"]}
CATEGORIES = {"heart_disease": ["restecg", "slope", "thal"]}
"""Columns of codes, which the sets call numeric."""


def make_task(source: Path, folder: Path) -> Path:
    """Write a task folder for a set of ../shared/data: columns as its meta.json has them, nothing tuned by hand."""
    meta = json.loads((source / "meta.json").read_text(encoding="utf-8"))
    first = json.loads((source / "train.jsonl").open(encoding="utf-8").readline())
    columns = []
    for name in first["features"]:
        told = meta["features"][name]
        is_category = told["type"] == "categorical" or name in CATEGORIES.get(source.name, [])
        columns.append({"name": name, "kind": "category" if is_category else "numeric"})
    spec: dict[str, Any] = {
        "name": source.name,
        "kind": f"tabular-{'classification' if meta['labels'] else 'regression'}",
        "description": meta["name"],
        "columns": columns,
        "target": meta["target"],
        "leave_out": LEFT_OUT.get(source.name, []),
        "data": {"train": "train.jsonl", "holdout": "test.jsonl"},
    }
    if meta["labels"]:
        spec["labels"] = meta["labels"]
    folder.mkdir(parents=True)
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    for part in ("train", "test"):
        (folder / f"{part}.jsonl").write_bytes((source / f"{part}.jsonl").read_bytes())
    return folder


def read(task: Task, key: str) -> Rows:
    """Read a file of a task."""
    params = ReadTableParams(origin=Origin.GOLD, table=_table(task), needs_target=True)
    return read_table(params, file=DataFile(task.files[key].path))


def _table(task: Task) -> Table:
    assert task.spec.table is not None
    return task.spec.table


def results(task: Task, students: list[str]) -> Iterator[dict[str, Any]]:
    """Yield for each student its figures on training rows it had not seen, and those on the test rows."""
    table, train = _table(task), read(task, "train")
    figures = OF_LABELS if table.labels else OF_NUMBERS
    answers, lines = {}, []
    test = read(task, "holdout")
    gold = _gold(table, test)
    for name in students:
        started = time.perf_counter()
        params = FitTableParams(student=name, table=table, seed=0)
        tuned = tune(params, rows=train)
        seconds = time.perf_counter() - started
        oof = cross_predict_table(CrossPredictTableParams(**dict(params)), rows=train, tuned=tuned)
        fitted = fit_table(params, rows=train, tuned=tuned)
        inside = measure_rows(figures, {name: oof.probs}, _gold(table, train), seed=0)
        answers[name] = fitted.student.predict_proba(test.kept)
        lines.append((name, tuned, seconds, inside[name, next(iter(figures))][0], fitted))
    for name, tuned, seconds, oof_figure, fitted in lines:
        others = {name: answers[name], **answers}
        found = measure_rows(figures, others, gold, seed=0)
        figure = next(iter(figures))
        yield {
            "student": name,
            "oof": oof_figure,
            "test": found[name, figure][0],
            "against": {other: found[other, figure][1] for other in answers if other != name},
            "tuned": tuned,
            "seconds": seconds,
            "fitted": fitted,
            "train": train,
            "test_rows": test,
        }


def _gold(table: Table, rows: Rows) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    label = column_of(rows.kept, "label")
    codes = pc.index_in(label, value_set=pa.array(table.label_names)) if table.labels else label
    return np.asarray(codes.cast(pa.float64()).to_numpy(zero_copy_only=False))


def speed(task: Task, fitted: Any, train: Rows, rows: Rows) -> str:
    """Measure a released folder: the median of one row, and rows a second in batches of 10,000 JSON rows."""
    exported = export_table(ExportTableParams(name=task.spec.name, table=_table(task)), fitted=fitted, rows=train)
    asked = as_json_rows(rows.kept)
    with exported.on_disk() as folder:
        predictor = Predictor(folder)
        single = []
        for position in range(2_000):
            row = [asked[position % len(asked)]]
            started = time.perf_counter()
            predictor.predict_proba(row)
            single.append(time.perf_counter() - started)
        batch = [asked[position % len(asked)] for position in range(10_000)]
        batches = []
        for _ in range(15):
            started = time.perf_counter()
            predictor.predict_proba(batch)
            batches.append(time.perf_counter() - started)
    p50_ms, per_s = 1e3 * float(np.median(single)), len(batch) / float(np.median(batches))
    return f"{p50_ms:.3f} ms, {per_s:,.0f} rows/s, {exported.size_mb:.2f} MB"


def compare(data: Path, sets: list[str], students: list[str], *, with_speed: bool) -> None:
    """Print the table of all students on all sets."""
    print(
        "| set | student | out of fold, train | test (95 %) | must reach | search, s | found |"
        + " speed |" * with_speed
    )
    print("|---|---|---|---|---|---|---|" + "---|" * with_speed)
    for name in sets:
        with TemporaryDirectory() as temporary:
            task = check_task(make_task(data / name, Path(temporary) / name))
            figure, bound = SETS[name]
            for one in results(task, students):
                test, oof = one["test"], one["oof"]
                cells = [
                    name,
                    one["student"],
                    f"{oof.value:.3f}",
                    f"{test.value:.3f} ({test.low:.3f} to {test.high:.3f})",
                    f"{figure} {bound}",
                    f"{one['seconds']:.0f}",
                    one["tuned"].summary,
                ]
                if with_speed:
                    cells.append(speed(task, one["fitted"], one["train"], one["test_rows"]))
                print("| " + " | ".join(cells) + " |", flush=True)


def write_large(folder: Path, n_rows: int) -> Path:
    """Write a task with a synthetic table of 20 columns: 14 numbers, 4 categories, a truth and a date."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    numbers = [f"x{index}" for index in range(14)]
    columns: list[dict[str, Any]] = [{"name": name, "kind": "numeric"} for name in numbers]
    columns += [{"name": f"c{index}", "kind": "category"} for index in range(4)]
    columns += [{"name": "b", "kind": "boolean"}, {"name": "d", "kind": "date"}]
    spec = {
        "name": "large",
        "kind": "tabular-classification",
        "description": "A synthetic table.",
        "labels": ["no", "yes"],
        "columns": columns,
        "target": "y",
        "data": {"train": "train.csv", "holdout": "holdout.csv"},
        "students": ["linear", "lightgbm"],
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    for key, n in (("train", n_rows), ("holdout", 20_000)):
        with (folder / f"{key}.csv").open("w", encoding="utf-8") as file:
            file.write(",".join([*(str(column["name"]) for column in columns), "y"]) + "\n")
            for start in range(0, n, 50_000):
                file.writelines(_lines(rng, min(50_000, n - start)))
    return folder


def _lines(rng: np.random.Generator, n: int) -> Iterator[str]:
    x = rng.normal(size=(n, 14))
    c = rng.integers(0, 12, size=(n, 4))
    b, d = rng.integers(0, 2, n), rng.integers(0, 3_000, n)
    logit = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + 0.3 * (c[:, 0] % 3) + 0.5 * b - d / 3_000
    y = rng.random(n) < 1 / (1 + np.exp(-logit))
    days = np.datetime64("2015-01-01") + d.astype("timedelta64[D]")
    missing = rng.random((n, 14)) < 0.02
    for row in range(n):
        cells = ["" if hole else f"{value:.4f}" for value, hole in zip(x[row], missing[row], strict=True)]
        cells += [f"kind {code}" for code in c[row]]
        yield ",".join([*cells, "yes" if b[row] else "no", str(days[row]), "yes" if y[row] else "no"]) + "\n"


def large(n_rows: int) -> None:
    """Write a large table, build it with the command, and print seconds and memory."""
    import subprocess
    import sys

    with TemporaryDirectory() as temporary:
        folder = write_large(Path(temporary) / "large", n_rows)
        print(f"{n_rows:,} rows, {(folder / 'train.csv').stat().st_size / 1e6:.0f} MB of CSV", flush=True)
        command = [sys.executable, "-m", "factory", "build", str(folder), "--out", str(Path(temporary) / "out")]
        started = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = f"{used.ru_utime + used.ru_stime:.0f} s of CPU, load of the machine {os.getloadavg()[2]:.0f}"
        print(f"built in {seconds:.0f} s ({cpu}) with {used.ru_maxrss / 1e6:.1f} GB at most")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--students", nargs="+", choices=list(DEFAULT_STUDENTS), default=list(DEFAULT_STUDENTS))
    parser.add_argument("--speed", action="store_true", help="measure the released folders too")
    parser.add_argument("--rows", type=int, default=0, help="instead: build a synthetic table of so many rows")
    options = parser.parse_args()
    if options.rows:
        large(options.rows)
    else:
        compare(options.data, options.sets, options.students, with_speed=options.speed)


if __name__ == "__main__":
    main()
