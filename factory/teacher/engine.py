"""The engine under every teacher: cache first, then a bounded number of calls in flight, retries and the budget."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from factory.errors import TeacherUnavailable
from factory.events import TeacherUsed, emit
from factory.teacher.budget import Spending, upper_bound
from factory.teacher.endpoint import Connection, Declined, Endpoint, Retryable
from factory.teacher.limits import Limits
from factory.teacher.protocol import Abstain, OnReply, Reply, Request
from factory.teacher.replies import Replies, key_of
from factory.teacher.wire import Usage, decode, usage_of

EVENT_INTERVAL_S = 0.5
YIELD_EVERY = 256
"""Cached replies come without waiting; now and then the loop must run, or Ctrl-C would not be heard."""


@dataclass(frozen=True)
class _Call:
    """A request made ready: what goes over the wire, its key, and the most it can cost."""

    request: Request
    payload: dict[str, Any]
    key: str
    bound: Usage


@dataclass
class _Tally:
    """Counts for the people who watch; only the budget decides anything."""

    calls: int = 0
    cached_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    said: tuple[int, int] = (0, 0)
    said_at: float = float("-inf")


class Engine:
    """Answers requests from the cache, or from an endpoint; holds what outlives one run."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        replies: Replies | None = None,
        spending: Spending | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.replies = replies
        self.spending = spending or Spending()
        self.limits = limits or Limits()
        self.is_proven = not self.limits.first_call_alone
        """Whether the endpoint has answered before."""
        self.tally = _Tally()

    async def complete(self, requests: Sequence[Request], *, on_reply: OnReply | None = None) -> list[Reply | Abstain]:
        """Answer every request; see `Teacher.complete`."""
        run = _Run(self, requests, on_reply)
        try:
            return await run.answers()
        except BaseExceptionGroup as group:
            # A task group wraps what its tasks raise; the first failure is the one that stopped the run.
            raise _first_of(group) from None
        finally:
            run.report(is_last=True)

    def close(self) -> None:
        """Close the cache file."""
        if self.replies is not None:
            self.replies.close()


class _Run:
    """One `complete`: everything here belongs to one event loop."""

    def __init__(self, engine: Engine, requests: Sequence[Request], on_reply: OnReply | None) -> None:
        self._engine = engine
        self._limits = engine.limits
        self._requests = requests
        self._on_reply = on_reply
        self._answers: dict[int, Reply | Abstain] = {}
        self._waiting: dict[str, list[int]] = {}
        """Positions of the requests that each call in flight will answer."""
        self._reserved: set[str] = set()
        """Keys of the calls whose bound is set aside in the budget."""
        self._slots = asyncio.Semaphore(self._limits.concurrency)
        self._has_settled = asyncio.Event()
        self._connection: Connection | None = None
        self._is_exhausted = False
        self._paused_until = 0.0
        self._jitter = random.Random()
        self._started = time.monotonic()
        self._tokens_at_start = engine.tally.completion_tokens

    async def answers(self) -> list[Reply | Abstain]:
        """Feed requests in order, as slots become free, and wait for all answers."""
        try:
            async with asyncio.TaskGroup() as group:
                for position, request in enumerate(self._requests):
                    if position % YIELD_EVERY == 0:
                        await asyncio.sleep(0)
                    await self._begin(position, self._prepare(request), group)
        finally:
            if self._connection is not None:
                await self._connection.aclose()
        return [self._answers[position] for position in range(len(self._requests))]

    def _prepare(self, request: Request) -> _Call:
        endpoint = self._engine.endpoint
        payload = endpoint.encode(request)
        return _Call(request, payload, key_of(endpoint.identity, payload, request.sample), upper_bound(request))

    async def _begin(self, position: int, call: _Call, group: asyncio.TaskGroup) -> None:
        """Answer one request from the cache, or start the call that will."""
        if call.key in self._waiting:
            self._waiting[call.key].append(position)
            return
        replies = self._engine.replies
        raw = replies.get(call.key) if replies is not None else None
        if raw is not None:
            if await self._admit(call):
                self._answer_from_cache(position, call, raw)
            else:
                self._refuse(position)
            return
        await self._slots.acquire()
        if not await self._admit(call):
            self._slots.release()
            self._refuse(position)
            return
        try:
            if self._connection is None:
                self._connection = await self._engine.endpoint.connect()
        except BaseException:
            self._release(call)
            raise
        self._waiting[call.key] = [position]
        task = group.create_task(self._fetch(call, self._connection))
        if not self._engine.is_proven:
            await asyncio.wait([task])
            task.result()

    async def _admit(self, call: _Call) -> bool:
        # A call is refused only when waiting for those in flight cannot make room. So the verdict follows from what
        # earlier requests cost, not from which of them happened to be quicker, and is the same when all is cached.
        spending = self._engine.spending
        if call.key in spending.charged:
            return True
        while not self._is_exhausted:
            if spending.try_reserve(call.bound):
                self._reserved.add(call.key)
                return True
            if not self._waiting:
                self._is_exhausted = True  # for the rest of this run: short prompts must not overtake long ones
                break
            self._has_settled.clear()
            await self._has_settled.wait()
        return False

    def _answer_from_cache(self, position: int, call: _Call, raw: dict[str, Any]) -> None:
        self._settle(call, usage_of(raw))
        self._engine.tally.cached_calls += 1
        self._deliver(position, decode(raw, call.payload, from_cache=True))

    async def _fetch(self, call: _Call, connection: Connection) -> None:
        """Make one call and hand the answer to every request that waits for it."""
        try:
            answer = await self._ask(call, connection)
        except BaseException:
            self._release(call)
            raise
        finally:
            self._slots.release()
        for position in self._waiting.pop(call.key):
            self._deliver(position, answer)
        self._has_settled.set()

    async def _ask(self, call: _Call, connection: Connection) -> Reply | Abstain:
        started = time.monotonic()
        try:
            raw = await self._try_until_answered(call, connection)
        except Declined as declined:
            self._settle(call, Usage())
            return declined.abstain
        if self._engine.replies is not None:
            # First stored, then read: no bug in what follows can lose a reply that was paid for.
            self._engine.replies.put(call.key, raw, seconds=time.monotonic() - started)
        self._engine.is_proven = True
        usage = usage_of(raw)
        self._settle(call, usage)
        self._count(usage or Usage())
        return decode(raw, call.payload)

    async def _try_until_answered(self, call: _Call, connection: Connection) -> dict[str, Any]:
        limits = self._limits
        failure = Retryable("not tried")
        for attempt in range(limits.max_attempts):
            asked_to_wait_s = self._paused_until - time.monotonic()
            await asyncio.sleep(max(limits.backoff_s(attempt, self._jitter), asked_to_wait_s))
            try:
                async with asyncio.timeout(limits.timeout_s):
                    return await connection.send(call.request, call.payload)
            except TimeoutError:
                failure = Retryable(f"no answer within {limits.timeout_s:g} s")
            except Retryable as error:
                failure = error
                self._pause(error)
        raise TeacherUnavailable(
            f"{self._engine.endpoint.identity}: no answer after {limits.max_attempts} attempts; the last: {failure}",
            hint="run the same command again later; every reply received so far is kept and is not asked for again",
        ) from failure

    def _pause(self, failure: Retryable) -> None:
        """Let all calls wait for as long as the server asked."""
        if failure.retry_after_s is None:
            return
        if failure.retry_after_s > self._limits.max_retry_after_s:
            raise TeacherUnavailable(
                f"{self._engine.endpoint.identity}: busy, asks to wait {failure.retry_after_s:.0f} s: {failure}",
                hint="run the same command again then; every reply received so far is kept",
            ) from failure
        self._paused_until = max(self._paused_until, time.monotonic() + failure.retry_after_s)

    def _settle(self, call: _Call, usage: Usage | None) -> None:
        """Turn a reservation into spending, once for each reply."""
        spending = self._engine.spending
        if call.key in spending.charged:
            self._release(call)
            return
        spending.charged.add(call.key)
        self._reserved.discard(call.key)
        spending.settle(call.bound, usage)

    def _release(self, call: _Call) -> None:
        if call.key in self._reserved:
            self._reserved.remove(call.key)
            self._engine.spending.release(call.bound)

    def _refuse(self, position: int) -> None:
        self._deliver(position, Abstain("budget"))

    def _deliver(self, position: int, answer: Reply | Abstain) -> None:
        self._answers[position] = answer
        if self._on_reply is not None:
            self._on_reply(position, answer)
        self.report()

    def _count(self, usage: Usage) -> None:
        tally = self._engine.tally
        tally.calls += 1
        tally.prompt_tokens += usage.prompt_tokens
        tally.completion_tokens += usage.completion_tokens

    def report(self, *, is_last: bool = False) -> None:
        """Tell whoever watches, at most twice a second and once at the end."""
        tally = self._engine.tally
        now = time.monotonic()
        counts = (tally.calls, tally.cached_calls)
        if counts == tally.said or (now - tally.said_at < EVENT_INTERVAL_S and not is_last):
            return
        tally.said, tally.said_at = counts, now
        seconds = max(now - self._started, 1e-3)
        emit(
            TeacherUsed(
                stage="teacher",
                calls=tally.calls,
                cached_calls=tally.cached_calls,
                prompt_tokens=tally.prompt_tokens,
                completion_tokens=tally.completion_tokens,
                usd=self._engine.spending.cost_usd(tally.prompt_tokens, tally.completion_tokens),
                tokens_per_s=(tally.completion_tokens - self._tokens_at_start) / seconds,
            )
        )


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
