"""How hard an endpoint may be pressed: calls in flight, calls and tokens a minute, time-outs and retries."""

import asyncio
import random
from collections import deque
from dataclasses import dataclass

BURST_S = 1.0
"""Of a minute's allowance, so many seconds' worth may be used at once."""
WINDOW = 32
"""Answers after which the share of refusals among them is looked at again."""
TOO_MANY = 0.25
"""A share of refusals above this halves the calls in flight; a few scattered ones mean nothing."""


@dataclass(frozen=True)
class Limits:
    """Calls in flight, rates, time-outs and retries."""

    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Prompt and the most that may be written, as servers count them before a call."""
    timeout_s: float = 120.0
    """For one attempt."""
    deadline_s: float | None = None
    """For one request, with all its attempts and waits."""
    hedge_after_s: float | None = None
    """A call without an answer for so long is made a second time; the first answer counts, both are charged."""
    max_attempts: int = 6
    first_delay_s: float = 0.5
    """The longest wait after the first failure; doubled after each further one."""
    max_delay_s: float = 30.0
    max_retry_after_s: float = 120.0
    """When a server asks to wait longer than this, the row is left for another run; the run ends at once if the server
    has not answered anything yet."""
    first_call_alone: bool = True
    """A wrong key or model then costs one call, not `concurrency` many."""
    is_resumed: bool = False
    """The next run finds what this one sent, as it does a batch: an attempt that is cut off is not lost."""

    def backoff_s(self, attempt: int, jitter: random.Random) -> float:
        """Return seconds to wait before an attempt, 0 for the first.

        Full jitter, as in Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.

        Args:
            attempt: 0 for the first.
            jitter: Where the randomness comes from.

        Returns:
            Between 0 and the longest wait that the attempt allows.
        """
        if attempt == 0:
            return 0.0
        return jitter.uniform(0.0, min(self.max_delay_s, self.first_delay_s * 2.0 ** (attempt - 1)))


class Pace:
    """So much a minute, evenly spread: the generic cell rate algorithm (ITU-T I.371), which needs no queue."""

    def __init__(self, per_minute: float | None) -> None:
        self._interval_s = 60.0 / per_minute if per_minute else 0.0
        self._free_at = float("-inf")

    def wait_s(self, n: float, now: float) -> float:
        """Take `n` of the allowance and return the seconds to wait before using it.

        Args:
            n: Requests or tokens.
            now: Seconds of a clock that never goes back.

        Returns:
            0 or more.
        """
        start = max(self._free_at, now - BURST_S)
        self._free_at = start + n * self._interval_s
        return max(0.0, start - now)

    def is_free(self, now: float) -> bool:
        """Return whether something may be used now, without taking it."""
        return self._free_at <= now


class Pool:
    """Calls in flight: never more than `most`, fewer while an endpoint refuses many of them.

    Additive increase, multiplicative decrease, as in Chiu and Jain, "Analysis of the Increase and Decrease Algorithms
    for Congestion Avoidance in Computer Networks", 1989. What counts is the *share* of refusals (HTTP 429): a server
    that refuses one call in twenty is not overloaded, and only that call waits.
    """

    def __init__(self, most: int) -> None:
        self.width = float(most)
        """Calls that may be in flight now."""
        self._most = most
        self._n_in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._n_seen = self._n_refused = 0

    async def acquire(self) -> None:
        """Wait until one more call may be made."""
        if self._n_in_flight >= int(self.width) or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except BaseException:
                if turn.done() and not turn.cancelled():
                    self.release()  # the turn had come and nobody will take it
                raise
        else:
            self._n_in_flight += 1

    def release(self) -> None:
        """Say that a call has ended."""
        self._n_in_flight -= 1
        self._wake()

    def saw(self, *, refused: bool) -> None:
        """Learn from how one attempt ended."""
        self._n_seen += 1
        self._n_refused += refused
        if not refused:
            self.width = min(float(self._most), self.width + 1.0 / self.width)
            self._wake()
        if self._n_seen >= WINDOW or self._n_refused > TOO_MANY * WINDOW:
            if self._n_refused > TOO_MANY * WINDOW:
                self.width = max(1.0, self.width / 2)
            self._n_seen = self._n_refused = 0

    def _wake(self) -> None:
        while self._waiting and self._n_in_flight < int(self.width):
            turn = self._waiting.popleft()
            if not turn.done():
                self._n_in_flight += 1
                turn.set_result(None)
