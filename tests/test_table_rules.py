from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.spec_table import Column, ColumnKind
from factory.tables.rules import RuleError, parse_rule

COLUMNS = [
    Column(name="age", kind=ColumnKind.INTEGER),
    Column(name="net pay", kind=ColumnKind.NUMERIC),
    Column(name="school", kind=ColumnKind.ORDINAL, values=("none", "first", "second")),
    Column(name="born", kind=ColumnKind.DATE),
    Column(name="owns", kind=ColumnKind.BOOLEAN),
    Column(name="job", kind=ColumnKind.CATEGORY, values=("cook", "smith")),
    Column(name="note", kind=ColumnKind.TEXT),
]
CELLS = {
    "age": pa.array([10, 20, None, 0]),
    "net pay": pa.array([1.0, 2.0, 3.0, 0.0]),
    "school": pa.array(["none", "second", None, "first"]),
    "born": pa.array([date(2024, 1, 1), None, date(2023, 1, 1), date(2022, 1, 1)]),
    "owns": pa.array([True, False, None, True]),
    "job": pa.array(["cook", "smith", "cook", None]),
    "note": pa.array(["=1+1", "b", None, ""]),
}


def broken(rule: str) -> list[int]:
    return parse_rule(rule, COLUMNS).broken(CELLS, 4).is_false.nonzero()[0].tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("age >= 18", [0, 3]),
        ("18 <= age < 30", [0, 3]),
        ("`net pay` * 2 - 1 > 1", [0, 3]),
        ("-age <= -(5 + 5)", [3]),
        ("2 + 3 * age == 32", [1, 3]),
        ("school >= 'first'", [0]),
        ("school in ['none', \"first\"]", [1]),
        ("job not in ['cook']", [0, 2]),
        ("job == 'cook' and school != 'none'", [0, 1]),
        ("born < '2023-06-01'", [0]),
        ("owns", [1]),
        ("not owns", [0, 3]),
        ("owns == true or age == 20", []),
        ("note == '=1+1'", [1, 3]),
    ],
)
def test_a_rule_is_broken_by_rows_for_which_it_is_surely_false(rule: str, expected: list[int]) -> None:
    assert broken(rule) == expected


def test_a_row_that_divides_by_zero_breaks_the_rule_and_says_so() -> None:
    found = parse_rule("`net pay` / age > 0.09", COLUMNS).broken(CELLS, 4)
    assert found.is_false.tolist() == [False, False, False, True]
    assert found.by_zero.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("__import__('os')", "'__import__' is no column, and a rule calls nothing"),
        ("agee > 1", "'agee' is no column of age, net pay, .*; nearest: 'age'"),
        ("age / 0 > 1", "divides by zero"),
        ("age", "a rule is true or false"),
        ("1 == 1", "looks at no column"),
        ("age = 3", "write == to compare"),
        ("age > 'x'", "cannot compare a number with a text"),
        ("job < 'cook'", "needs an order"),
        ("job == 'cok'", "'cok' is no value of 'job' .*; nearest: 'cook'"),
        ("born > '01.02.2024'", "a date is written as 2024-12-31"),
        ("age + owns > 1", "needs a number, and column 'owns' is a truth"),
        ("age > 1 2", "expected the end of the rule, got '2'"),
        ("age in [owns]", "numbers and quoted text only"),
        ("note == 'abc", "a quote is not closed"),
        ("age.real > 1", "cannot read"),
        ("age ** 2 > 1", "expected a column or a value"),
        ("age if owns else 1", "expected the end"),
        ("", "the rule is empty"),
        ("(" * 60 + "age", "nested deeper"),
        ("-" * 900 + "age > 1", "nested deeper"),
        ("age > " + "1" * 1000, "at most 1,000 characters"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_reason(rule: str, why: str) -> None:
    with pytest.raises(RuleError, match=why):
        parse_rule(rule, COLUMNS)


TOKENS = ["age", "`net pay`", "school", "owns", "'none'", "2", "0", "+", "-", "*", "/", "<", "==", "in", "[", "]", ","]


@given(st.lists(st.sampled_from([*TOKENS, "and", "or", "not", "(", ")", "true", "__class__", "eval", "lambda"])))
def test_any_heap_of_tokens_is_a_rule_or_an_error_of_ours(tokens: list[str]) -> None:
    try:
        rule = parse_rule(" ".join(tokens), COLUMNS)
    except RuleError:
        return
    found: Any = rule.broken(CELLS, 4)
    assert found.is_false.shape == found.by_zero.shape == (4,)
