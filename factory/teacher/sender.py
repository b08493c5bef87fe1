"""The attempts at a call: slots, rates, waits, time limits, hedges."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from factory.errors import FactoryError, TeacherBusy
from factory.events import Warned, emit
from factory.teacher.calls import Call, GaveUp, OutOfBudget, Stopped, Work
from factory.teacher.endpoint import Connection, Declined, Doubtful, Retryable
from factory.teacher.limits import Limits, Pace, Pool
from factory.teacher.purse import Purse

_Attempt = asyncio.Task[dict[str, Any]]

BYTES_PER_TOKEN = 4
"""Of prompts, about, for the rate of tokens only."""


class Paces:
    """Requests and tokens a minute; they outlive a run."""

    def __init__(self, limits: Limits) -> None:
        self._requests = Pace(limits.requests_per_minute)
        self._tokens = Pace(limits.tokens_per_minute)

    def wait_s(self, call: Call) -> float:
        """Take what a call needs and return the seconds to wait before it."""
        now = time.monotonic()
        n_tokens = call.bound.prompt_tokens / BYTES_PER_TOKEN + call.bound.completion_tokens
        return max(self._requests.wait_s(1, now), self._tokens.wait_s(n_tokens, now))

    def are_free(self) -> bool:
        """Return whether a call could be made now."""
        now = time.monotonic()
        return self._requests.is_free(now) and self._tokens.is_free(now)


class Sender:
    """Makes the attempts of one run."""

    def __init__(self, identity: str, limits: Limits, paces: Paces, purse: Purse) -> None:
        self.pool = Pool(limits.concurrency)
        self.stopping = asyncio.Event()
        """No call is begun or tried again, and those on the wire may bring what they are paid for."""
        self.has_stumbled = False
        """Whether an attempt failed in a way that may pass."""
        self._identity = identity
        self._limits = limits
        self._paces = paces
        self._purse = purse
        self._jitter = random.Random()

    async def answer(self, work: Work, connection: Connection) -> dict[str, Any]:
        """Try until there is an answer; the work has a slot and a reservation.

        Args:
            work: What to ask.
            connection: Whom.

        Returns:
            The raw chat completion; its attempt is not paid yet.

        Raises:
            GaveUp: No attempt brought one, or the time is over.
            OutOfBudget: There is no room for another attempt.
            Stopped: The run is ending.
            Declined: See `endpoint`; so too `Doubtful` and `TeacherError`.
        """
        limits = self._limits
        failure = Retryable("not tried")
        for attempt in range(limits.max_attempts):
            if attempt:
                await self._pause(work, limits.backoff_s(attempt, self._jitter), failure)
            pace_s = self._paces.wait_s(work.call)
            self._check_deadline(work, pace_s, failure)
            await self._rest(pace_s)
            try:
                raw = await self._send(work, connection)
            except Retryable as error:
                failure = error
                self.pool.saw(refused=error.is_refused)
                self._stumbled(error)
            else:
                self.pool.saw(refused=False)
                return raw
        raise GaveUp(f"no answer after {limits.max_attempts} attempts; the last: {failure}")

    async def take_slot(self, work: Work) -> None:
        """Wait until one more call may be in flight."""
        await self.pool.acquire()
        work.has_slot = True

    def free_slot(self, work: Work) -> None:
        """Let another call be in flight."""
        if work.has_slot:
            work.has_slot = False
            self.pool.release()

    async def _pause(self, work: Work, backoff_s: float, failure: Retryable) -> None:
        """Wait before another attempt, and see that it is paid for and in flight."""
        wait_s = max(backoff_s, failure.retry_after_s or 0.0)
        self._check_deadline(work, wait_s, failure)
        self._purse.give_back(work, keep=1)
        if failure.retry_after_s is not None or not work.n_reserved:
            self.free_slot(work)  # others need not stand still
        if not work.n_reserved and not await self._purse.reserve(work):
            self._check_stopping()
            raise OutOfBudget(f"no room for another attempt; the last: {failure}")
        await self._rest(wait_s)
        if not work.has_slot:
            await self.take_slot(work)
            self._check_stopping()

    async def _send(self, work: Work, connection: Connection) -> dict[str, Any]:
        limits = self._limits
        self._check_deadline(work, 0.0, Retryable("it had to wait"))
        left_s = work.left_s(limits.deadline_s)
        within_s = min(limits.timeout_s, left_s)
        try:
            if limits.hedge_after_s is not None:
                return await self._race(work, connection, limits.hedge_after_s, within_s)
            async with asyncio.timeout(within_s):
                return await self._attempt(work, connection)
        except TimeoutError:
            if left_s <= limits.timeout_s:
                raise GaveUp(f"no answer within {limits.deadline_s:g} s", "deadline") from None
            raise Retryable(f"no answer within {limits.timeout_s:g} s") from None

    async def _attempt(self, work: Work, connection: Connection) -> dict[str, Any]:
        """Ask once; whatever comes of it but an answer is accounted for here."""
        work.attempts += 1
        self._purse.sent(work)
        try:
            return await connection.send(work.call.request, work.call.payload)
        except (Retryable, Declined) as error:
            (self._purse.lost if error.may_be_paid else self._purse.crossed_out)(work)
            raise
        except (Doubtful, FactoryError):
            self._purse.crossed_out(work)
            raise
        except Exception as error:
            self._purse.lost(work)
            raise Retryable(f"unforeseen {type(error).__name__}: {error}") from error
        except BaseException:
            self._purse.cut_off(work)
            raise

    async def _race(self, work: Work, connection: Connection, hedge_after_s: float, within_s: float) -> dict[str, Any]:
        """Ask once, or twice when the first attempt is slow and budget and rates have room for both."""
        first = asyncio.create_task(self._attempt(work, connection))
        racing, winner = [first], None
        try:
            # The limit is for the answer. It must not end the wait for the other attempt to hang up, which on a machine
            # that stalls may be long: the answer that is there would be thrown away, and not charged.
            async with asyncio.timeout(within_s):
                await asyncio.wait(racing, timeout=hedge_after_s)
                if not first.done() and self._paces.are_free() and self._purse.reserve_at_once(work):
                    self._paces.wait_s(work.call)
                    racing.append(asyncio.create_task(self._attempt(work, connection)))
                winner = await _first_to_answer(racing)
        finally:
            await self._hang_up(work, racing, winner)
        return winner.result()

    async def _hang_up(self, work: Work, racing: Sequence[_Attempt], winner: _Attempt | None) -> None:
        """End what is still under way, and charge the answers that nobody will read."""
        under_way = [task for task in racing if not task.done()]
        for task in under_way:
            task.cancel()
        try:
            await asyncio.gather(*under_way, return_exceptions=True)
        except asyncio.CancelledError:
            winner = None  # the run is cut off, and with it whoever would read the answer
            raise
        finally:
            for task in racing:
                if task is not winner and _has_answered(task):
                    self._purse.lost(work)

    def _stumbled(self, failure: Retryable) -> None:
        if not self.has_stumbled:
            emit(Warned(stage="teacher", message=f"calls are being tried again; the first because: {failure}"))
        self.has_stumbled = True
        self._purse.changed.set()
        wait_s = failure.retry_after_s
        if wait_s is not None and wait_s > self._limits.max_retry_after_s:
            busy = TeacherBusy(
                f"{self._identity}: busy, asks to wait {wait_s:.0f} s: {failure}",
                hint="run the same command again then; every reply received so far is kept",
            )
            raise GaveUp(f"asks to wait {wait_s:.0f} s: {failure}", error=busy)

    def _check_deadline(self, work: Work, wait_s: float, failure: Retryable) -> None:
        deadline_s = self._limits.deadline_s
        if work.left_s(deadline_s) <= wait_s:
            raise GaveUp(f"no answer within {deadline_s:g} s; the last: {failure}", "deadline")

    def _check_stopping(self) -> None:
        if self.stopping.is_set():
            raise Stopped

    async def _rest(self, seconds: float) -> None:
        """Wait, unless the run ends first."""
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.stopping.wait()
        self._check_stopping()


async def _first_to_answer(racing: Sequence[_Attempt]) -> _Attempt:
    """Wait for an answer, or until every attempt has failed; return what came first."""
    left = set(racing)
    while True:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        answered = [task for task in done if _has_answered(task)]
        if answered or not left:
            return (answered or list(done))[0]


def _has_answered(task: _Attempt) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
