"""Reading and surveying the data files of a table, typed and checked against the spec; every complaint has its line."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from factory.data import DataFile, Findings, Survey, unreadable
from factory.errors import SpecError
from factory.events import Progressed, emit
from factory.records import Origin, Rows, all_kept
from factory.records_table import cell_ids, table_dataset
from factory.spec import Model
from factory.spec_errors import shown
from factory.spec_table import Column, ColumnKind, Table
from factory.store import Stage
from factory.tables.cells import read_cells, read_numbers
from factory.tables.raw import Chunk, Names, read_chunks
from factory.tables.rules import Rule, parse_rule

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset


class ReadTableParams(Model):
    """How to read a data file of a table."""

    origin: Origin
    table: Table
    needs_target: bool
    """False for the pool, whose rows lose what they may have."""


@dataclass(frozen=True)
class _Typed:
    """Rows of one chunk; wrong cells and labels are null."""

    lines: Sequence[int]
    cells: "dict[str, pyarrow.Array]"
    label: "pyarrow.Array"
    is_good: NDArray[np.bool_]


def read_table(params: ReadTableParams, *, file: DataFile) -> Rows:
    """Read a data file as rows, all of them kept.

    Args:
        params: What the rows hold.
        file: JSON Lines or CSV.

    Returns:
        The rows in file order.

    Raises:
        SpecError: The file cannot be read or has a wrong row; holds the first problems.
    """
    from datasets import concatenate_datasets

    findings = Findings(file.path)
    chunks: list[Dataset] = []
    n_rows = 0
    for typed in _scan(file.path, params.table, params.needs_target, findings):
        chunks.append(table_dataset(typed.cells, typed.label, origin=params.origin))
        n_rows += len(typed.lines)
        emit(Progressed("read", done=n_rows, total=0, unit="rows", note=file.path.name))
    problems = findings.problems()
    if problems:
        raise SpecError(problems)
    return all_kept(concatenate_datasets(chunks))


READ_TABLE = Stage("read", 1, ReadTableParams, read_table, Rows)


def survey_table(path: Path, table: Table, *, needs_target: bool, repeats: bool = False) -> Survey:
    """Look through a data file of a table without keeping its rows.

    Args:
        path: JSON Lines or CSV.
        table: What the rows hold.
        needs_target: Whether each row must say its label or number.
        repeats: Also count rows whose cells came before, which costs memory for every row.

    Returns:
        Problems, counts, and warnings about columns that hold nothing or always the same.
    """
    findings = Findings(path)
    seen = _Seen()
    for typed in _scan(path, table, needs_target, findings):
        seen.add(typed, repeats=repeats)
        emit(Progressed("check", done=seen.n_rows, total=0, unit="rows", note=path.name))
    return Survey(
        problems=tuple(findings.problems()),
        n_rows=seen.n_rows,
        n_by_label=seen.n_by_label,
        n_repeated=seen.n_repeated,
        warnings=tuple(seen.warnings(path.name)),
    )


@dataclass
class _Seen:
    """What a survey remembers of the rows."""

    n_rows: int = 0
    n_by_label: Counter[str] = field(default_factory=Counter)
    n_repeated: int = 0
    values: dict[str, set[Any]] = field(default_factory=dict)
    """Of each column the first two different values, missing ones apart."""
    ids: set[str] = field(default_factory=set)

    def add(self, typed: _Typed, *, repeats: bool) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self.n_rows += int(typed.is_good.sum())
        # Of numbers, which may all differ, it is enough to know whether there are two.
        if not pa.types.is_floating(typed.label.type) or len(self.n_by_label) < 2:
            for one in pc.value_counts(typed.label.filter(typed.is_good)).to_pylist():
                if one["values"] is not None:
                    self.n_by_label[str(one["values"])] += one["counts"]
        for name, column in typed.cells.items():
            known = self.values.setdefault(name, set())
            if len(known) < 2:
                known.update(pc.drop_null(pc.unique(column)).slice(0, 2).to_pylist())
        if repeats:
            ids = cell_ids(typed.cells, len(typed.lines)).to_pylist()
            self.n_repeated += len(ids) - len(set(ids) - self.ids)
            self.ids.update(ids)

    def warnings(self, name: str) -> Iterator[str]:
        for column, known in self.values.items():
            if self.n_rows and not known:
                yield f"{name}: no row has a value of {column!r}: nothing can be learned from it"
            elif self.n_rows > 1 and len(known) == 1:
                yield f"{name}: {column!r} is {shown(next(iter(known)))} in every row that has it"


def _scan(path: Path, table: Table, needs_target: bool, findings: Findings) -> Iterator[_Typed]:
    """Yield typed rows chunk by chunk; what is wrong with them goes to the findings."""
    findings.known = table.label_names
    names = Names(
        tuple(column.name for column in table.columns), table.target.column, needs_target, frozenset(table.left_out)
    )
    rules = [parse_rule(rule, table.columns) for rule in table.rules]
    is_empty = True
    try:
        for chunk in read_chunks(path, names, findings):
            is_empty = False
            yield _typed(chunk, table, rules, findings)
    except OSError as error:
        findings.listed.append(unreadable(path, error))
    else:
        if is_empty and not findings.listed:
            findings.add(None, "the file has no rows")


def _typed(chunk: Chunk, table: Table, rules: Sequence[Rule], findings: Findings) -> _Typed:
    is_good = np.ones(len(chunk.lines), dtype=bool)
    cells = {}
    for column in table.columns:
        cells[column.name], wrong = read_cells(column, chunk.columns[column.name])
        for position, message in wrong:
            findings.add(chunk.lines[position], message, column.name)
            is_good[position] = False
    for rule in rules:
        broken = rule.broken(cells, len(chunk.lines))
        for position in np.flatnonzero(broken.is_false).tolist():
            why = "divides by zero in the rule" if broken.by_zero[position] else "breaks the rule"
            findings.add(chunk.lines[position], f"{why} `{rule.text}`")
            is_good[position] = False
    return _Typed(chunk.lines, cells, _labels(chunk, table, findings, is_good), is_good)


def _labels(chunk: Chunk, table: Table, findings: Findings, is_good: NDArray[np.bool_]) -> "pyarrow.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(chunk.target):
        return pa.nulls(len(chunk.lines), pa.string() if table.labels else pa.float64())
    if not table.labels:
        cells, wrong = read_numbers(table.target, chunk.target)
    else:
        column = Column(name=table.target.column, kind=ColumnKind.CATEGORY, missing="refuse")
        cells, wrong = read_cells(column, chunk.target)
        unknown = pc.invert(pc.is_in(cells, value_set=pa.array(table.label_names)))
        strange = pc.and_(unknown, pc.is_valid(cells)).to_numpy(zero_copy_only=False)
        for position in np.flatnonzero(strange).tolist():
            findings.add_unknown(chunk.lines[position], cells[position].as_py())
            is_good[position] = False
    for position, message in wrong:
        findings.add(chunk.lines[position], message, table.target.column)
        is_good[position] = False
    return cells
