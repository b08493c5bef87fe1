"""The rule a candidate must pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.release.gate import GateResult, check_gate
from factory.spec import Gate


def check(gate: Gate, accuracy: float | None = 0.9, macro_f1: float | None = 0.9) -> GateResult:
    return check_gate(gate, accuracy=accuracy, macro_f1=macro_f1, p95_ms=5.0, size_mb=20.0)


def test_each_bound_has_a_line() -> None:
    result = check(Gate(accuracy=0.8, macro_f1=0.85, p95_ms=10, size_mb=25))
    assert result.passed
    assert result.lines == (
        "accuracy 0.9 >= 0.8 ok",
        "macro_f1 0.9 >= 0.85 ok",
        "p95_ms 5 <= 10 ok",
        "size_mb 20 <= 25 ok",
    )


@pytest.mark.parametrize(
    ("gate", "line"),
    [
        (Gate(accuracy=0.95), "accuracy 0.9 >= 0.95 failed"),
        (Gate(macro_f1=0.95), "macro_f1 0.9 >= 0.95 failed"),
        (Gate(p95_ms=4), "p95_ms 5 <= 4 failed"),
        (Gate(size_mb=19.5), "size_mb 20 <= 19.5 failed"),
    ],
)
def test_one_missed_bound_fails_the_gate(gate: Gate, line: str) -> None:
    others = Gate(accuracy=0.1, macro_f1=0.1, p95_ms=100, size_mb=100)
    given_bounds = {name: bound for name, bound in gate.model_dump().items() if bound is not None}
    result = check(others.model_copy(update=given_bounds))
    assert not result.passed
    assert line in result.lines


def test_a_value_on_the_bound_passes() -> None:
    assert check(Gate(accuracy=0.9, p95_ms=5, size_mb=20)).passed


def test_a_value_just_below_the_bound_is_not_rounded_onto_it() -> None:
    assert check(Gate(accuracy=0.9), accuracy=0.89999).lines == ("accuracy 0.89999 >= 0.9 failed",)


def test_without_gold_rows_a_quality_bound_cannot_be_met() -> None:
    result = check(Gate(macro_f1=0.0, size_mb=100), macro_f1=None)
    assert not result.passed
    assert result.lines[0] == "macro_f1 unknown >= 0 failed: there are no gold rows, name a holdout in the spec"


def test_without_bounds_the_gate_is_passed_and_says_so() -> None:
    assert check(Gate(), None, None) == GateResult(passed=True, lines=("no bounds given",))


@given(bound=st.floats(0, 1), value=st.floats(0, 1) | st.just(float("nan")))
def test_the_verdict_is_the_comparison(bound: float, value: float) -> None:
    result = check(Gate(accuracy=bound), accuracy=value)
    assert result.passed == (value >= bound)
    assert result.lines[0].endswith("ok" if result.passed else "failed")
