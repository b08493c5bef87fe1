"""Cells of a table: from what a file says to typed Arrow arrays, column by column, null where nothing is known.

A cell is empty when it is null, blank text, or one of the column's `missing_codes`. NaN and infinities are no numbers.
Text stays text whatever it looks like: `=1+1` is four characters and nothing computes it.
"""

import math
import re
from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from factory.spec_errors import listed, shown, suggestion
from factory.spec_table import Bounds, Column, ColumnKind, Target

if TYPE_CHECKING:
    import pyarrow

MOST_CHARS = 100_000
"""Longest text of a cell."""
TRUE = frozenset({"true", "yes", "y", "t", "1"})
FALSE = frozenset({"false", "no", "n", "f", "0"})
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_MIDNIGHT = re.compile(r"[T ]00:00(:00(\.0+)?)?Z?$")

FEW_CELLS = 64
"""Above this, cells are looked at for repetition first."""

WrongCells = list[tuple[int, str]]
"""Position and reason of each cell that is none."""


class WrongCell(ValueError):
    """A cell that its column cannot hold; the message says why."""


def arrow_type(kind: ColumnKind) -> "pyarrow.DataType":
    """Return the type that cells of a kind of column have in Arrow."""
    import pyarrow as pa

    types = {
        ColumnKind.NUMERIC: pa.float64(),
        ColumnKind.INTEGER: pa.int64(),
        ColumnKind.BOOLEAN: pa.bool_(),
        ColumnKind.DATE: pa.date32(),
    }
    return types.get(kind, pa.string())


def read_cells(column: Column, values: "Sequence[Any] | pyarrow.Array") -> tuple["pyarrow.Array", WrongCells]:
    """Read the cells of one column.

    Args:
        column: What they should be.
        values: As JSON or CSV has them: text, numbers, truth values, None; or texts as Arrow.

    Returns:
        The cells, null where they are empty or wrong, and what is wrong.
    """
    import pyarrow as pa

    fast = _read_numbers(column, values) if column.kind.is_number else None
    if fast is not None:
        return fast, []
    if isinstance(values, pa.Array):
        coded = values.dictionary_encode()
        return _unpacked(column, coded.dictionary.to_pylist(), coded.indices)
    packed = _packed(values) if len(values) >= FEW_CELLS else None
    if packed is not None:
        return _unpacked(column, *packed)
    codes = frozenset(map(_plain, column.missing_codes))
    cells: list[Any] = [None] * len(values)
    wrong: WrongCells = []
    for position, value in enumerate(values):
        try:
            cells[position] = _read_cell(column, value, codes)
        except WrongCell as error:
            wrong.append((position, str(error)))
    return pa.array(cells, type=arrow_type(column.kind)), wrong


def _packed(values: Sequence[Any]) -> tuple[list[Any], list[int]] | None:
    """Return the different texts among cells and which of them each is; None where they are not mostly repeated."""
    if not set(map(type, values)) <= {str, type(None)}:  # 1, 1.0 and True would count as one
        return None
    place: dict[Any, int] = {}
    places = [place.setdefault(value, len(place)) for value in values]
    return (list(place), places) if len(place) < len(values) // 2 else None


def _unpacked(
    column: Column, different: Sequence[Any], places: "Sequence[int] | pyarrow.Array"
) -> tuple["pyarrow.Array", WrongCells]:
    """Read each different text once, and put what it is everywhere it stands."""
    import pyarrow as pa

    cells, wrong = read_cells(column, different)
    why = dict(wrong)
    found = cells.take(places if isinstance(places, pa.Array) else pa.array(places, pa.int32()))
    if not why:
        return found, []
    numbers = places.to_pylist() if isinstance(places, pa.Array) else places
    return found, [(position, why[place]) for position, place in enumerate(numbers) if place in why]


def _read_cell(column: Column, value: Any, codes: frozenset[str]) -> Any:
    if not _is_empty(value, codes):
        return _READERS.get(column.kind, _read_text)(column, value)
    if column.missing == "refuse":
        raise WrongCell("is empty, and the spec refuses that (missing: refuse)")
    return None


def read_numbers(target: Target, values: "Sequence[Any] | pyarrow.Array") -> tuple["pyarrow.Array", WrongCells]:
    """Read the numbers that a regression shall answer with; none may be missing. See `read_cells`."""
    column = Column(name=target.column, kind=ColumnKind.NUMERIC, range=target.range, missing="refuse")
    return read_cells(column, values)


def _read_numbers(column: Column, values: "Sequence[Any] | pyarrow.Array") -> "pyarrow.Array | None":
    """Read numbers all at once, which only works where all is well; None to look at them one by one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.missing_codes:
        return None
    try:
        raw = values if isinstance(values, pa.Array) else pa.array(values)
        if pa.types.is_string(raw.type):
            trimmed = pc.utf8_trim_whitespace(raw)
            raw = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
        elif not (pa.types.is_integer(raw.type) or pa.types.is_floating(raw.type)):
            return None
        numbers = pc.cast(raw, pa.float64())
        cells = numbers if column.kind is ColumnKind.NUMERIC else pc.cast(numbers, pa.int64())
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return None
    low, high = pc.min_max(numbers)["min"].as_py(), pc.min_max(numbers)["max"].as_py()
    is_fine = numbers.null_count == 0 or column.missing == "allow"
    # A NaN is no minimum, but then the sum is one.
    total = pc.sum(numbers).as_py() or 0.0
    if not is_fine or not math.isfinite(total) or (low is not None and _outside(column.range, low, high)):
        return None
    return cells


def _outside(bounds: Bounds | None, low: float, high: float) -> bool:
    least, greatest = bounds or (None, None)
    return (least is not None and low < least) or (greatest is not None and high > greatest)


def _is_empty(value: Any, codes: frozenset[str]) -> bool:
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    return bool(codes) and not isinstance(value, dict | list) and _plain(value) in codes


def _plain(value: Any) -> str:
    """Write a value so that 1, 1.0 and "1" are one."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _read_number(column: Column, value: Any) -> float | int:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        number = float(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError as error:
            raise WrongCell(f"is too large a number: {shown(value)}") from error
    else:
        raise WrongCell(f"expected a number, got {shown(value)}")
    if not math.isfinite(number):
        raise WrongCell(f"{number} is no number: leave the cell empty where nothing is known")
    if _outside(column.range, number, number):
        low, high = column.range or (None, None)
        bounds = f"{'' if low is None else f'{low:g}'} to {'' if high is None else f'{high:g}'}".strip()
        raise WrongCell(f"{number:g} is outside the range {bounds} of the spec")
    if column.kind is ColumnKind.NUMERIC:
        return number
    if not number.is_integer() or abs(number) >= 2**63:
        raise WrongCell(f"expected a whole number, got {shown(value)}")
    return int(number)


def _read_truth(column: Column, value: Any) -> bool:
    plain = "" if isinstance(value, dict | list) else _plain(value).lower()
    if plain not in TRUE | FALSE:
        raise WrongCell(f"expected true or false (or yes/no, 1/0), got {shown(value)}")
    return plain in TRUE


def _read_text(column: Column, value: Any) -> str:
    if isinstance(value, dict | list):
        raise WrongCell(f"expected text, got {shown(value)}")
    text = value.strip() if isinstance(value, str) else _plain(value)
    if len(text) > MOST_CHARS:
        raise WrongCell(f"has {len(text):,} characters, more than {MOST_CHARS:,}")
    if "\0" in text or any("\ud800" <= mark <= "\udfff" for mark in text):
        raise WrongCell("holds a NUL or half of a surrogate pair, which is not text")
    if column.values and text not in column.values:
        known = f"{shown(text)} is no value of the spec ({listed(column.values)})"
        raise WrongCell(known + suggestion(text, column.values))
    return text


def _read_date(column: Column, value: Any) -> date:
    text = _MIDNIGHT.sub("", value.strip()) if isinstance(value, str) else ""
    dotted, slashed = _DOTTED.fullmatch(text), _SLASHED.fullmatch(text)
    try:
        if dotted:
            day, month, year = map(int, dotted.groups())
            return date(year, month, day)
        if slashed:
            first, second, year = map(int, slashed.groups())
            if column.date_order is None:
                unclear = f"{shown(value)} may be day/month or month/day"
                raise WrongCell(f"{unclear}: say date_order: day-first or month-first in the spec")
            return date(year, second, first) if column.date_order == "day-first" else date(year, first, second)
        return date.fromisoformat(text)
    except WrongCell:
        raise
    except ValueError as error:
        raise WrongCell(_why_no_date(text, value)) from error


def _why_no_date(text: str, value: Any) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return f"expected a date such as 2024-12-31 or 31.12.2024, got {shown(value)}"
    return f"expected a date, got {shown(value)} with a time of day: put the time in a column of its own"


_READERS = {
    ColumnKind.NUMERIC: _read_number,
    ColumnKind.INTEGER: _read_number,
    ColumnKind.BOOLEAN: _read_truth,
    ColumnKind.DATE: _read_date,
}
