"""Which of the first rows of a sheet or a CSV file is the header: below titles, over units, of one line or two.

What can be read in one way only is understood; anything else is refused with the address of the cell.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.spec_errors import shown
from factory.tables.grid import Grid, is_empty, make_grid, plain_text
from factory.tables.numerals import is_missing, is_number

MOST_HEADER_ROWS = 2
_BRACKETED = re.compile(r"\(.{1,50}\)|\[.{1,50}\]")
MOST_UNIT_CHARS = 20


@dataclass(frozen=True)
class Block:
    """Cells that are merged; rows and columns counted from 0, both ends included."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class RawRows:
    """All rows of a sheet or a CSV file, whatever they are."""

    file: Path
    rows: Sequence[Sequence[Any]]
    where: Callable[[int, int], str]
    """The address of a cell of `rows`."""
    merged: tuple[Block, ...] = ()
    is_strict: bool = True
    """Whether every row must have as many cells as the header, as in CSV."""


def find_table(raw: RawRows) -> Grid:
    """Find header, units and rows.

    Args:
        raw: All rows.

    Returns:
        The table.

    Raises:
        FactoryError: There is none, or it can be read in more ways than one; says at which cell.
    """
    filled = [[at for at, cell in enumerate(row) if not is_empty(cell)] for row in raw.rows]
    last = max((row for row, cells in enumerate(filled) if cells), default=None)
    if last is None:
        raise FactoryError(f"{raw.file.name}: the file has no rows")
    widest = max(len(cells) for cells in filled)
    top = next(row for row, cells in enumerate(filled) if len(cells) > 1 or (cells and widest == 1))
    used = sorted({at for cells in filled[top : last + 1] for at in cells})
    n_header = _header_rows(raw, top)
    names = _names(raw, top, n_header, used)
    first = top + n_header
    _check_shape(raw, top, first, last, used, filled)
    units: dict[str, str] = {}
    if first <= last and _is_units_row(raw, first, last, used):
        units = {
            plain_text(name): str(_cell(raw, first, column)).strip().strip("()[]").strip()
            for name, column in zip(names, used, strict=True)
            if not is_empty(_cell(raw, first, column))
        }
        first += 1
    columns = [[_cell(raw, row, column) for row in range(first, last + 1)] for column in used]
    places = [raw.where(top + n_header - 1, column) for column in used]
    grid = make_grid(raw.file, names, columns, lambda row, at: raw.where(first + row, used[at]), places)
    return Grid(grid.file, grid.names, grid.columns, grid.where, units)


def _cell(raw: RawRows, row: int, column: int) -> Any:
    cells = raw.rows[row]
    return cells[column] if column < len(cells) else None


def _header_rows(raw: RawRows, top: int) -> int:
    """Return how many rows the header has: two under a cell that is merged over several columns, or down over two."""
    n_rows = 1
    for block in raw.merged:
        if block.top == top:
            n_rows = max(n_rows, block.bottom - top + 1, 2 if block.right > block.left else 1)
    if n_rows > MOST_HEADER_ROWS:
        hint = "write the column names into one row"
        raise FactoryError(f"{raw.where(top, 0)}: a header of {n_rows} merged rows is not understood", hint=hint)
    return n_rows


def _names(raw: RawRows, top: int, n_rows: int, used: Sequence[int]) -> list[str]:
    """Return the name of each column, that of its group in front."""
    if top + n_rows > len(raw.rows):
        raise FactoryError(f"{raw.where(top, 0)}: nothing stands under the merged header")
    groups = {at: block for block in raw.merged if block.top == top for at in range(block.left, block.right + 1)}
    if all(at not in groups and is_number(_cell(raw, top, at)) for at in used):
        place = raw.where(top, used[0])
        hint = "put the names of the columns into the first row"
        raise FactoryError(f"{place}: expected a column name, got {shown(_cell(raw, top, used[0]))}", hint=hint)
    names = []
    for at in used:
        block = groups.get(at)
        upper = plain_text(_cell(raw, top, block.left if block else at))
        lower = plain_text(_cell(raw, top + 1, at)) if n_rows == 2 and not (block and block.bottom > top) else ""
        is_group = block is not None and block.right > block.left
        if (is_group and (not lower or is_number(lower))) or not (upper or lower):
            place = raw.where(top + n_rows - 1 if is_group else top, at)
            hint = "write the name of every column into one row, in one cell each"
            raise FactoryError(f"{place}: expected a column name, got {shown(lower or None)}", hint=hint)
        names.append(f"{upper} {lower}".strip())
    return names


def _check_shape(
    raw: RawRows, top: int, first: int, last: int, used: Sequence[int], filled: Sequence[Sequence[int]]
) -> None:
    """Refuse merged cells and blank rows among the rows, and rows of another length where that is an error."""
    for block in raw.merged:
        if block.bottom >= first:
            hint = "unmerge them, and write the value into each cell"
            raise FactoryError(f"{raw.where(block.top, block.left)}: merged cells among the rows", hint=hint)
    for row in range(first, last + 1):
        if not filled[row]:
            hint = "delete the row, or put the second table into a file of its own"
            raise FactoryError(f"{raw.where(row, used[0])}: an empty row, and more rows below it", hint=hint)
        if raw.is_strict and len(raw.rows[row]) != len(raw.rows[top]):
            n_cells = f"expected {len(raw.rows[top])} cells as in the header, got {len(raw.rows[row])}"
            raise FactoryError(f"{raw.where(row, len(raw.rows[row]) - 1)}: {n_cells}")


def _is_units_row(raw: RawRows, row: int, last: int, used: Sequence[int]) -> bool:
    # They are units when all are in brackets, or all are short words over numbers. Where only some are, nobody knows.
    said = {at: _cell(raw, row, at) for at in used if not is_empty(_cell(raw, row, at))}
    if not said or row == last or any(not isinstance(cell, str) or is_missing(cell) for cell in said.values()):
        return False
    if all(_BRACKETED.fullmatch(cell.strip()) for cell in said.values()):
        return True
    odd = [at for at, cell in said.items() if not is_number(cell) and _are_numbers(raw, row + 1, last, at)]
    others = [at for at in said if at not in odd]
    if not odd or any(len(said[at]) > MOST_UNIT_CHARS for at in odd) or any(is_number(said[at]) for at in others):
        return False  # a number is no unit, so this is a row like the others
    if not others:
        return True
    hint = "write units in brackets behind the column names, such as `amount (EUR)`; mend the cell if it is a wrong one"
    raise FactoryError(
        f"{raw.where(row, odd[0])}: {shown(said[odd[0]])} over numbers: a unit or a wrong cell?", hint=hint
    )


def _are_numbers(raw: RawRows, first: int, last: int, column: int) -> bool:
    cells = [_cell(raw, row, column) for row in range(first, last + 1)]
    known = [cell for cell in cells if not is_empty(cell) and not is_missing(cell)]
    return bool(known) and all(is_number(cell) for cell in known)
