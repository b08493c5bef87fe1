"""Numbers as people write them: 1,234.5 and 1.234,5 and 12 %; a whole column decides which of the marks is which."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from factory.errors import FactoryError
from factory.spec_errors import shown

MISSING = frozenset({"", "?", "-", "--", "na", "n/a", "#n/a", "nan", "null"})
"""What stands for nothing known, in small letters."""
MOST_EXACT = 2**53
"""From here on a float does not hold every whole number; what looks like one is a code."""
Decimal = Literal["point", "comma"]

_SPACE = " '’\u00a0\u202f\u2009"
_EXPONENT = r"(?:[eE][+-]?[0-9]{1,3})?"


def _style(decimal: str, grouping: str) -> re.Pattern[str]:
    grouped = rf"[1-9][0-9]{{0,2}}(?:([{grouping}{_SPACE}])[0-9]{{3}})(?:\1[0-9]{{3}})*"
    # Of two ways to read `1,234` grouping comes first; a decimal mark may follow it.
    return re.compile(rf"[+-]?(?:(?:{grouped}|[0-9]+)(?:{decimal}[0-9]*)?|{decimal}[0-9]+){_EXPONENT}")


_STYLES: dict[Decimal, re.Pattern[str]] = {"point": _style(r"\.", ","), "comma": _style(",", r"\.")}
_CODE = re.compile(r"0[0-9]+")
_UNCLEAR = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")


@dataclass(frozen=True)
class Numbers:
    """A column of numbers."""

    values: tuple[float, ...]
    is_whole: bool
    is_percent: bool
    decimal: Decimal | None
    """Which mark is the decimal one, where the cells told."""


def is_missing(cell: Any) -> bool:
    """Tell whether a cell says that nothing is known."""
    return cell is None or (isinstance(cell, str) and cell.strip().casefold() in MISSING)


def is_number(cell: Any) -> bool:
    """Tell whether a cell can be read as a number in any way."""
    if isinstance(cell, str):
        return _is_number_text(cell)
    return isinstance(cell, int | float) and not isinstance(cell, bool)


@lru_cache(maxsize=100_000)  # most cells of a column come again
def _is_number_text(cell: str) -> bool:
    text = cell.strip().removesuffix("%").strip()
    return any(style.fullmatch(text) for style in _STYLES.values())


def read_column(
    cells: Sequence[Any], where: Callable[[int], str], *, decimal: Decimal | None, points_are_unclear: bool = False
) -> Numbers | None:
    """Read a column as numbers.

    Args:
        cells: Those that are known.
        where: The address of a cell.
        decimal: The decimal mark of a column whose cells do not tell, where a person said it.
        points_are_unclear: Whether other columns of the file have decimal commas, so that 1.234 may be a thousand.

    Returns:
        The numbers, or None where not all cells are, or where they are codes such as 0012.

    Raises:
        FactoryError: The cells are numbers, but of which size is unclear.
    """
    if any(not is_number(cell) for cell in cells) or any(_is_code(cell) for cell in cells):
        return None
    texts = {at: cell for at, cell in enumerate(cells) if isinstance(cell, str)}
    percent = [at for at, text in texts.items() if text.endswith("%")]
    if percent and len(percent) < len(cells):
        odd = next(at for at in range(len(cells)) if at not in set(percent))
        message = f"{where(odd)}: {shown(cells[odd])} has no percent sign, and {where(percent[0])} has one"
        raise FactoryError(message, hint="write all cells of the column with the sign, or none")
    bare = {at: text.removesuffix("%").strip() for at, text in texts.items()}
    mark = _decimal_mark(bare, where, decimal, points_are_unclear)
    values = [_value(bare[at] if at in bare else cell, mark) for at, cell in enumerate(cells)]
    endless = next((at for at, value in enumerate(values) if not math.isfinite(value)), None)
    if endless is not None:
        raise FactoryError(f"{where(endless)}: {shown(cells[endless])} is too large a number", hint="mend the cell")
    marked = any("." in text or "," in text for text in bare.values())
    told = mark if any(("." if mark == "point" else ",") in text for text in bare.values()) else None
    whole = all(value.is_integer() for value in values) and not any(_has_fraction(text, mark) for text in bare.values())
    whole = whole and all(abs(value) < MOST_EXACT for value in values)
    return Numbers(tuple(values), whole, bool(percent), told if marked else None)


def _is_code(cell: Any) -> bool:
    if isinstance(cell, str):
        return _CODE.fullmatch(cell) is not None or (cell.isdecimal() and int(cell[:400]) >= MOST_EXACT)
    return isinstance(cell, int) and abs(cell) >= MOST_EXACT


def _decimal_mark(
    texts: dict[int, str], where: Callable[[int], str], decimal: Decimal | None, points_are_unclear: bool
) -> Decimal:
    different = set(texts.values())
    fitting = [mark for mark, style in _STYLES.items() if all(map(style.fullmatch, different))]
    if not fitting:
        at = _first_misfit(texts)
        message = f"{where(at)}: {shown(texts[at])} cannot be read with the decimal mark of the cells above it"
        raise FactoryError(message, hint="write all numbers of the column alike")
    if len(fitting) == 1:
        return fitting[0]
    if decimal is not None:
        return decimal
    for at, text in texts.items():
        # 1.234 is what programs write, 1,234 may be either.
        if _UNCLEAR.fullmatch(text) and ("," in text or points_are_unclear):
            one, other = text.replace(".", "").replace(",", ""), text.replace(",", ".")
            hint = "say which with --decimal point or --decimal comma"
            raise FactoryError(f"{where(at)}: {shown(text)} may be {one} or {other}", hint=hint)
    return "point"


def _first_misfit(texts: dict[int, str]) -> int:
    left = set(_STYLES)
    for at, text in texts.items():
        left = {mark for mark in left if _STYLES[mark].fullmatch(text)}
        if not left:
            return at
    return next(iter(texts))


def _has_fraction(text: str, mark: Decimal) -> bool:
    return ("." if mark == "point" else ",") in text


def _value(cell: Any, mark: Decimal) -> float:
    return _text_value(cell, mark) if isinstance(cell, str) else float(cell)


@lru_cache(maxsize=100_000)
def _text_value(cell: str, mark: Decimal) -> float:
    plain = re.sub(f"[{_SPACE}{',' if mark == 'point' else '.'}]", "", cell)
    return float(plain.replace(",", "."))
