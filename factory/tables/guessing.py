"""What a column that nobody has described is, from its cells alone; the order of an ordinal one is left to people."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import partial
from typing import Any, Literal

from factory.errors import FactoryError
from factory.spec_errors import shown
from factory.spec_table import Column, ColumnKind
from factory.tables.cells import MOST_CHARS, read_cells
from factory.tables.grid import Grid, plain_text
from factory.tables.numerals import Decimal, Numbers, is_missing, is_number, read_column

MOST_LISTED = 50
"""Different values up to which they are listed in the spec."""
MOST_CATEGORIES = 1_000
MOST_CATEGORY_CHARS = 80
MOSTLY = 0.8
"""From this share of numbers on, the cells that are none are named: a person may have meant all to be."""
PAIRS = (("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"), ("0", "1"))
"""Spellings of false and true."""
DateOrder = Literal["day-first", "month-first"]
ORDERS: tuple[DateOrder, ...] = ("day-first", "month-first")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?|[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4}|[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}"
)
_UNIT = re.compile(r"(?:\((?:in )?([^()]{1,50})\)|\[(?:in )?([^\[\]]{1,50})\])\s*$")


@dataclass(frozen=True)
class Hints:
    """What a person said about the file, because its cells do not tell."""

    decimal: Decimal | None = None
    date_order: DateOrder | None = None


@dataclass(frozen=True)
class Guess:
    """What a column seems to be."""

    name: str
    kind: ColumnKind
    cells: tuple[Any, ...]
    """As they are written to the data file: numbers plainly, truth values, text, None."""
    values: tuple[str, ...] = ()
    """Different values of a category, in alphabetical order."""
    unit: str = ""
    missing_codes: tuple[str, ...] = ()
    date_order: DateOrder | None = None
    n_missing: int = 0
    decimal: Decimal | None = None
    has_time: bool = False
    """Whether its dates have times of day, which the reader of tables does not take."""
    warnings: tuple[str, ...] = field(default=())

    @property
    def known(self) -> list[Any]:
        """The cells that hold something."""
        codes = set(self.missing_codes)
        return [cell for cell in self.cells if cell is not None and cell not in codes]


def guess_columns(grid: Grid, hints: Hints) -> list[Guess]:
    """Say what each column is.

    Args:
        grid: The file.
        hints: What a person said.

    Returns:
        One guess a column, in file order.

    Raises:
        FactoryError: Numbers or dates of a column can be read in two ways; says at which cell.
    """
    guesses = [_guess(grid, at, hints, points_are_unclear=False) for at in range(len(grid.names))]
    if hints.decimal is None and any(guess.decimal == "comma" for guess in guesses):
        # Then 1.234 may be a thousand in the other columns.
        guesses = [_guess(grid, at, hints, points_are_unclear=True) for at in range(len(grid.names))]
    return guesses


def _guess(grid: Grid, at: int, hints: Hints, *, points_are_unclear: bool) -> Guess:
    cells, name = grid.columns[at], grid.names[at]
    rows = [row for row, cell in enumerate(cells) if not is_missing(cell)]
    known = [cells[row] for row in rows]
    where = partial(_where, grid, rows, at)
    codes = sorted({cell for cell in cells if isinstance(cell, str) and is_missing(cell)})
    make = partial(Guess, name, missing_codes=tuple(codes), n_missing=len(cells) - len(rows))
    if not known:
        return make(ColumnKind.TEXT, tuple(cells))
    if (truths := _truths(known)) is not None:
        return make(ColumnKind.BOOLEAN, _spread(len(cells), rows, truths))
    numbers = read_column(known, where, decimal=hints.decimal, points_are_unclear=points_are_unclear)
    if numbers is not None:
        return _numeric(grid, at, make, rows, numbers)
    warnings = _mixed(known, where)
    if all(isinstance(cell, date) or (isinstance(cell, str) and _DATE.fullmatch(cell)) for cell in known):
        dated = _dates(known, where, hints.date_order)
        if dated is not None:
            written, order = dated
            return make(ColumnKind.DATE, _spread(len(cells), rows, written), date_order=order)
        if any(_has_time(cell) for cell in known):
            return make(ColumnKind.TEXT, _spread(len(cells), rows, list(map(plain_text, known))), has_time=True)
        warnings = _no_day(known, where)
    # Markers such as NA stay what they are: they may turn out to be values.
    texts = tuple(None if cell is None else plain_text(cell) for cell in cells)
    kind, values = _words([plain_text(cell) for cell in known])
    return make(kind, texts, values=values, warnings=warnings)


def _where(grid: Grid, rows: Sequence[int], column: int, position: int) -> str:
    return grid.where(rows[position], column)


def _spread(n_cells: int, rows: Sequence[int], values: Sequence[Any]) -> tuple[Any, ...]:
    cells: list[Any] = [None] * n_cells
    for row, value in zip(rows, values, strict=True):
        cells[row] = value
    return tuple(cells)


def _truths(known: Sequence[Any]) -> list[bool] | None:
    """Read truth values; a column that only ever says one of the two is none, unless it says so by type."""
    if all(isinstance(cell, bool) for cell in known):
        return list(known)
    said = set()
    for cell in known:
        said.add(plain_text(cell).casefold())
        if len(said) > 2:
            return None
    pair = next((pair for pair in PAIRS if said == set(pair)), None)
    return None if pair is None else [plain_text(cell).casefold() == pair[1] for cell in known]


def _numeric(grid: Grid, at: int, make: Callable[..., Guess], rows: Sequence[int], numbers: Numbers) -> Guess:
    name = grid.names[at]
    found = _UNIT.search(name)
    bracketed = next((group.strip() for group in found.groups() if group), "") if found else ""
    unit = grid.units.get(name) or ("" if bracketed.isdigit() else bracketed) or ("%" if numbers.is_percent else "")
    values: list[Any] = [int(value) for value in numbers.values] if numbers.is_whole else list(numbers.values)
    kind = ColumnKind.INTEGER if numbers.is_whole else ColumnKind.NUMERIC
    unit = unit[:50] if unit.isprintable() else ""
    return make(kind, _spread(len(grid.columns[at]), rows, values), unit=unit, decimal=numbers.decimal)


def _has_time(cell: Any) -> bool:
    if isinstance(cell, datetime):
        return cell.time() != time() or cell.tzinfo is not None
    return isinstance(cell, str) and len(cell) > len("2024-12-31")


def _dates(
    known: Sequence[Any], where: Callable[[int], str], order: DateOrder | None
) -> tuple[list[str], DateOrder | None] | None:
    """Return the days as 2024-12-31, and the order that slashes needed; None where a cell is no day."""
    texts = [_as_day(cell) for cell in known]
    if not any("/" in text for text in texts):
        read, wrong = read_cells(Column(name="day", kind=ColumnKind.DATE), texts)
        return None if wrong else ([day.isoformat() for day in read.to_pylist()], None)
    fitting: dict[DateOrder, list[str]] = {}
    for one in ORDERS:
        read, wrong = read_cells(Column(name="day", kind=ColumnKind.DATE, date_order=one), texts)
        if not wrong:
            fitting[one] = [day.isoformat() for day in read.to_pylist()]
    if order in fitting:
        return fitting[order], order
    if len(fitting) == 2 and fitting["day-first"] != fitting["month-first"]:
        at = next(at for at, text in enumerate(texts) if fitting["day-first"][at] != fitting["month-first"][at])
        hint = "say which with --date-order day-first or --date-order month-first"
        raise FactoryError(f"{where(at)}: {shown(texts[at])} may be day/month or month/day", hint=hint)
    return next(((days, one) for one, days in fitting.items()), None)


def _no_day(known: Sequence[Any], where: Callable[[int], str]) -> tuple[str, ...]:
    """Name a cell for which a column of dates is none."""
    texts = [_as_day(cell) for cell in known]
    columns = [Column(name="day", kind=ColumnKind.DATE, date_order=order) for order in ORDERS]
    at = min((read_cells(column, texts)[1][0][0] for column in columns), default=0)
    return (f"{where(at)}: {shown(texts[at])} is no day, so the column is no date: mend the file and draft again",)


def _as_day(cell: Any) -> str:
    if isinstance(cell, datetime):
        return cell.isoformat() if _has_time(cell) else cell.date().isoformat()
    return str(cell.isoformat() if isinstance(cell, date) else cell)


def _words(texts: Sequence[str]) -> tuple[ColumnKind, tuple[str, ...]]:
    """Tell categories from free text: few different values, or short ones that come again."""
    different = set(texts)
    longest = max(map(len, different))
    is_few = len(different) <= MOST_LISTED and len(different) <= max(2, len(texts) // 2)
    comes_again = len(different) <= min(MOST_CATEGORIES, len(texts) // 5)
    if longest > MOST_CATEGORY_CHARS or longest > MOST_CHARS or not (is_few or comes_again):
        return ColumnKind.TEXT, ()
    return ColumnKind.CATEGORY, tuple(sorted(different)) if len(different) <= MOST_LISTED else ()


def _mixed(known: Sequence[Any], where: Callable[[int], str]) -> tuple[str, ...]:
    odd = [at for at, cell in enumerate(known) if not is_number(cell)]
    if not odd or len(odd) > (1 - MOSTLY) * len(known):
        return ()
    cells = "1 cell is no number" if len(odd) == 1 else f"{len(odd):,} cells are no numbers"
    remedy = "mend the file and draft again if all shall be"
    return (f"{where(odd[0])}: {cells} among {len(known):,}, such as {shown(plain_text(known[odd[0]]))}: {remedy}",)
