"""What the teacher is asked during one stage, for the stage's manifest."""

from collections.abc import Mapping
from typing import Any

from factory.teacher.budget import Spending
from factory.teacher.wire import Usage


class Spent:
    """What the teacher is asked during one stage."""

    def __init__(self, spending: Spending) -> None:
        self._spending = spending
        self._calls, self._usage = spending.calls, spending.usage
        self._charged = set(spending.charged)

    def as_manifest(self) -> dict[str, Any]:
        """Return what was spent since the start, and on which replies, for the stage's manifest."""
        usage = self._spending.usage
        return {
            "teacher_calls": self._spending.calls - self._calls,
            "prompt_tokens": usage.prompt_tokens - self._usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens - self._usage.completion_tokens,
            "replies": sorted(self._spending.charged - self._charged),
        }

    def charge(self, varying: Mapping[str, Any]) -> None:
        """Count what a stored stage spent when it ran; a later stage that uses the same replies gets them free."""
        usage = Usage(prompt_tokens=varying["prompt_tokens"], completion_tokens=varying["completion_tokens"])
        self._spending.charge(calls=varying["teacher_calls"], usage=usage)
        self._spending.charged.update(varying["replies"])
