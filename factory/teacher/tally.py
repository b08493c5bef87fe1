"""Counts for the people who watch; only the budget decides anything."""

import time

from factory.events import TeacherUsed, emit
from factory.teacher.budget import Spending
from factory.teacher.wire import Usage

EVENT_INTERVAL_S = 0.5


class Tally:
    """What was asked and what came from the reply store, as long as an engine lives."""

    def __init__(self, spending: Spending, teacher: str) -> None:
        self._teacher = teacher
        self._spending = spending
        self._calls = self._cached_calls = 0
        self._usage = Usage()
        self._said = (0, 0)
        self._said_at = float("-inf")
        self._began(0)

    def begin(self) -> None:
        """Begin to measure speed anew, for another run."""
        self._began(self._usage.completion_tokens)

    def add(self, usage: Usage) -> None:
        """Count a live answer."""
        self._calls += 1
        self._usage += usage

    def add_cached(self) -> None:
        """Count an answer from the reply store."""
        self._cached_calls += 1

    def report(self, *, is_last: bool = False) -> None:
        """Tell whoever watches, at most twice a second and once at the end."""
        now = time.monotonic()
        counts = (self._calls, self._cached_calls)
        if counts == self._said or (now - self._said_at < EVENT_INTERVAL_S and not is_last):
            return
        self._said, self._said_at = counts, now
        usage = self._usage
        emit(
            TeacherUsed(
                stage="teacher",
                calls=self._calls,
                cached_calls=self._cached_calls,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                usd=self._spending.cost_usd(usage.prompt_tokens, usage.completion_tokens),
                tokens_per_s=(usage.completion_tokens - self._tokens_before) / max(now - self._started, 1e-3),
                teacher=self._teacher,
            )
        )

    def _began(self, tokens_before: int) -> None:
        self._started = time.monotonic()
        self._tokens_before = tokens_before
