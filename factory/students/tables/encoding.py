"""From typed cells to the float32 matrix that every student of a table reads, and the graph it is exported as.

One input a column, NaN where nothing is known: numbers as they are, ordinal values by rank, categories by the place of
the value in a list. A date becomes three inputs (day, month, day of the week), a text one for each frequent word. All
float32, before learning too: a tree that splits at a number finds the very same number in the exported graph.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from factory.spec_table import Column, ColumnKind

if TYPE_CHECKING:
    import pyarrow

Matrix = NDArray[np.float32]

MOST_CATEGORIES = 1_000
"""Values a category column is told apart by, the most frequent ones; others count as missing, and so does a new one."""
MOST_WORDS = 100
LEAST_ROWS_OF_WORD = 5
_WORD = re.compile(r"[^\W_]{2,}")


@dataclass(frozen=True)
class Input:
    """One column of the matrix."""

    name: str
    column: Column
    values: tuple[str, ...] = ()
    """Of a category: what the codes 0, 1, ... stand for."""

    @property
    def is_category(self) -> bool:
        """Whether its numbers have no order."""
        return self.column.kind is ColumnKind.CATEGORY

    @property
    def sign(self) -> int:
        """1 if the answer may only rise with it, -1 if it may only fall, 0 if it may do both."""
        told = {"increasing": 1, "decreasing": -1, None: 0}[self.column.monotone]
        return told if self.name in (self.column.name, f"{self.column.name}: day") else 0


@dataclass(frozen=True)
class Encoding:
    """What each column becomes; fitted to training rows."""

    columns: tuple[Column, ...]
    values: Mapping[str, tuple[str, ...]]
    """Of each category column its values, of each ordinal one too, of each text column its words."""

    @classmethod
    def fit(cls, cells: "Mapping[str, pyarrow.Array]", columns: Sequence[Column]) -> Self:
        """Choose the values and words to tell apart.

        Args:
            cells: Typed cells of the training rows by column.
            columns: Those to learn from.

        Returns:
            The encoding.
        """
        values = {}
        for column in columns:
            if column.kind is ColumnKind.TEXT:
                values[column.name] = _frequent_words(cells[column.name])
            elif column.kind is ColumnKind.ORDINAL:
                values[column.name] = column.values
            elif column.kind is ColumnKind.CATEGORY:
                values[column.name] = _frequent_values(cells[column.name])
        return cls(tuple(columns), values)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The columns of the matrix."""
        found: list[Input] = []
        for column in self.columns:
            if column.kind is ColumnKind.DATE:
                found += [Input(f"{column.name}: {part}", column) for part in ("day", "month", "weekday")]
            elif column.kind is ColumnKind.TEXT:
                found += [Input(f"{column.name}: {word}", column) for word in self.values[column.name]]
            else:
                values = self.values[column.name] if column.kind is ColumnKind.CATEGORY else ()
                found.append(Input(column.name, column, values))
        return tuple(found)

    def matrix(self, cells: "Mapping[str, pyarrow.Array]") -> Matrix:
        """Return the numbers of some rows, shape (n_rows, n_inputs), NaN where nothing is known."""
        blocks = [_block(column, cells[column.name], self.values.get(column.name, ())) for column in self.columns]
        n_rows = len(next(iter(cells.values())))
        matrix = np.empty((n_rows, sum(len(block) for block in blocks)), dtype=np.float32)
        position = 0
        for block in blocks:
            for numbers in block:
                with np.errstate(over="ignore"):
                    matrix[:, position] = numbers
                position += 1
        # What is too large for a float32 is as large as one can be: an infinity is no number to learn from.
        limit = np.finfo(np.float32).max
        return np.clip(matrix, -limit, limit)

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` and the artifact's `table_cells.py` read."""
        columns = [column.model_dump(mode="json", exclude_defaults=True) for column in self.columns]
        return {"columns": columns, "values": {name: list(values) for name, values in self.values.items()}}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote."""
        columns = tuple(Column.model_validate(column) for column in saved["columns"])
        return cls(columns, {name: tuple(values) for name, values in saved["values"].items()})


def _block(column: Column, cells: "pyarrow.Array", values: Sequence[str]) -> list[NDArray[np.float64]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.kind is ColumnKind.DATE:
        days = _floats(cells.cast(pa.int32()))
        months = _floats(pc.month(cells))
        return [days, months, np.mod(days + 3, 7)]  # 1970-01-01 was a Thursday; Monday is 0
    if column.kind is ColumnKind.TEXT:
        found = [frozenset(words_of(text)) if text is not None else None for text in cells.to_pylist()]
        return [np.array([np.nan if has is None else float(word in has) for has in found]) for word in values]
    if column.kind in (ColumnKind.CATEGORY, ColumnKind.ORDINAL):
        return [_floats(pc.index_in(cells, value_set=pa.array(values, pa.string()), skip_nulls=True))]
    return [_floats(cells)]


def _floats(cells: "pyarrow.Array") -> NDArray[np.float64]:
    import pyarrow as pa

    return np.asarray(cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def words_of(text: str) -> list[str]:
    """Return the words of two letters or digits and more, in lower case."""
    return _WORD.findall(text.lower())


def _frequent_words(cells: "pyarrow.Array") -> tuple[str, ...]:
    counts = Counter(word for text in cells.to_pylist() if text is not None for word in set(words_of(text)))
    enough = [word for word, n in counts.items() if LEAST_ROWS_OF_WORD <= n < len(cells)]
    return tuple(sorted(enough, key=lambda word: (-counts[word], word))[:MOST_WORDS])


def _frequent_values(cells: "pyarrow.Array") -> tuple[str, ...]:
    import pyarrow.compute as pc

    counts = {one["values"]: one["counts"] for one in pc.value_counts(cells.drop_null()).to_pylist()}
    return tuple(sorted(counts, key=lambda value: (-counts[value], value))[:MOST_CATEGORIES])
