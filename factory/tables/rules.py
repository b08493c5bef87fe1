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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from factory.spec_errors import listed, suggestion
from factory.spec_table import Column
from factory.tables.rule_parts import (
    COMPARISONS,
    Cells,
    Node,
    both,
    compared,
    constant,
    counted,
    divided,
    inverted,
    negated,
    of_column,
)
from factory.tables.rule_parts import RuleError as RuleError

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
_WORDS = {"and", "or", "not", "in", "true", "false"}


@dataclass(frozen=True)
class Broken:
    """What a rule says about some rows."""

    is_false: NDArray[np.bool_]
    """Shape (n_rows,): the rule is surely false, or divides by zero."""
    by_zero: NDArray[np.bool_]
    """Shape (n_rows,): it cannot be worked out, because something is divided by zero."""


@dataclass(frozen=True)
class Rule:
    """A rule that was understood."""

    text: str
    columns: frozenset[str]
    """Those it looks at."""
    _root: Node

    def broken(self, cells: "Mapping[str, pyarrow.Array]", n_rows: int) -> Broken:
        """Try the rule on rows.

        Args:
            cells: Typed cells by column, as `tables.cells` makes them; equally long, null where missing.
            n_rows: How many rows there are.

        Returns:
            Which rows break it.
        """
        import pyarrow.compute as pc

        state = Cells(cells, n_rows)
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

    def any_of(self, depth: int) -> Node:
        node = self._all_of(depth)
        while self._take("or"):
            node = both("or_kleene", "or", node, self._all_of(depth))
        return node

    def _all_of(self, depth: int) -> Node:
        node = self._not(depth)
        while self._take("and"):
            node = both("and_kleene", "and", node, self._not(depth))
        return node

    def _not(self, depth: int) -> Node:
        if self._take("not"):
            return inverted(self._not(_deeper(depth)))
        return self._comparison(depth)

    def _comparison(self, depth: int) -> Node:
        left = self._sum(depth)
        if self.token == "in" or (self.token == "not" and self._next_is_in()):
            is_not = bool(self._take("not"))
            self._expect("in")
            return self._member(left, is_not=is_not)
        node: Node | None = None
        while mark := self._take(*COMPARISONS):
            right = self._sum(depth)
            one = compared(mark, left, right)
            node = one if node is None else both("and_kleene", "and", node, one)  # 0 < a <= 5
            left = right
        return left if node is None else node

    def _next_is_in(self) -> bool:
        return self._tokens[self._at + 1 : self._at + 2] == [("name", "in")]

    def _member(self, left: Node, *, is_not: bool) -> Node:
        self._expect("[")
        found = [compared("==", left, self._literal())]
        while self._take(","):
            found.append(compared("==", left, self._literal()))
        self._expect("]")
        node = found[0]
        for other in found[1:]:
            node = both("or_kleene", "or", node, other)
        return inverted(node) if is_not else node

    def _literal(self) -> Node:
        node = self._sign(0)
        if node.literal is None:
            raise RuleError("a list after `in` holds numbers and quoted text only")
        return node

    def _sum(self, depth: int) -> Node:
        node = self._product(depth)
        while mark := self._take("+", "-"):
            node = counted(mark, node, self._product(depth))
        return node

    def _product(self, depth: int) -> Node:
        node = self._sign(depth)
        while mark := self._take("*", "/"):
            other = self._sign(depth)
            node = divided(node, other) if mark == "/" else counted(mark, node, other)
        return node

    def _sign(self, depth: int) -> Node:
        if self._take("-"):
            return negated(self._sign(_deeper(depth)))
        return self._atom(depth)

    def _atom(self, depth: int) -> Node:
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
            return constant("number", float(token))
        if kind == "text":
            return constant("text", token[1:-1])
        if kind == "name" and token in ("true", "false"):
            return constant("truth", token == "true")
        return self._column(token[1:-1] if kind == "quoted" else token)

    def _column(self, name: str) -> Node:
        column = self.columns.get(name)
        if column is None:
            if self._take("("):
                raise RuleError(f"{name!r} is no column, and a rule calls nothing")
            raise RuleError(f"{name!r} is no column of {listed(list(self.columns))}{suggestion(name, self.columns)}")
        self.used.add(name)
        return of_column(column)


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
