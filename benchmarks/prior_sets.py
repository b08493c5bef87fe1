"""Six public sets as `benchmarks.priors` reads them: typed rows, with the phrases of `priors.yaml`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from factory.records import Origin, Rows, all_kept
from factory.records_table import table_dataset
from factory.spec import Label
from factory.spec_table import Column, ColumnKind, Table, Target
from factory.tables.cells import read_cells

PHRASES = Path(__file__).with_name("priors.yaml")
SETS = ("german_credit", "bank_marketing", "heart_disease", "adult_income")
NUMBER_SETS = ("bike_sharing", "concrete_strength")


@dataclass(frozen=True)
class PriorSet:
    """One set."""

    name: str
    description: str
    table: Table
    train: Rows
    test: Rows


def read_set(folder: Path) -> PriorSet:
    """Read one of `SETS` or `NUMBER_SETS`; its test rows are only for the last table."""
    told = yaml.safe_load(PHRASES.read_text(encoding="utf-8"))[folder.name]
    codes: dict[str, dict[str, str]] = told.get("codes", {})
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["features"]
    columns = [
        Column(name=name, kind=_kind(meta[name]["type"], name in codes), description=phrase)
        for name, phrase in told["columns"].items()
    ]
    labels = tuple(Label(name=name, description=words) for name, words in told.get("labels", {}).items())
    target = Target(column="target", description=told.get("target", ""))
    table = Table(columns=tuple(columns), target=target, labels=labels)
    rows = {part: _rows(folder / f"{part}.jsonl", table, codes) for part in ("train", "test")}
    return PriorSet(folder.name, told["description"], table, rows["train"], rows["test"])


def _kind(told: str, has_codes: bool) -> ColumnKind:
    return ColumnKind.NUMERIC if told in ("numeric", "binary") and not has_codes else ColumnKind.CATEGORY


def _rows(path: Path, table: Table, codes: dict[str, dict[str, str]]) -> Rows:
    import pyarrow as pa

    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    cells = {}
    for column in table.columns:
        values: list[Any] = [row["features"][column.name] for row in found]
        if column.name in codes:
            values = [codes[column.name].get(str(value)) for value in values]
        cells[column.name], wrong = read_cells(column, values)
        if wrong:
            raise SystemExit(f"{path}: {column.name}: {wrong[0]}")
    targets = codes.get("target", {})
    answers = [targets.get(row["target"], row["target"]) for row in found]
    label = pa.array(answers, pa.string() if table.labels else pa.float64())
    return all_kept(table_dataset(cells, label, origin=Origin.GOLD))
