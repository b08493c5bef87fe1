"""What a cascade promises, in words, and how many rows it takes to promise it."""

from collections.abc import Sequence

from factory.evaluation.bounds import paired_p_value, rate_p_value
from factory.spec import CascadeSpec

DESIGN_SHARE = 1 / 3
"""Of the rows: they decide which thresholds are tested, the others test them."""
MOST_ROWS_NEEDED = 10_000_000


def promise_of(goal: CascadeSpec, tiers: Sequence[str], truth: str) -> str:
    """Say what is promised, how surely, and under which assumption."""
    right = "right" if truth == "gold" else "what the teacher would say"
    parts = []
    if goal.accuracy is not None:
        answers = "answers that are given" if goal.self_verification else "answers"
        parts.append(f"at least {100 * goal.accuracy:g} % of the {answers} are {right}")
    if goal.loss_margin is not None:
        than = " and ".join(tiers) if len(tiers) == 2 else f"each of {', '.join(tiers)}"
        where = " on the texts that are answered" if goal.self_verification else ""
        parts.append(f"accuracy{where} is less than {100 * goal.loss_margin:g} points below that of {than}")
    if goal.teacher_share is not None:
        parts.append(f"at most {100 * goal.teacher_share:g} % of the texts reach {tiers[-1]}")
    return (
        f"With confidence {100 * (1 - goal.delta):g} %, {', and '.join(parts)}, "
        "for texts drawn like the rows that the thresholds were chosen on."
    )


def rows_needed(goal: CascadeSpec) -> int:
    """Return how many rows there must be for a promise to be certified at all, design rows included."""

    def is_enough(n_test: int) -> bool:
        p_values = [rate_p_value(0, n_test, bound) for bound in goal.rates]
        if goal.loss_margin is not None:
            p_values.append(paired_p_value(0, 0, n_test, goal.loss_margin))
        return max(p_values) <= goal.delta

    most = 1
    while not is_enough(most) and most < MOST_ROWS_NEEDED:
        most *= 2
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if is_enough(middle) else (middle, most)
    return round(most / (1 - DESIGN_SHARE))
