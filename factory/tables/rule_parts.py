"""The parts of a rule that was read: what each is worth on some rows, and which may be put together.

A part that cannot be, such as a number compared with a text, is refused when the rule is read, before any row is seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.spec_errors import listed, suggestion
from factory.spec_table import Column, ColumnKind

if TYPE_CHECKING:
    import pyarrow

COMPARISONS = {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal", "==": "equal", "!=": "not_equal"}
_COUNT = {"+": "add", "-": "subtract", "*": "multiply"}
_TYPES = {
    ColumnKind.NUMERIC: "number",
    ColumnKind.INTEGER: "number",
    ColumnKind.BOOLEAN: "truth",
    ColumnKind.DATE: "date",
    ColumnKind.ORDINAL: "ordinal",
}


class RuleError(ValueError):
    """A rule that cannot be understood; the message says why."""


class Cells:
    """Columns as a rule sees them: numbers as floats, ordinal values as ranks."""

    def __init__(self, columns: "Mapping[str, pyarrow.Array]", n_rows: int) -> None:
        self.columns = columns
        self.by_zero = np.zeros(n_rows, dtype=bool)


Run = Callable[[Cells], Any]


@dataclass(frozen=True)
class Node:
    """A part of a rule."""

    type: str
    """number, text, date or truth; ordinal columns are their ranks, and `column` tells which."""
    run: Run
    literal: Any = None
    column: Column | None = None


def of_column(column: Column) -> Node:
    """Make a node that reads a column as what it is compared as."""

    def run(cells: Cells) -> Any:
        import pyarrow as pa

        found = cells.columns[column.name]
        if column.kind is ColumnKind.ORDINAL:
            return _compute("index_in", found, value_set=pa.array(column.values))
        return found.cast(pa.float64()) if column.kind.is_number else found

    return Node(_TYPES.get(column.kind, "text"), run, column=column)


def constant(type_: str, value: Any) -> Node:
    """Make a node of a value that the rule names."""

    def run(cells: Cells) -> Any:
        import pyarrow as pa

        return pa.scalar(value)

    return Node(type_, run, literal=value)


def inverted(node: Node) -> Node:
    """Say of a truth that it is none."""
    _require("truth", "not", node)
    return Node("truth", lambda cells: _compute("invert", node.run(cells)))


def negated(node: Node) -> Node:
    """Turn the sign of a number."""
    _require("number", "-", node)
    literal = None if node.literal is None else -node.literal
    return Node("number", lambda cells: _compute("negate", node.run(cells)), literal)


def both(function: str, word: str, left: Node, right: Node) -> Node:
    """Join two truths: by a function of `pyarrow.compute`, which the rule calls by a word."""
    _require("truth", word, left, right)
    return Node("truth", lambda cells: _compute(function, left.run(cells), right.run(cells)))


def counted(mark: str, left: Node, right: Node) -> Node:
    """Add, subtract or multiply two numbers."""
    _require("number", mark, left, right)
    return Node("number", lambda cells: _compute(_COUNT[mark], left.run(cells), right.run(cells)))


def divided(left: Node, right: Node) -> Node:
    """Divide two numbers; rows whose divisor is zero are noted."""
    _require("number", "/", left, right)
    if right.literal == 0:
        raise RuleError("divides by zero")

    def run(cells: Cells) -> Any:
        divisor = right.run(cells)
        cells.by_zero |= np.asarray(_compute("fill_null", _compute("equal", divisor, 0.0), False))
        return _compute("divide", left.run(cells), divisor)

    return Node("number", run)


def compared(mark: str, left: Node, right: Node) -> Node:
    """Compare two values of one type."""
    left, right = _fitted(left, right), _fitted(right, left)
    if left.type != right.type:
        raise RuleError(f"cannot compare a {left.type} with a {right.type}")
    if left.type == "ordinal" and left.column and right.column and left.column.values != right.column.values:
        raise RuleError(f"{left.column.name!r} and {right.column.name!r} have different values")
    if mark not in ("==", "!=") and left.type in ("text", "truth"):
        raise RuleError(f"`{mark}` needs an order, and a {left.type} has none: use == or !=")
    return Node("truth", lambda cells: _compute(COMPARISONS[mark], left.run(cells), right.run(cells)))


def _fitted(node: Node, other: Node) -> Node:
    """Read quoted text as what it is compared with."""
    if node.literal is None or node.type != "text" or other.column is None:
        return node
    column = other.column
    if column.values and node.literal not in column.values:
        guess = suggestion(node.literal, column.values)
        raise RuleError(f"{node.literal!r} is no value of {column.name!r} ({listed(column.values)}){guess}")
    if column.kind is ColumnKind.ORDINAL:
        rank = column.values.index(node.literal)
        return Node("ordinal", constant("number", rank).run, literal=node.literal)
    if column.kind is ColumnKind.DATE:
        try:
            return constant("date", date.fromisoformat(node.literal))
        except ValueError as error:
            raise RuleError(f"a date is written as 2024-12-31, not {node.literal!r}") from error
    return node


def _compute(name: str, *arguments: Any, **options: Any) -> Any:
    import pyarrow.compute as pc

    return getattr(pc, name)(*arguments, **options)


def _require(type_: str, what: str, *nodes: Node) -> None:
    for node in nodes:
        if node.type != type_:
            name = f"column {node.column.name!r}" if node.column else "it"
            raise RuleError(f"`{what}` needs a {type_}, and {name} is a {node.type}")
