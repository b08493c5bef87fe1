"""The anchor points of each column: the few cells for which a teacher is asked what they tell."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from factory.records import Rows
from factory.records_table import cells_of
from factory.spec_table import Column, ColumnKind, Table
from factory.tables.priors import NO, PROTECTED, YES, Point

if TYPE_CHECKING:
    import pyarrow

QUANTILES = (0.1, 0.5, 0.9)
"""Of the numbers in the rows, or how far along the range of the spec."""
MOST_POINTS = 20
"""Values of a category that are asked about, the most frequent or the first of the spec; others count as average."""
LEAST_SHARE = 0.02
"""Of the rows, for a value to be asked about: rarer ones would cost more than they tell."""


@dataclass(frozen=True)
class Anchors:
    """What to ask about a column."""

    column: Column
    points: tuple[Point, ...]
    note: str = ""
    """Why there are no points."""


def anchors_of(table: Table, rows: Rows | None) -> tuple[Anchors, ...]:
    """Choose the anchor points of each column; labels of the rows are not looked at.

    Args:
        table: What the rows hold.
        rows: Any rows, or None where there are none: then ranges and values of the spec must do.

    Returns:
        One a column, in spec order.
    """
    cells = cells_of(rows.kept) if rows is not None and len(rows.kept) else {}
    return tuple(_anchors(column, cells.get(column.name)) for column in table.columns)


def _anchors(column: Column, cells: "pyarrow.Array | None") -> Anchors:
    if column.protected:
        return Anchors(column, (), PROTECTED)
    if column.kind is ColumnKind.BOOLEAN:
        return Anchors(column, (NO, YES))
    if column.kind is ColumnKind.ORDINAL:
        return Anchors(column, column.values[:MOST_POINTS])
    if column.kind is ColumnKind.CATEGORY:
        values = _frequent(cells) if cells is not None else column.values
        told = values[:MOST_POINTS]
        return Anchors(
            column, told if len(told) > 1 else (), "" if len(told) > 1 else "fewer than two values are known"
        )
    if column.kind.is_number:
        numbers = _numbers(column, cells)
        note = "" if len(numbers) > 1 else "fewer than two numbers are known: give the column a range, or bring rows"
        return Anchors(column, numbers if not note else (), note)
    return Anchors(column, (), f"a {column.kind} column is not asked about")


def _frequent(cells: "pyarrow.Array") -> tuple[str, ...]:
    import pyarrow.compute as pc

    counts = {one["values"]: one["counts"] for one in pc.value_counts(cells.drop_null()).to_pylist()}
    least = LEAST_SHARE * len(cells)
    return tuple(sorted((one for one in counts if counts[one] >= least), key=lambda one: (-counts[one], one)))


def _numbers(column: Column, cells: "pyarrow.Array | None") -> tuple[float, ...]:
    """Return ascending numbers: quantiles of the rows, or points along the range."""
    import pyarrow as pa

    known = None if cells is None else np.asarray(cells.drop_null().cast(pa.float64()))
    if known is not None and len(known):
        # Of a number that is mostly the same, such as 0, the others are told apart among themselves.
        values, counts = np.unique(known, return_counts=True)
        mode = values[counts.argmax()]
        found = {float(one) for one in np.quantile(known, QUANTILES, method="nearest")}
        others = known[known != mode]
        if len(found) < len(QUANTILES) and len(others):
            found |= {float(mode), *(float(one) for one in np.quantile(others, (0.25, 0.75), method="nearest"))}
        return tuple(sorted(found))
    low, high = column.range or (None, None)
    if low is None or high is None:
        return ()
    found = {low + (high - low) * share for share in QUANTILES}
    return tuple(sorted({float(round(one)) for one in found} if column.kind is ColumnKind.INTEGER else found))
