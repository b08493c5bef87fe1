"""The files that bulk prediction reads and writes: Parquet, CSV and JSON Lines, a part at a time.

A part is a number of rows small enough to be in memory. The same file always falls into the same parts, which is what
lets a stopped job go on.
"""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from factory.data import MAX_LINE_BYTES, WrongRow, parse_line
from factory.errors import FactoryError

PART_ROWS = 16_384
PART_CHARS = 32_000_000
"""A part of a text file ends with the row that reaches either."""

ANSWER_COLUMNS = ("label", "probability")
NUMBER_COLUMNS = ("value",)
"""Of a release that answers with a number."""
SEPARATORS = ",;\t"
CELL_CHARS = 16
"""What a cell of a JSON row counts for, where the size of a part is kept."""
MAX_CELL_CHARS = 1_000_000
"""Of a CSV cell: a quote that is never closed must not read the whole file."""

Answers = Sequence[Mapping[str, Any] | None]
"""One a row; None where there was no text."""


@dataclass(frozen=True)
class Part:
    """Some rows in the order of the file."""

    number: int
    rows: Any
    """As the format holds them."""
    texts: list[Any]
    """One a row; None where the file has none. Of a table, the row as an object."""


class Format(Protocol):
    """A kind of file."""

    def parts(self) -> Iterator[Part]:
        """Read the parts in order."""

    @property
    def n_rows(self) -> int:
        """How many rows there are; 0 when that is not known before they are read."""

    def write(self, part: Part, answers: Answers, path: Path) -> None:
        """Write a part with its answers into a file."""

    def join(self, paths: Sequence[Path], path: Path) -> None:
        """Write the whole file."""


@dataclass(frozen=True)
class Jsonl:
    """A JSON object a line; the answer is added to it. Blank lines stay blank."""

    source: Path
    column: str | None
    """Of the texts; None where whole rows of a table are asked."""
    answers: tuple[str, ...] = ANSWER_COLUMNS
    n_rows: int = 0

    def parts(self) -> Iterator[Part]:
        """Read the parts in order; a wrong line is an error that names it."""
        column = self.column
        if column is None:
            for number, some in enumerate(_some(self._rows(), lambda row: CELL_CHARS * len(row) if row else 0)):
                yield Part(number, some, some)
            return
        for number, some in enumerate(_some(self._rows(), lambda row: len(row[column]) if row else 0)):
            yield Part(number, some, [None if row is None else row[column] for row in some])

    def write(self, part: Part, answers: Answers, path: Path) -> None:
        """Write a line for each line."""
        with path.open("w", encoding="utf-8") as out:
            for row, answer in zip(part.rows, answers, strict=True):
                try:
                    out.write("\n" if row is None else json.dumps({**row, **(answer or {})}, allow_nan=False) + "\n")
                except ValueError as error:
                    raise FactoryError(f"{self.source}: a row has a number that JSON does not know: {error}") from error
            _flush(out)

    def join(self, paths: Sequence[Path], path: Path) -> None:
        """Put the parts one behind the other."""
        _concatenate(paths, path, header=b"")

    def _rows(self) -> Iterator[dict[str, Any] | None]:
        """Yield the row of each line, None for a blank one; a line that is no row is an error that names it."""
        number = 0
        with self.source.open("rb") as file:
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                line = (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).strip()
                try:
                    row = parse_line(line) if line else None
                except WrongRow as error:
                    raise FactoryError(f"{self.source}:{number}: {error}") from error
                if row is not None and self.column is not None and not isinstance(row.get(self.column), str):
                    what = f"expected a string under {self.column!r}, got {json.dumps(row.get(self.column))[:80]}"
                    raise FactoryError(f"{self.source}:{number}: {what}")
                yield row


@dataclass(frozen=True)
class Csv:
    """Columns under a header, commas between them, UTF-8; `label` and `probability` are added at the end."""

    source: Path
    column: str | None
    """Of the texts; None where whole rows of a table are asked."""
    answers: tuple[str, ...] = ANSWER_COLUMNS
    n_rows: int = 0

    def parts(self) -> Iterator[Part]:
        """Read the parts in order; a wrong line is an error that names it."""
        with self.source.open(encoding="utf-8-sig", newline="") as file:
            csv.field_size_limit(MAX_CELL_CHARS)  # of the whole process: whoever reads sets its own
            reader = csv.reader(file, delimiter=self._separator(), strict=True)
            try:
                header = next(reader, [])
                check_columns(self.source, header, self.column, self.answers)
                at = header.index(self.column) if self.column is not None else None
                rows = self._rows(reader, len(header))
                for number, some in enumerate(_some(rows, lambda row: sum(map(len, row)))):
                    asked = [dict(zip(header, row, strict=True)) if at is None else row[at] for row in some]
                    yield Part(number, some, asked)
            except (csv.Error, UnicodeDecodeError) as error:
                raise FactoryError(f"{self.source}:{reader.line_num}: expected CSV in UTF-8: {error}") from error

    def write(self, part: Part, answers: Answers, path: Path) -> None:
        """Write the rows with two more columns."""
        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, delimiter=self._separator(), lineterminator="\n")
            for row, answer in zip(part.rows, answers, strict=True):
                writer.writerow([*row, *((answer or {}).get(name) for name in self.answers)])
            _flush(out)

    def join(self, paths: Sequence[Path], path: Path) -> None:
        """Put the parts one behind the other, under the header."""
        with self.source.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file, delimiter=self._separator(), strict=True))
        with path.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out, delimiter=self._separator(), lineterminator="\n").writerow([*header, *self.answers])
        _concatenate(paths, path, header=path.read_bytes())

    def _rows(self, reader: Any, n_columns: int) -> Iterator[list[str]]:
        for row in reader:
            if len(row) != n_columns:
                where = f"{self.source}:{reader.line_num}"
                raise FactoryError(f"{where}: expected {n_columns} columns, as the header has, got {len(row)}")
            yield row

    def _separator(self) -> str:
        """Return what parts the cells: of a table the mark that its first line has most of, else a comma."""
        if self.column is not None:
            return ","
        with self.source.open(encoding="utf-8-sig", newline="", errors="replace") as file:
            first = file.readline(MAX_CELL_CHARS)
        return max(SEPARATORS, key=first.count)


def check_columns(
    source: Path, names: Sequence[str], column: str | None, answers: Sequence[str] = ANSWER_COLUMNS
) -> None:
    """Refuse columns that answers cannot be added to.

    Args:
        source: The file.
        names: Its columns.
        column: Of the texts; None where whole rows are asked.
        answers: What the answers are called.

    Raises:
        FactoryError: There is no such column, or one of the answer's name, or one twice.
    """
    listed = ", ".join(names) or "none"
    if column is not None and column not in names:
        raise FactoryError(f"{source}: expected a column {column!r}, got {listed}", hint="name it with --column")
    taken = [name for name in answers if name in names]
    if taken:
        raise FactoryError(
            f"{source}: has a column {taken[0]!r}, which is what the answers are called",
            hint="rename it first: nothing is overwritten",
        )
    if len(set(names)) < len(names):
        raise FactoryError(f"{source}: expected columns of different names, got {listed}")


def _some(rows: Iterable[Any], size: Callable[[Any], int]) -> Iterator[list[Any]]:
    """Yield rows in lists of at most `PART_ROWS`, fewer where they are long."""
    some: list[Any] = []
    n_chars = 0
    for row in rows:
        some.append(row)
        n_chars += size(row)
        if len(some) >= PART_ROWS or n_chars >= PART_CHARS:
            yield some
            some, n_chars = [], 0
    if some:
        yield some


def _concatenate(paths: Sequence[Path], path: Path, *, header: bytes) -> None:
    with path.open("wb") as out:
        out.write(header)
        for one in paths:
            with one.open("rb") as part:
                shutil.copyfileobj(part, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())


def _flush(out: IO[str]) -> None:
    """Put a part on the disk before it gets its name: after a power cut it is whole, or not there."""
    out.flush()
    os.fsync(out.fileno())
