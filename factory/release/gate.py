"""The rule a candidate must pass to become champion."""

from factory.evaluation.result import Part
from factory.spec import Gate


class GateResult(Part):
    """Whether every bound of the spec's gate is met, and a line for each."""

    passed: bool
    lines: tuple[str, ...]
    """Such as `macro_f1 0.91 >= 0.85 ok`."""


def check_gate(
    gate: Gate,
    *,
    accuracy: float | None,
    macro_f1: float | None,
    p95_ms: float,
    size_mb: float,
    auc: float | None = None,
    r2: float | None = None,
) -> GateResult:
    """Compare measured figures with the bounds of the spec.

    Args:
        gate: Bounds; those that are null are not checked.
        accuracy: On gold rows, 0 to 1; None without gold rows, and then a bound on it cannot be met.
        macro_f1: Likewise.
        p95_ms: 95th percentile of one answer.
        size_mb: Of the exported folder.
        auc: Of the rows of a table with labels, 0 to 1.
        r2: Of the rows of a table with numbers, at most 1.

    Returns:
        Passed only if every bound is met. A gate without bounds is passed.
    """
    checks = [
        _at_least("accuracy", accuracy, gate.accuracy),
        _at_least("macro_f1", macro_f1, gate.macro_f1),
        _at_least("auc", auc, gate.auc),
        _at_least("r2", r2, gate.r2),
        _at_most("p95_ms", p95_ms, gate.p95_ms),
        _at_most("size_mb", size_mb, gate.size_mb),
    ]
    asked = [check for check in checks if check is not None]
    lines = tuple(line for _, line in asked) or ("no bounds given",)
    return GateResult(passed=all(ok for ok, _ in asked), lines=lines)


def _at_least(name: str, value: float | None, bound: float | None) -> tuple[bool, str] | None:
    if bound is None:
        return None
    if value is None:
        return False, f"{name} unknown >= {bound:g} failed: there are no gold rows, name a holdout in the spec"
    return value >= bound, f"{name} {_shown(value, bound)} >= {bound:g} {_verdict(value >= bound)}"


def _at_most(name: str, value: float, bound: float | None) -> tuple[bool, str] | None:
    if bound is None:
        return None
    return value <= bound, f"{name} {_shown(value, bound)} <= {bound:g} {_verdict(value <= bound)}"


def _shown(value: float, bound: float) -> str:
    """Round a value, but never onto a bound that it is not on: `0.85 >= 0.85 failed` helps nobody."""
    rounded = f"{value:.3g}"
    return rounded if float(rounded) != bound or value == bound else repr(value)


def _verdict(ok: bool) -> str:
    return "ok" if ok else "failed"
