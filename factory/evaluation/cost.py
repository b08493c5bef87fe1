"""What answers cost on both sides, and after how many of them a build has paid for itself."""

from collections.abc import Sequence
from typing import Literal

from factory.evaluation.result import Number, Part

WATTS_PER_THREAD = 10.0
"""Assumed where no meter can be read: what a busy core of a server takes, its share of memory and fans included."""


class Side(Part):
    """One of the two that could answer."""

    seconds_per_answer: Number
    """When many are asked at once."""
    usd_per_million: Number | None
    """Null where no price is known."""
    joules_per_thousand: Number | None
    """Null for an LLM that runs elsewhere."""
    energy: Literal["measured", "estimated", "unknown"]


class Cost(Part):
    """Both sides, and the build."""

    student: Side
    teacher: Side | None
    """Null where the LLM was not asked about labels in this build."""
    build_seconds: Number
    build_usd: Number | None
    break_even: int | None
    """Answers after which the build has paid for itself; null where the LLM is not dearer, or not known."""
    break_even_in: Literal["money", "time"] | None

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The figures for a person: name and value."""
        sides = [("student", self.student), *([("LLM", self.teacher)] if self.teacher else [])]
        found = [(f"a million answers, {name}", _million(side)) for name, side in sides]
        found += [
            (f"energy of a thousand answers, {name}", f"{side.joules_per_thousand:,.3g} J ({side.energy})")
            for name, side in sides
            if side.joules_per_thousand is not None
        ]
        if self.break_even is not None:
            made = (
                f"{self.build_seconds / 60:.1f} minutes" if self.break_even_in == "time" else f"${self.build_usd:.2f}"
            )
            found.append(("the build has paid for itself after", f"{self.break_even:,} answers ({made})"))
        return found


class StageCost(Part):
    """What one stage of a build took when it ran."""

    seconds: float
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def cost_of(
    stages: Sequence[StageCost],
    asking: Sequence[StageCost],
    student: Side,
    *,
    usd_per_million_tokens: tuple[float, float] | None,
    is_local: bool,
    threads: int,
) -> Cost:
    """Compare what answers cost.

    Args:
        stages: Every stage of the build.
        asking: Those in which the LLM labelled texts, and did nothing else.
        student: The released student.
        usd_per_million_tokens: Prices of the LLM, read and written; None where they are not known.
        is_local: Whether the LLM runs on this machine.
        threads: Of this machine.

    Returns:
        Both sides. Replies out of the store took no time, so the slowest stage says how long an answer takes.
    """
    asked = [stage for stage in asking if stage.calls]
    teacher = None
    if asked:
        calls = sum(stage.calls for stage in asked)
        usd = _usd(asked, usd_per_million_tokens)
        seconds = max(stage.seconds / stage.calls for stage in asked)
        teacher = Side(
            seconds_per_answer=seconds,
            usd_per_million=None if usd is None else 1e6 * usd / calls,
            joules_per_thousand=1000 * seconds * threads * WATTS_PER_THREAD if is_local else None,
            energy="estimated" if is_local else "unknown",
        )
    build_seconds, build_usd = sum(stage.seconds for stage in stages), _usd(stages, usd_per_million_tokens)
    break_even, counted_in = _break_even(student, teacher, build_seconds, build_usd)
    return Cost(
        student=student,
        teacher=teacher,
        build_seconds=build_seconds,
        build_usd=build_usd,
        break_even=break_even,
        break_even_in=counted_in,
    )


def _usd(stages: Sequence[StageCost], prices: tuple[float, float] | None) -> float | None:
    if prices is None:
        return None
    read = sum(stage.prompt_tokens for stage in stages) * prices[0]
    return (read + sum(stage.completion_tokens for stage in stages) * prices[1]) / 1e6


def _break_even(
    student: Side, teacher: Side | None, build_seconds: float, build_usd: float | None
) -> tuple[int | None, Literal["money", "time"] | None]:
    """Count in money where it is paid, else in time."""
    if teacher is None:
        return None, None
    if build_usd is not None and teacher.usd_per_million is not None:
        saved = (teacher.usd_per_million - (student.usd_per_million or 0)) / 1e6
        return (-int(-build_usd // saved), "money") if saved > 0 else (None, None)
    saved = teacher.seconds_per_answer - student.seconds_per_answer
    return (-int(-build_seconds // saved), "time") if saved > 0 else (None, None)


def _million(side: Side) -> str:
    hours = side.seconds_per_answer * 1e6 / 3600
    time = f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:,.1f} minutes"
    return time if side.usd_per_million is None else f"${side.usd_per_million:,.2f}, {time}"
