"""The engine under every teacher: a work queue with the reply store, rates, retries, the ledger and the budget.

A call that fails hurts only its own row. The run stops only when the endpoint refuses the key or the model, asks to
wait for too long, or gives no answer to several requests in a row.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from factory.errors import FactoryError, TeacherBusy, TeacherUnavailable
from factory.events import TeacherUsed, Warned, emit
from factory.teacher.budget import Spending, upper_bound
from factory.teacher.endpoint import Connection, Declined, Endpoint, Retryable
from factory.teacher.ledger import Failure
from factory.teacher.limits import Limits, Pace, Pool
from factory.teacher.protocol import Abstain, OnReply, Reply, Request
from factory.teacher.replies import Exchange, Replies, key_of
from factory.teacher.wire import Usage, decode, usage_of

EVENT_INTERVAL_S = 0.5
DOWN_AFTER = 3
"""An endpoint is down when so many requests in a row have used up all their attempts."""
BYTES_PER_TOKEN = 4
"""Of prompts, about, for the rate of tokens only."""
ASKED_CHARS = 300
"""Of a failed request, in the ledger."""
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
class _Work:
    """A call and what became of it so far."""

    call: _Call
    started: float
    attempts: int = 0

    def is_over(self, deadline_s: float | None, *, in_s: float) -> bool:
        return deadline_s is not None and time.monotonic() + in_s - self.started > deadline_s


class _Stopped(Exception):
    """The run is ending: one call learned that no further one can succeed."""


class _GaveUp(Exception):
    """One request got no answer in all its attempts or its time."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


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
        self.requests_pace = Pace(self.limits.requests_per_minute)
        self.tokens_pace = Pace(self.limits.tokens_per_minute)
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
        self._pool = Pool(self._limits.concurrency)
        self._n_given_up = 0
        """Requests in a row that used up their attempts."""
        self._gave_up: _GaveUp | None = None
        """The last of them."""
        self._failure: FactoryError | None = None
        """What ends the run."""
        self._stopping = asyncio.Event()
        """Set with it: no call is begun or tried again, and those on the wire may bring what they are paid for."""
        self._has_settled = asyncio.Event()
        self._connection: Connection | None = None
        self._is_exhausted = False
        self._has_warned = False
        """Whether people were told that a call is tried again: once a run, not once a call."""
        self._jitter = random.Random()
        self._started = time.monotonic()
        self._tokens_at_start = engine.tally.completion_tokens

    async def answers(self) -> list[Reply | Abstain]:
        """Feed requests in order, as slots become free, and wait for all answers."""
        try:
            async with asyncio.TaskGroup() as group:
                for position, request in enumerate(self._requests):
                    if self._failure is not None:
                        break
                    if position % YIELD_EVERY == 0:
                        await asyncio.sleep(0)
                    await self._begin(position, self._prepare(request), group)
        finally:
            if self._connection is not None:
                await self._connection.aclose()
        if self._failure is not None:
            raise self._failure
        answers = [self._answers[position] for position in range(len(self._requests))]
        if self._gave_up is not None and not any(isinstance(answer, Reply) for answer in answers):
            raise self._down(self._gave_up)
        return answers

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
        await self._pool.acquire()
        is_admitted = await self._admit(call)
        if not is_admitted or self._failure is not None:
            self._pool.release()
            self._release(call)
            if not is_admitted and self._failure is None:
                self._refuse(position)
            return
        try:
            if self._connection is None:
                self._connection = await self._engine.endpoint.connect()
        except BaseException:
            self._pool.release()
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
        while not self._is_exhausted and self._failure is None:
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
        self._deliver(position, replace(decode(raw, call.payload, from_cache=True), key=call.key))

    async def _fetch(self, call: _Call, connection: Connection) -> None:
        """Make one call and hand the answer to every request that waits for it."""
        try:
            answer = replace(await self._ask(call, connection), key=call.key)
        except (FactoryError, _Stopped) as error:
            self._release(call)
            if isinstance(error, FactoryError):
                self._failure = self._failure or error
            self._stopping.set()
            self._has_settled.set()
            return
        except BaseException:
            self._release(call)
            raise
        finally:
            self._pool.release()
        for position in self._waiting.pop(call.key):
            self._deliver(position, answer)
        self._has_settled.set()

    async def _ask(self, call: _Call, connection: Connection) -> Reply | Abstain:
        work = _Work(call, time.monotonic())
        try:
            raw = await self._try_until_answered(work, connection)
        except Declined as declined:
            if declined.abstain.may_pass:
                self._release(call)  # it may be asked again, and is then to be paid for
            else:
                self._settle(call, Usage())
            return self._fail(work, declined.abstain, Usage())
        except _GaveUp as gave_up:
            self._gave_up = gave_up
            self._n_given_up += 1
            if not self._engine.is_proven or self._n_given_up >= DOWN_AFTER:
                raise self._down(gave_up) from None
            self._release(call)
            return self._fail(work, Abstain(gave_up.reason, str(gave_up)), Usage())
        if self._engine.replies is not None:
            # First stored, then read: no bug in what follows can lose a reply that was paid for.
            seconds = time.monotonic() - work.started
            exchange = Exchange(self._engine.endpoint.identity, call.payload, call.request.sample, raw, seconds)
            self._engine.replies.put(call.key, exchange)
        self._engine.is_proven = True
        self._n_given_up = 0
        usage = usage_of(raw)
        self._settle(call, usage)
        self._count(usage or Usage())
        answer = decode(raw, call.payload)
        return self._fail(work, answer, usage or Usage()) if isinstance(answer, Abstain) else answer

    async def _try_until_answered(self, work: "_Work", connection: Connection) -> dict[str, Any]:
        limits = self._limits
        failure = Retryable("not tried")
        for attempt in range(limits.max_attempts):
            wait_s = max(limits.backoff_s(attempt, self._jitter), failure.retry_after_s or 0.0)
            if attempt and not self._has_warned:
                self._has_warned = True
                emit(Warned(stage="teacher", message=f"calls are being tried again; the first because: {failure}"))
            if work.is_over(limits.deadline_s, in_s=wait_s):
                raise _GaveUp(f"no answer within {limits.deadline_s:g} s; the last: {failure}", "deadline")
            await self._rest(wait_s)
            await self._rest(self._pace_s(work.call))
            work.attempts += 1
            try:
                raw = await self._send(work, connection)
            except TimeoutError:
                failure = Retryable(f"no answer within {limits.timeout_s:g} s")
            except Retryable as error:
                failure = error
                self._pool.saw(refused=error.is_refused)
                self._refuse_long_waits(error)
            else:
                self._pool.saw(refused=False)
                return raw
        raise _GaveUp(f"no answer after {limits.max_attempts} attempts; the last: {failure}", "unavailable")

    async def _send(self, work: "_Work", connection: Connection) -> dict[str, Any]:
        """Make one attempt, or two at once when the first is slow and the budget has room for both."""
        call, limits = work.call, self._limits
        async with asyncio.timeout(limits.timeout_s):
            if limits.hedge_after_s is None:
                return await connection.send(call.request, call.payload)
            first = asyncio.create_task(connection.send(call.request, call.payload))
            racing = {first}
            try:
                await asyncio.wait(racing, timeout=limits.hedge_after_s)
                if not first.done() and self._engine.spending.try_reserve(call.bound):
                    work.attempts += 1
                    # Nobody learns what the loser cost, so its upper bound stays charged.
                    racing.add(asyncio.create_task(connection.send(call.request, call.payload)))
                while True:
                    done, racing = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
                    winners = [task for task in done if task.exception() is None]
                    if winners or not racing:
                        return (winners or list(done))[0].result()
            finally:
                for task in racing:
                    task.cancel()

    def _pace_s(self, call: _Call) -> float:
        now = time.monotonic()
        n_tokens = call.bound.prompt_tokens / BYTES_PER_TOKEN + call.bound.completion_tokens
        return max(self._engine.requests_pace.wait_s(1, now), self._engine.tokens_pace.wait_s(n_tokens, now))

    async def _rest(self, seconds: float) -> None:
        """Wait before an attempt, unless the run ends first."""
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
        if self._stopping.is_set():
            raise _Stopped

    def _down(self, gave_up: "_GaveUp") -> TeacherUnavailable:
        return TeacherUnavailable(
            f"{self._engine.endpoint.identity}: {gave_up}",
            hint="run the same command again later; every reply received so far is kept and is not asked for again",
        )

    def _refuse_long_waits(self, failure: Retryable) -> None:
        if failure.retry_after_s is not None and failure.retry_after_s > self._limits.max_retry_after_s:
            raise TeacherBusy(
                f"{self._engine.endpoint.identity}: busy, asks to wait {failure.retry_after_s:.0f} s: {failure}",
                hint="run the same command again then; every reply received so far is kept",
            ) from failure

    def _fail(self, work: "_Work", abstain: Abstain, usage: Usage) -> Abstain:
        """Write a failed request into the ledger."""
        replies, call = self._engine.replies, work.call
        if replies is not None:
            failure = Failure(
                key=call.key,
                endpoint=self._engine.endpoint.identity,
                reason=abstain.reason,
                attempts=work.attempts,
                seconds=round(time.monotonic() - work.started, 3),
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                usd=self._engine.spending.cost_usd(usage.prompt_tokens, usage.completion_tokens),
                asked=call.request.messages[-1].content[-ASKED_CHARS:],
                detail=abstain.raw,
            )
            replies.ledger.note(failure)
        return abstain

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


class EngineTeacher:
    """A teacher that is an engine over its own kind of endpoint."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def identity(self) -> str:
        """That of the endpoint: model and address, or the hash of weights or script; never a secret."""
        return self._engine.endpoint.identity

    @property
    def endpoint(self) -> Endpoint:
        """Whom it asks."""
        return self._engine.endpoint

    @property
    def spending(self) -> Spending:
        """What was asked so far, against the budget."""
        return self._engine.spending

    async def complete(self, requests: Sequence[Request], *, on_reply: OnReply | None = None) -> list[Reply | Abstain]:
        """Answer every request, in order of the requests; see `Teacher.complete`."""
        return await self._engine.complete(requests, on_reply=on_reply)

    def close(self) -> None:
        """Close the reply store."""
        self._engine.close()


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
