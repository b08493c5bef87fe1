"""Rows of a table as numbers, for the `predict.py` beside this file: needs numpy and nothing else.

A row is a JSON object with a key for each column of `config.json`; null stands for what is not known. Other keys are
passed over. This file is copied into every artifact of a table as it is.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]

TRUE = frozenset({"true", "yes", "y", "t", "1"})
FALSE = frozenset({"false", "no", "n", "f", "0"})
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_MIDNIGHT = re.compile(r"[T ]00:00(:00(\.0+)?)?Z?$")
_WORD = re.compile(r"[^\W_]{2,}")
_EPOCH = date(1970, 1, 1).toordinal()
_LIMIT = float(np.finfo(np.float32).max)
_PLAIN = ({int, float}, {int}, {float}, {int, float, type(None)}, {int, type(None)}, {float, type(None)}, {type(None)})


class WrongRow(ValueError):
    """A row that cannot be answered; the message names its column."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(f"row {position + 1}: {message}")
        self.position = position
        self.message = message


class Cells:
    """Turns rows into the float32 input of the graph, NaN where nothing is known."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self._columns = [_Column(one, inputs["values"].get(one["name"], ())) for one in inputs["columns"]]
        self.names = tuple(column.name for column in self._columns)
        self.n_inputs = sum(column.n_inputs for column in self._columns)

    def matrix(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Return the numbers of some rows, shape (n_rows, n_inputs).

        Args:
            rows: Objects with all columns as keys, or with such an object under `features`.

        Returns:
            The numbers.

        Raises:
            WrongRow: A column is missing, or a cell is not what its column holds.
        """
        matrix = np.empty((len(rows), self.n_inputs), dtype=np.float64)
        start = 0
        for column in self._columns:
            try:
                values = [row[column.name] for row in rows]
            except (KeyError, TypeError):
                return self.matrix([self._inner(row, position) for position, row in enumerate(rows)])
            matrix[:, start : start + column.n_inputs] = column.numbers(values)
            start += column.n_inputs
        return np.clip(matrix, -_LIMIT, _LIMIT).astype(np.float32)

    def _inner(self, row: Any, position: int) -> Row:
        inner = row.get("features", row) if isinstance(row, Mapping) and "features" not in self.names else row
        if not isinstance(inner, Mapping):
            raise WrongRow(position, f"expected an object with a key for each column, got {_shown(inner)}")
        missing = [name for name in self.names if name not in inner]
        if missing:
            folded = {str(key).casefold(): key for key in inner}
            near = folded.get(missing[0].casefold())
            guess = f"; is {near!r} meant?" if near else ""
            raise WrongRow(position, f"no key {missing[0]!r}{guess}; write null where nothing is known")
        return inner


class _Column:
    """One column: what its cells may be, and the inputs they become."""

    def __init__(self, column: Mapping[str, Any], values: Sequence[str]) -> None:
        self.name: str = column["name"]
        self.kind: str = column["kind"]
        self.n_inputs = {"date": 3, "text": len(values)}.get(self.kind, 1)
        self._refuses_missing = column.get("missing") == "refuse"
        self._missing = frozenset(map(_plain, column.get("missing_codes", ())))
        self._code: dict[Any, float] = {value: float(code) for code, value in enumerate(values)}
        self._known = frozenset(column.get("values", ()))
        self._date_order = column.get("date_order")

    def numbers(self, values: list[Any]) -> NDArray[np.float64]:
        """Return the inputs of some cells, shape (n_rows, n_inputs)."""
        fast = self._fast(values)
        if fast is not None:
            return fast[:, None]
        rows = [self._number(value, position) for position, value in enumerate(values)]
        return np.array(rows, dtype=np.float64).reshape(len(values), self.n_inputs)

    def _fast(self, values: list[Any]) -> NDArray[np.float64] | None:
        """Read all cells at once, where they are what they should be."""
        if self.kind in ("category", "ordinal"):
            try:
                codes = [self._code.get(value) for value in values]
            except TypeError:
                return None
            # True is found under no text, but a boolean or a number in a text column is written out in `_number`.
            return None if None in codes else np.array(codes)
        types = set(map(type, values))
        if self.kind == "boolean" and types == {bool}:
            return np.array(values, dtype=np.float64)
        if self.kind not in ("numeric", "integer") or self._missing or self._refuses_missing or types not in _PLAIN:
            return None
        try:
            numbers = np.array(values, dtype=np.float64)
        except OverflowError:  # a whole number beyond all floats is refused one by one, with its row
            return None
        n_missing = values.count(None)
        is_fine = np.isfinite(numbers).sum() + n_missing == len(values)
        return numbers if is_fine and self.kind == "numeric" else None if not is_fine else _whole(numbers)

    def _number(self, value: Any, position: int) -> Sequence[float]:
        empty = value is None or (isinstance(value, str) and not value.strip())
        if empty or (self._missing and not isinstance(value, dict | list) and _plain(value) in self._missing):
            if self._refuses_missing:
                raise WrongRow(position, f"{self.name}: is empty, and that is refused")
            return (math.nan,) * self.n_inputs
        try:
            return self._read(value)
        except ValueError as error:
            raise WrongRow(position, f"{self.name}: {error}") from error

    def _read(self, value: Any) -> Sequence[float]:
        if self.kind in ("numeric", "integer"):
            return (_number(value, whole=self.kind == "integer"),)
        if self.kind == "boolean":
            plain = _plain(value).lower() if not isinstance(value, dict | list) else ""
            if plain not in TRUE | FALSE:
                raise ValueError(f"expected true or false (or yes/no, 1/0), got {_shown(value)}")
            return (float(plain in TRUE),)
        if self.kind == "date":
            day = _date(value, self._date_order)
            return float(day.toordinal() - _EPOCH), float(day.month), float(day.weekday())
        if isinstance(value, dict | list):
            raise ValueError(f"expected text, got {_shown(value)}")
        if self.kind == "text":
            words = frozenset(_WORD.findall(_plain(value).lower()))
            return [float(word in words) for word in self._code]
        if self.kind == "ordinal" and _plain(value) not in self._code:
            raise ValueError(f"{_shown(value)} is none of {', '.join(map(str, self._code))}")
        return (self._code.get(_plain(value), math.nan),)  # a category that nobody has seen counts as missing


def _whole(numbers: NDArray[np.float64]) -> NDArray[np.float64] | None:
    known = numbers[~np.isnan(numbers)]
    return numbers if bool((known == np.floor(known)).all()) else None


def _number(value: Any, *, whole: bool) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number and not (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
        raise ValueError(f"expected a number, got {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{_shown(value)} is no number: write null where nothing is known")
    if whole and not number.is_integer():
        raise ValueError(f"expected a whole number, got {_shown(value)}")
    return number


def _date(value: Any, order: str | None) -> date:
    text = _MIDNIGHT.sub("", value.strip()) if isinstance(value, str) else ""
    dotted, slashed = _DOTTED.fullmatch(text), _SLASHED.fullmatch(text)
    try:
        if dotted:
            return date(int(dotted[3]), int(dotted[2]), int(dotted[1]))
        if slashed and order:
            first, second = int(slashed[1]), int(slashed[2])
            return (
                date(int(slashed[3]), second, first) if order == "day-first" else date(int(slashed[3]), first, second)
            )
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"expected a date such as 2024-12-31 or 31.12.2024, got {_shown(value)}") from error


def _plain(value: Any) -> str:
    """Write a value so that 1, 1.0 and "1" are one."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."
