"""A first `spec.yaml` from a file, for a person to correct: what `factory init` decides, and what it writes."""

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from factory.errors import FactoryError
from factory.spec import Kind
from factory.spec_checks import MOST_LABELS
from factory.spec_errors import shown, suggestion
from factory.spec_table import MOST_COLUMNS, ColumnKind
from factory.tables.grid import Grid, csv_rows, json_grid, parquet_grid, plain_text
from factory.tables.guessing import Guess, Hints, guess_columns
from factory.tables.header import RawRows, find_table
from factory.tables.numerals import is_missing
from factory.tables.spreadsheet import read_sheet
from factory.tables.suspects import reasons_to_leave_out

SUFFIXES = (".csv", ".tsv", ".xlsx", ".parquet", ".jsonl")
MOST_WHOLE_LABELS = 10
"""Different whole numbers up to which a target is taken for classes, if each comes five times on average."""
LEAST_ROWS_TO_SPLIT = 50
HOLDOUT_RATIO = 0.2
MOST_LABEL_CHARS = 100
_FALSE = ("false", "no", "n", "f", "0")


@dataclass(frozen=True)
class Draft:
    """What was decided about a file."""

    source: str
    target: Guess
    columns: tuple[Guess, ...]
    """For students to see, in file order."""
    left_out: dict[str, str]
    """Reasons by column."""
    left_out_columns: tuple[Guess, ...]
    labels: dict[str, int]
    """Rows of each label, in spec order; empty for a regression."""
    train: tuple[int, ...]
    """Row numbers, in file order, as for the next two."""
    holdout: tuple[int, ...]
    unlabelled: tuple[int, ...]
    warnings: tuple[str, ...] = field(default=())

    @property
    def kind(self) -> Kind:
        """What the answer is."""
        return Kind.TABULAR_CLASSIFICATION if self.labels else Kind.TABULAR_REGRESSION

    def lines(self, rows: Sequence[int]) -> str:
        """Write rows as JSON Lines, every column in them."""
        columns = [*self.columns, *self.left_out_columns, self.target]
        return "".join(
            json.dumps({one.name: one.cells[row] for one in columns}, ensure_ascii=False) + "\n" for row in rows
        )


def read_grid(file: Path, sheet: str | None = None) -> Grid:
    """Read a file that nobody has described.

    Args:
        file: .csv, .tsv, .xlsx, .parquet or .jsonl.
        sheet: Of a spreadsheet.

    Returns:
        Its table.

    Raises:
        FactoryError: It cannot be read, or not in one way only; says at which cell.
    """
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise FactoryError(f"{file.name}: expected a file of {', '.join(SUFFIXES)}", hint="save it as one of them")
    if sheet is not None and suffix != ".xlsx":
        raise FactoryError(f"{file.name}: only an .xlsx file has sheets", hint="leave --sheet away")
    if not file.is_file():
        raise FactoryError(f"{file}: no such file")
    if suffix == ".xlsx":
        return read_sheet(file, sheet)
    if suffix == ".parquet":
        return parquet_grid(file)
    if suffix == ".jsonl":
        return json_grid(file)
    rows, lines = csv_rows(file)
    return find_table(RawRows(file, rows, lambda row, column: f"{file.name}:{lines[row]}: cell {column + 1}"))


def draft_table(grid: Grid, target: str, hints: Hints) -> Draft:
    """Decide what a table is.

    Args:
        grid: The table.
        target: The column that is asked for.
        hints: What a person said about its cells.

    Returns:
        The decisions.

    Raises:
        FactoryError: There is no such column, it cannot be an answer, nothing is left to learn from, or a cell is
            unclear.
    """
    guesses = {guess.name: guess for guess in guess_columns(grid, hints)}
    if target not in guesses:
        known = suggestion(target, guesses) or f": expected one of {', '.join(map(shown, list(guesses)[:12]))}"
        raise FactoryError(f"{grid.file.name}: no column {shown(target)}{known}")
    asked, labels = _target(grid, guesses.pop(target))
    candidates = list(guesses.values())
    reasons = reasons_to_leave_out(candidates, asked, is_classification=bool(labels))
    columns = tuple(guess for guess in candidates if guess.name not in reasons)
    if not columns or len(columns) > MOST_COLUMNS:
        why = "; ".join(f"{shown(name)}: {reason}" for name, reason in list(reasons.items())[:5])
        found = f"{len(columns):,} columns to learn from, expected 1 to {MOST_COLUMNS:,}" + (f" ({why})" if why else "")
        hint = "bring columns that are known before the answer is"
        raise FactoryError(f"{grid.file.name}: {found}", hint=hint)
    labelled = [row for row, cell in enumerate(asked.cells) if cell is not None]
    train, holdout = split_rows(labelled)
    return Draft(
        source=grid.file.name,
        target=asked,
        columns=columns,
        left_out=reasons,
        left_out_columns=tuple(guess for guess in candidates if guess.name in reasons),
        labels=labels,
        train=train,
        holdout=holdout,
        unlabelled=tuple(row for row, cell in enumerate(asked.cells) if cell is None),
        warnings=tuple(warning for guess in candidates for warning in guess.warnings),
    )


def _target(grid: Grid, guess: Guess) -> tuple[Guess, dict[str, int]]:
    """Return the target with null where nothing is known, and its labels if it has any."""
    at = grid.names.index(guess.name)
    where = grid.name_where(at)
    known = guess.known
    if len(set(known)) < 2:
        what = f"is {shown(known[0])} in every row that has it" if known else "has no value in any row"
        raise FactoryError(f"{where}: the target {what}", hint="at least two different answers are needed")
    is_classes = guess.kind is ColumnKind.INTEGER and len(set(known)) <= min(MOST_WHOLE_LABELS, len(known) // 5)
    if guess.kind.is_number and not is_classes:
        return guess, {}
    if guess.kind is ColumnKind.DATE or guess.has_time:
        raise FactoryError(f"{where}: a date cannot be asked for", hint="ask for a number of days, or for a label")
    source = list(guess.cells) if is_classes else grid.columns[at]
    texts = [None if is_missing(cell) else plain_text(cell) for cell in source]
    counts = Counter(text for text in texts if text is not None)
    check_labels(grid, at, texts, counts)
    labels = {name: counts[name] for name in sorted(counts, key=_label_order)}
    return Guess(guess.name, ColumnKind.CATEGORY, tuple(texts), n_missing=guess.n_missing), labels


def _label_order(name: str) -> tuple[bool, float, str]:
    """No before yes, numbers by size: the last label is the one that `monotone` speaks of."""
    return (name.casefold() not in _FALSE, float(name) if name.isascii() and name.isdigit() else 0.0, name)


def check_labels(grid: Grid, at: int, texts: Sequence[str | None], counts: Counter[str]) -> None:
    """Refuse what a spec cannot have as labels.

    Args:
        grid: The file.
        at: The position of the column.
        texts: Its cells, null where nothing is known.
        counts: How often each text comes.

    Raises:
        FactoryError: There are too many, or one is too long, not printable, or spelled in two ways.
    """
    if len(counts) > MOST_LABELS:
        found = f"{len(counts):,} different texts, more than {MOST_LABELS} labels"
        raise FactoryError(f"{grid.name_where(at)}: {found}", hint="ask for a number, or for fewer labels")
    seen: dict[str, str] = {}
    first = {text: row for row, text in reversed(list(enumerate(texts)))}
    for name in counts:
        place = grid.where(first[name], at)
        if len(name) > MOST_LABEL_CHARS or not name.isprintable():
            rule = f"expected a label of at most {MOST_LABEL_CHARS} printable characters"
            raise FactoryError(f"{place}: {rule}, got {shown(name)}", hint="give the answers short names")
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            message = f"{place}: {shown(name)} and {shown(other)} differ in case or spelling only"
            raise FactoryError(message, hint="write the answer in one way")


def split_rows(rows: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Set a random fifth aside, if there are rows enough."""
    if len(rows) < LEAST_ROWS_TO_SPLIT:
        return tuple(rows), ()
    order = np.random.default_rng(0).permutation(len(rows))
    n_holdout = round(HOLDOUT_RATIO * len(rows))
    held = set(order[:n_holdout].tolist())
    picked: Any = ([], [])
    for position, row in enumerate(rows):
        picked[position in held].append(row)
    return tuple(picked[0]), tuple(picked[1])
