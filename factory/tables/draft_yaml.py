"""A draft as YAML with comments: what was guessed is marked `# proposed`, what was left out says why."""

import math
import re
from collections.abc import Mapping
from typing import Any

from factory.spec_errors import shown
from factory.spec_table import ColumnKind
from factory.tables.drafting import Draft
from factory.tables.guessing import Guess

MOST_VALUES_IN_ALL = 5_000
"""Of all columns together; a spec is for people."""
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?: [A-Za-z0-9_]+)*")
_NOT_PLAIN = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def quoted(text: str) -> str:
    """Write text as a YAML scalar on one line, in quotes where it could be taken for something else."""
    if _PLAIN.fullmatch(text) and text.casefold() not in _NOT_PLAIN:
        return text
    marks = {"\\": "\\\\", '"': '\\"'}
    escaped = (marks.get(mark) or (mark if mark.isprintable() else f"\\U{ord(mark):08x}") for mark in text)
    return f'"{"".join(escaped)}"'


def draft_yaml(draft: Draft, name: str, said: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Write the spec.

    Args:
        draft: What was decided.
        name: Of the task.
        said: By column: `description` and `unit` that a teacher proposed.

    Returns:
        The text of `spec.yaml`.
    """
    said = said or {}
    n_rows = len(draft.train) + len(draft.holdout) + len(draft.unlabelled)
    lines = [
        f"# Drafted by `factory init` from {shown(draft.source)}: {n_rows:,} rows. What is `proposed` is a guess:",
        "# correct it, then run `factory check` on this folder. The keys: docs/how-to/tables.md",
        f"name: {quoted(name)}",
        f"kind: {draft.kind.value}",
        f"description: {quoted(f'Rows of {draft.source}; asked for is {draft.target.name}.')}"
        "  # proposed: say what a row is",
    ]
    if draft.labels:
        lines.append("labels:  # the last one is what `monotone` speaks of")
        lines += [f"  - {quoted(label)}  # {n:,} rows" for label, n in draft.labels.items()]
    lines.append("columns:")
    n_listed = 0
    for guess in draft.columns:
        n_listed += len(guess.values)
        lines += _column(guess, said.get(guess.name, {}), list_values=n_listed <= MOST_VALUES_IN_ALL)
    lines += _target(draft)
    if draft.left_out:
        lines.append("leave_out:")
        lines += [f"  - {quoted(column)}  # {_comment(reason)}" for column, reason in draft.left_out.items()]
    lines += ["data:", "  train: train.jsonl"]
    if draft.holdout:
        lines.append("  holdout: holdout.jsonl  # a random fifth of the rows; only the final report reads it")
    else:
        lines.append("  # holdout: holdout.jsonl  # too few rows to set some aside: bring gold rows to judge with")
    if draft.unlabelled:
        lines.append(f"  # {len(draft.unlabelled):,} rows without an answer are in unlabelled.jsonl")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return "".join(mark if mark.isprintable() else " " for mark in text)


def _column(guess: Guess, said: Mapping[str, str], *, list_values: bool) -> list[str]:
    lines = [f"  - name: {quoted(guess.name)}", f"    kind: {guess.kind.value}  # proposed{_kind_remark(guess)}"]
    if said.get("description"):
        lines.append(f"    description: {quoted(said['description'])}  # proposed by the teacher")
    by_teacher = "" if guess.unit else said.get("unit", "")
    if guess.kind.is_number and (guess.unit or by_teacher):
        origin = "proposed by the teacher" if by_teacher else "proposed"
        lines.append(f"    unit: {quoted(guess.unit or by_teacher)}  # {origin}")
    if guess.kind.is_number and (bounds := sensible_range(guess.known)) is not None:
        seen = f"seen {_number(min(guess.known))} to {_number(max(guess.known))}"
        lines.append(f"    range: [{_number(bounds[0])}, {_number(bounds[1])}]  # proposed, {seen}")
    if guess.values and list_values:
        lines.append("    values:  # proposed: those in the file")
        lines += [f"      - {quoted(value)}" for value in guess.values]
    if guess.date_order:
        lines.append(f"    date_order: {guess.date_order}  # of the file; the rows drafted from it need none")
    if guess.missing_codes:
        codes = ", ".join(map(quoted, guess.missing_codes))
        lines.append(f"    missing_codes: [{codes}]  # proposed, {guess.n_missing:,} cells; remove what is a value")
    return lines


def _kind_remark(guess: Guess) -> str:
    if guess.kind is ColumnKind.CATEGORY and guess.values:
        return "; if its values have an order: ordinal, and list them from least to most"
    return ""


def _target(draft: Draft) -> list[str]:
    if draft.labels:
        return [f"target: {quoted(draft.target.name)}"]
    lines = ["target:", f"  column: {quoted(draft.target.name)}"]
    return [*lines, f"  unit: {quoted(draft.target.unit)}  # proposed"] if draft.target.unit else lines


def sensible_range(numbers: list[Any]) -> tuple[float, float] | None:
    """Round the extremes outward to the power of ten of their distance, or to 0; None where that cannot be done."""
    low, high = float(min(numbers)), float(max(numbers))
    span = high - low if high > low else abs(high)
    if not 1e-9 < span < 1e15:
        return None
    digits = -math.floor(math.log10(span))
    step = 10.0**-digits
    least = 0.0 if 0 <= low <= span else round(math.floor(low / step) * step, digits)
    found = least, round(math.ceil(high / step) * step, digits)
    is_safe = all(map(math.isfinite, found)) and found[0] <= low and high <= found[1] and found[0] < found[1]
    return found if is_safe else None


def _number(number: float) -> str:
    return str(int(number)) if float(number).is_integer() and abs(number) < 1e15 else repr(float(number))
