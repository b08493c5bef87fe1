"""A data file that nobody has described yet: untyped columns, and the address of every cell.

CSV, JSON Lines and Parquet here, spreadsheets in `spreadsheet.py`; where the header is, `header.py` finds out.
"""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from factory.data import WrongRow, numbered_lines, parse_line
from factory.errors import FactoryError
from factory.spec_errors import shown
from factory.tables.cells import MOST_CHARS
from factory.tables.raw import MOST_CELL_BYTES, SEPARATORS

MOST_FILE_COLUMNS = 5_000
MOST_NAME_CHARS = 200
_LINES_TO_LOOK_AT = 10

Address = Callable[[int, int], str]
"""Where the cell in a row and a column stands, both counted from 0, for a person: `sales.xlsx: Sheet1!B3`."""


@dataclass(frozen=True)
class Grid:
    """A table as a file has it."""

    file: Path
    names: tuple[str, ...]
    columns: tuple[list[Any], ...]
    """One list a column, all as long: stripped text, numbers, truth values, dates, None."""
    where: Address
    units: dict[str, str] = field(default_factory=dict)
    """By column name, where a row under the header has them."""

    @property
    def n_rows(self) -> int:
        """Rows without the header."""
        return len(self.columns[0])

    def name_where(self, column: int) -> str:
        """Return the address of a column as a whole."""
        return f"{self.file.name}: column {shown(self.names[column])}"


def is_empty(cell: Any) -> bool:
    """Tell whether nothing stands in a cell."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def make_grid(
    file: Path, names: Sequence[Any], columns: Sequence[list[Any]], where: Address, name_where: Sequence[str]
) -> Grid:
    """Check names and cells.

    Args:
        file: Where they are from.
        names: One a column.
        columns: Cells, all columns as long.
        where: The address of a cell.
        name_where: The address of each name.

    Returns:
        The table.

    Raises:
        FactoryError: A name is missing, long or given twice, a cell is no plain value, or there are no rows.
    """
    if len(names) > MOST_FILE_COLUMNS:
        raise FactoryError(f"{file.name}: expected at most {MOST_FILE_COLUMNS:,} columns, got {len(names):,}")
    seen: dict[str, str] = {}
    plain = [plain_text(name) for name in names]
    for name, place in zip(plain, name_where, strict=True):
        if not name:
            raise FactoryError(f"{place}: the column has no name", hint="write one above its cells")
        if len(name) > MOST_NAME_CHARS or _is_no_text(name):
            raise FactoryError(f"{place}: expected a name of at most {MOST_NAME_CHARS} characters, got {shown(name)}")
        if name in seen:
            raise FactoryError(
                f"{place}: column {shown(name)} is given twice, first at {seen[name]}", hint="rename one of them"
            )
        seen[name] = place
    if not columns or not columns[0]:
        raise FactoryError(f"{file.name}: there are no rows under the column names")
    cells = tuple(
        [_checked(cell, row, position, where) for row, cell in enumerate(column)]
        for position, column in enumerate(columns)
    )
    return Grid(file, tuple(plain), cells, where)


def _checked(cell: Any, row: int, column: int, where: Address) -> Any:
    if isinstance(cell, str):
        text = cell.strip()
        if len(text) > MOST_CHARS:
            raise FactoryError(f"{where(row, column)}: has {len(text):,} characters, more than {MOST_CHARS:,}")
        if _is_no_text(text):
            raise FactoryError(f"{where(row, column)}: holds a NUL or half of a surrogate pair, which is not text")
        return text or None
    if isinstance(cell, Decimal):
        cell = float(cell)
    if isinstance(cell, float):
        if math.isinf(cell):
            raise FactoryError(f"{where(row, column)}: {cell} is no number", hint="leave the cell empty")
        return None if math.isnan(cell) else cell
    if cell is None or isinstance(cell, bool | int | datetime | date):
        return cell
    raise FactoryError(
        f"{where(row, column)}: expected text, a number, a date or true/false, got {type(cell).__name__}",
        hint="put what it holds into columns of its own",
    )


def _is_no_text(text: str) -> bool:
    return (not text.isascii() and any("\ud800" <= mark <= "\udfff" for mark in text)) or "\0" in text


def plain_text(value: Any) -> str:
    """Write a cell as the table reader does: 1.0 as 1, true in small letters, a date as 2024-12-31."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return "" if value is None else str(value).strip()


def csv_rows(file: Path) -> tuple[list[list[Any]], list[int]]:
    """Read a CSV file.

    Args:
        file: UTF-8; cells parted by commas, semicolons or tabs, whichever the first line that has any has most of.

    Returns:
        All rows, titles and header too, blank lines left out; and the line in which each begins.

    Raises:
        FactoryError: It is not UTF-8 or no CSV.
    """
    csv.field_size_limit(MOST_CELL_BYTES)
    rows, lines, before = [], [], 0
    with file.open(encoding="utf-8-sig", newline="") as stream:
        try:
            first = [stream.readline() for _ in range(_LINES_TO_LOOK_AT)]
            telling = next((line for line in first if any(mark in line for mark in SEPARATORS)), "")
            stream.seek(0)
            clean = (line.removeprefix("\ufeff") for line in stream)
            reader = csv.reader(clean, delimiter=max(SEPARATORS, key=telling.count), strict=True)
            for cells in reader:
                if cells:
                    rows.append([cell.strip() or None for cell in cells])
                    lines.append(before + 1)
                before = reader.line_num
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            hint = "save it as UTF-8; a spreadsheet program calls that `CSV UTF-8`"
            raise FactoryError(f"{file.name}:{before + 1}: not UTF-8: byte 0x{byte:02X}", hint=hint) from error
        except csv.Error as error:
            raise FactoryError(f"{file.name}:{before + 1}: not CSV: {error}") from error
    return rows, lines


def json_grid(file: Path) -> Grid:
    """Read JSON Lines, each row an object of cells or `{"features": {...}, "target": ...}`; see `make_grid`."""
    rows, lines = [], []
    with file.open("rb") as stream:
        for number, raw in numbered_lines(stream):
            try:
                row = parse_line(raw)
            except WrongRow as error:
                raise FactoryError(f"{file.name}:{number}: {error}") from error
            nested = row.get("features")
            if isinstance(nested, dict):
                del row["features"]
                row = {**nested, **row}
            rows.append(row)
            lines.append(number)
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) > MOST_FILE_COLUMNS:
        raise FactoryError(f"{file.name}: expected at most {MOST_FILE_COLUMNS:,} columns, got {len(names):,}")
    columns = [[row.get(name) for row in rows] for name in names]
    where = _line_address(file, names, lines)
    return make_grid(file, names, columns, where, [f"{file.name}: column {shown(name)}" for name in names])


def _line_address(file: Path, names: Sequence[str], lines: Sequence[int]) -> Address:
    return lambda row, column: f"{file.name}:{lines[row]}: {shown(names[column])}"


def parquet_grid(file: Path) -> Grid:
    """Read a Parquet file; see `make_grid`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file).read()
        columns = [table.column(position).to_pylist() for position in range(table.num_columns)]
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise FactoryError(f"{file.name}: cannot be read as Parquet: {error}") from error
    names = table.column_names
    places = [f"{file.name}: column {shown(name)}" for name in names]
    return make_grid(
        file, names, columns, lambda row, column: f"{file.name}: row {row + 1}: {shown(names[column])}", places
    )
