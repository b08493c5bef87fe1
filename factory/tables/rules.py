"""Rules between the columns of a table: `years_employed <= age - 14`, `purpose in ["car", "house"] or amount < 5000`.

A tiny language of its own, parsed here by recursive descent and never given to an interpreter:

    rule       = and {"or" and}                       and  = not {"and" not}          not = ["not"] comparison
    comparison = sum {("<" | "<=" | ">" | ">=" | "==" | "!=") sum} | sum ["not"] "in" "[" literal {"," literal} "]"
    sum        = product {("+" | "-") product}        product = sign {("*" | "/") sign}        sign = {"-"} atom
    atom       = number | "text" | true | false | column | `column with spaces` | "(" rule ")"

Text and dates are written in quotes. Categories are compared with their values only, ordinal ones in their order. As in
SQL's CHECK, a rule is broken by a row for which it is false; where a cell is missing and the rule needs it, nothing is
known and the row stands.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from factory.spec_errors import listed, suggestion
from factory.spec_table import Column, ColumnKind

if TYPE_CHECKING:
    import pyarrow

MOST_CHARS = 1_000
MOST_DEPTH = 50
"""Of nested brackets, `not` and signs."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)
      |(?P<text>"[^"]*"|'[^']*') | (?P<quoted>`[^`]*`) | (?P<name>[^\W\d]\w*)
      |(?P<mark><=|>=|==|!=|[-+*/<>()\[\],]))""",
    re.VERBOSE,
)
_COMPARE = {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal", "==": "equal", "!=": "not_equal"}
_COUNT = {"+": "add", "-": "subtract", "*": "multiply"}
_WORDS = {"and", "or", "not", "in", "true", "false"}


class RuleError(ValueError):
    """A rule that cannot be understood; the message says why."""


@dataclass(frozen=True)
class Broken:
    """What a rule says about some rows."""

    is_false: NDArray[np.bool_]
    """Shape (n_rows,): the rule is surely false, or divides by zero."""
    by_zero: NDArray[np.bool_]
    """Shape (n_rows,): it cannot be worked out, because something is divided by zero."""


class _Cells:
    """Columns as a rule sees them: numbers as floats, ordinal values as ranks."""

    def __init__(self, columns: "Mapping[str, pyarrow.Array]", n_rows: int) -> None:
        self.columns = columns
        self.by_zero = np.zeros(n_rows, dtype=bool)


Run = Callable[[_Cells], Any]


@dataclass(frozen=True)
class _Node:
    """A part of a rule."""

    type: str
    """number, text, date or truth; ordinal columns are their ranks, and `column` tells which."""
    run: Run
    literal: Any = None
    column: Column | None = None


@dataclass(frozen=True)
class Rule:
    """A rule that was understood."""

    text: str
    columns: frozenset[str]
    """Those it looks at."""
    _root: _Node

    def broken(self, cells: "Mapping[str, pyarrow.Array]", n_rows: int) -> Broken:
        """Try the rule on rows.

        Args:
            cells: Typed cells by column, as `tables.cells` makes them; equally long, null where missing.
            n_rows: How many rows there are.

        Returns:
            Which rows break it.
        """
        import pyarrow.compute as pc

        state = _Cells(cells, n_rows)
        result = self._root.run(state)
        false = np.broadcast_to(np.asarray(pc.fill_null(pc.invert(result), False)), (n_rows,))
        return Broken(false.astype(bool) | state.by_zero, state.by_zero)


def parse_rule(text: str, columns: Sequence[Column]) -> Rule:
    """Read a rule.

    Args:
        text: The rule.
        columns: What it may look at.

    Returns:
        The rule, ready to be tried.

    Raises:
        RuleError: It is no rule, names an unknown column, compares what cannot be compared, divides by the number 0.
    """
    if len(text) > MOST_CHARS:
        raise RuleError(f"a rule has at most {MOST_CHARS:,} characters, this one {len(text):,}")
    parser = _Parser(text, {column.name: column for column in columns})
    root = parser.any_of(0)
    if parser.token:
        raise RuleError(f"expected the end of the rule, got {parser.token!r}")
    if root.type != "truth":
        raise RuleError(f"a rule is true or false, such as `age >= 18`; this one is a {root.type}")
    if not parser.used:
        raise RuleError("the rule looks at no column")
    return Rule(text, frozenset(parser.used), root)


class _Parser:
    """Reads a rule from left to right."""

    def __init__(self, text: str, columns: Mapping[str, Column]) -> None:
        self.columns = columns
        self.used: set[str] = set()
        self._tokens = _tokens(text)
        self._at = 0

    @property
    def token(self) -> str:
        """The next token; empty at the end."""
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _take(self, *wanted: str) -> str:
        """Take the next token if it is one of those wanted and no text; else return nothing."""
        if self.token in wanted and self._kind in ("mark", "name"):
            self._at += 1
            return self._tokens[self._at - 1][1]
        return ""

    def _expect(self, wanted: str) -> None:
        if not self._take(wanted):
            raise RuleError(f"expected {wanted!r}, got {self.token!r}" if self.token else f"{wanted!r} is missing")

    def any_of(self, depth: int) -> _Node:
        node = self._all_of(depth)
        while self._take("or"):
            node = _both("or_kleene", "or", node, self._all_of(depth))
        return node

    def _all_of(self, depth: int) -> _Node:
        node = self._not(depth)
        while self._take("and"):
            node = _both("and_kleene", "and", node, self._not(depth))
        return node

    def _not(self, depth: int) -> _Node:
        if self._take("not"):
            inner = self._not(_deeper(depth))
            _require("truth", "not", inner)
            return _Node("truth", lambda cells: _compute("invert", inner.run(cells)))
        return self._comparison(depth)

    def _comparison(self, depth: int) -> _Node:
        left = self._sum(depth)
        if self.token == "in" or (self.token == "not" and self._next_is_in()):
            is_not = bool(self._take("not"))
            self._expect("in")
            return self._member(left, is_not=is_not)
        node: _Node | None = None
        while mark := self._take(*_COMPARE):
            right = self._sum(depth)
            one = _compared(mark, left, right)
            node = one if node is None else _both("and_kleene", "and", node, one)  # 0 < a <= 5
            left = right
        return left if node is None else node

    def _next_is_in(self) -> bool:
        return self._tokens[self._at + 1 : self._at + 2] == [("name", "in")]

    def _member(self, left: _Node, *, is_not: bool) -> _Node:
        self._expect("[")
        found = [_compared("==", left, self._literal())]
        while self._take(","):
            found.append(_compared("==", left, self._literal()))
        self._expect("]")
        node = found[0]
        for other in found[1:]:
            node = _both("or_kleene", "or", node, other)
        return _Node("truth", lambda cells: _compute("invert", node.run(cells))) if is_not else node

    def _literal(self) -> _Node:
        node = self._sign(0)
        if node.literal is None:
            raise RuleError("a list after `in` holds numbers and quoted text only")
        return node

    def _sum(self, depth: int) -> _Node:
        node = self._product(depth)
        while mark := self._take("+", "-"):
            node = _counted(mark, node, self._product(depth))
        return node

    def _product(self, depth: int) -> _Node:
        node = self._sign(depth)
        while mark := self._take("*", "/"):
            other = self._sign(depth)
            node = _divided(node, other) if mark == "/" else _counted(mark, node, other)
        return node

    def _sign(self, depth: int) -> _Node:
        if self._take("-"):
            inner = self._sign(_deeper(depth))
            _require("number", "-", inner)
            literal = None if inner.literal is None else -inner.literal
            return _Node("number", lambda cells: _compute("negate", inner.run(cells)), literal)
        return self._atom(depth)

    def _atom(self, depth: int) -> _Node:
        kind, token = self._kind, self.token
        if kind == "mark" and token == "(":
            self._at += 1
            node = self.any_of(_deeper(depth))
            self._expect(")")
            return node
        if kind == "mark" or not kind or (kind == "name" and token in _WORDS - {"true", "false"}):
            raise RuleError(f"expected a column or a value, got {token!r}" if token else "the rule ends too early")
        self._at += 1
        if kind == "number":
            return _constant("number", float(token))
        if kind == "text":
            return _constant("text", token[1:-1])
        if kind == "name" and token in ("true", "false"):
            return _constant("truth", token == "true")
        return self._column(token[1:-1] if kind == "quoted" else token)

    def _column(self, name: str) -> _Node:
        column = self.columns.get(name)
        if column is None:
            if self._take("("):
                raise RuleError(f"{name!r} is no column, and a rule calls nothing")
            raise RuleError(f"{name!r} is no column of {listed(list(self.columns))}{suggestion(name, self.columns)}")
        self.used.add(name)
        return _Node(_TYPES.get(column.kind, "text"), _reader(column), column=column)


_TYPES = {
    ColumnKind.NUMERIC: "number",
    ColumnKind.INTEGER: "number",
    ColumnKind.BOOLEAN: "truth",
    ColumnKind.DATE: "date",
    ColumnKind.ORDINAL: "ordinal",
}


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            rest = text[at:].lstrip()
            if rest[0] in "\"'`":
                raise RuleError(f"a quote is not closed: {rest[:40]}")
            hint = "; write == to compare" if rest[0] == "=" else ""
            raise RuleError(f"cannot read {rest[:20]!r}{hint}")
        kind = match.lastgroup or ""
        found.append((kind, match.group(kind)))
        at = match.end()
    if not found:
        raise RuleError("the rule is empty")
    return found


def _deeper(depth: int) -> int:
    if depth >= MOST_DEPTH:
        raise RuleError(f"nested deeper than {MOST_DEPTH} levels")
    return depth + 1


def _reader(column: Column) -> Run:
    """Read a column as what it is compared as."""

    def run(cells: _Cells) -> Any:
        import pyarrow as pa

        found = cells.columns[column.name]
        if column.kind is ColumnKind.ORDINAL:
            return _compute("index_in", found, value_set=pa.array(column.values))
        return found.cast(pa.float64()) if column.kind.is_number else found

    return run


def _constant(type_: str, value: Any) -> _Node:
    def run(cells: _Cells) -> Any:
        import pyarrow as pa

        return pa.scalar(value)

    return _Node(type_, run, literal=value)


def _compute(name: str, *arguments: Any, **options: Any) -> Any:
    import pyarrow.compute as pc

    return getattr(pc, name)(*arguments, **options)


def _require(type_: str, what: str, *nodes: _Node) -> None:
    for node in nodes:
        if node.type != type_:
            name = f"column {node.column.name!r}" if node.column else "it"
            raise RuleError(f"`{what}` needs a {type_}, and {name} is a {node.type}")


def _both(function: str, word: str, left: _Node, right: _Node) -> _Node:
    _require("truth", word, left, right)
    return _Node("truth", lambda cells: _compute(function, left.run(cells), right.run(cells)))


def _counted(mark: str, left: _Node, right: _Node) -> _Node:
    _require("number", mark, left, right)
    return _Node("number", lambda cells: _compute(_COUNT[mark], left.run(cells), right.run(cells)))


def _divided(left: _Node, right: _Node) -> _Node:
    _require("number", "/", left, right)
    if right.literal == 0:
        raise RuleError("divides by zero")

    def run(cells: _Cells) -> Any:
        divisor = right.run(cells)
        cells.by_zero |= np.asarray(_compute("fill_null", _compute("equal", divisor, 0.0), False))
        return _compute("divide", left.run(cells), divisor)

    return _Node("number", run)


def _compared(mark: str, left: _Node, right: _Node) -> _Node:
    left, right = _fitted(left, right), _fitted(right, left)
    if left.type != right.type:
        raise RuleError(f"cannot compare a {left.type} with a {right.type}")
    if left.type == "ordinal" and left.column and right.column and left.column.values != right.column.values:
        raise RuleError(f"{left.column.name!r} and {right.column.name!r} have different values")
    if mark not in ("==", "!=") and left.type in ("text", "truth"):
        raise RuleError(f"`{mark}` needs an order, and a {left.type} has none: use == or !=")
    return _Node("truth", lambda cells: _compute(_COMPARE[mark], left.run(cells), right.run(cells)))


def _fitted(node: _Node, other: _Node) -> _Node:
    """Read quoted text as what it is compared with."""
    if node.literal is None or node.type != "text" or other.column is None:
        return node
    column = other.column
    if column.values and node.literal not in column.values:
        guess = suggestion(node.literal, column.values)
        raise RuleError(f"{node.literal!r} is no value of {column.name!r} ({listed(column.values)}){guess}")
    if column.kind is ColumnKind.ORDINAL:
        rank = column.values.index(node.literal)
        return _Node("ordinal", _constant("number", rank).run, literal=node.literal)
    if column.kind is ColumnKind.DATE:
        try:
            return _constant("date", date.fromisoformat(node.literal))
        except ValueError as error:
            raise RuleError(f"a date is written as 2024-12-31, not {node.literal!r}") from error
    return node
