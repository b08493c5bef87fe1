"""One list of requests through the engine: fed in order as slots become free, each answered, or failed on its own.

A call that fails hurts only its own row. The run stops only when the endpoint refuses the key, the account or the
model, or when nothing it is asked is answered any more. An endpoint that has not answered anything yet, or that is in
doubt since several requests in a row were given up, is asked one request at a time (two, while the first is tried
again).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from factory.errors import FactoryError, TeacherError, TeacherRefused, TeacherUnavailable
from factory.teacher.calls import Call, GaveUp, OutOfBudget, Stopped, Work
from factory.teacher.endpoint import Connection, Declined, Doubtful
from factory.teacher.protocol import Abstain, OnReply, Reply, Request
from factory.teacher.purse import Purse
from factory.teacher.replies import Exchange
from factory.teacher.sender import Sender
from factory.teacher.wire import NO_LOGPROBS, Usage, decode, usage_of

if TYPE_CHECKING:
    from factory.teacher.engine import Engine

DOUBTED_AFTER = 3
"""An endpoint is in doubt when so many requests in a row are given up, each begun after the last answer came."""
DOWN_AFTER = 2
"""It is down when so many more are, begun since; an endpoint that never answered is in doubt from the start."""
OPEN_FOR_EACH_SLOT = 8
"""Requests that may be under way for each that may be in flight: the others wait as a server told them to."""
YIELD_EVERY = 256
"""Cached replies come without waiting; now and then the loop must run, or Ctrl-C would not be heard."""


class Run:
    """One `complete`: everything here belongs to one event loop."""

    def __init__(self, engine: "Engine", requests: Sequence[Request], on_reply: OnReply | None) -> None:
        limits = engine.limits
        self._engine = engine
        self._requests = requests
        self._on_reply = on_reply
        self._answers: dict[int, Reply | Abstain] = {}
        self._waiting: dict[str, list[int]] = {}
        """Positions of the requests that each call under way will answer."""
        self._again: deque[int] = deque()
        """Positions of requests to be written anew."""
        journal = engine.replies.journal if engine.replies is not None else None
        self._purse = Purse(engine.spending, journal, engine.lost_before, is_resumed=limits.is_resumed)
        self._sender = Sender(engine.endpoint.identity, limits, engine.paces, self._purse)
        self._connection: Connection | None = None
        self._failure: FactoryError | None = None
        """What ends the run."""
        self._gave_up: GaveUp | None = None
        """The last request that got no answer."""
        self._n_given_up = 0
        """Requests in a row that count for the endpoint being in doubt, or then down."""
        self._n_declined = 0
        """Requests that were declined before the endpoint answered any."""
        self._answered_at = self._doubted_at = float("-inf")

    async def answers(self) -> list[Reply | Abstain]:
        """Feed all requests and wait for all answers."""
        try:
            async with asyncio.TaskGroup() as group:
                await self._feed(group)
        finally:
            if self._connection is not None:
                await self._connection.aclose()
        if self._failure is not None:
            raise self._failure
        answers = [self._answers[position] for position in range(len(self._requests))]
        if self._gave_up is not None and not any(isinstance(answer, Reply) for answer in answers):
            raise self._down(self._gave_up)
        return answers

    async def _feed(self, group: asyncio.TaskGroup) -> None:
        positions: Sequence[int] = range(len(self._requests))
        if self._engine.spending.is_bounded:
            # What has been paid for is counted before anything new is asked.
            positions = [n for n in positions if not await self._answer_known(n, self._prepare(n))]
        for n, position in enumerate(positions):
            if self._failure is not None:
                return
            if n % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            await self._begin(position, group)
        while self._failure is None and (self._waiting or self._again):
            if self._again:
                await self._begin(self._again.popleft(), group)
            else:
                await self._until(lambda: bool(self._again) or not self._waiting)

    def _prepare(self, position: int) -> Call:
        return self._engine.prepare(self._requests[position])

    async def _begin(self, position: int, group: asyncio.TaskGroup) -> None:
        """Answer one request from what is known, or start the call that will."""
        call = self._prepare(position)
        if self._joins(position, call) or await self._answer_known(position, call):
            return
        if not self._may_begin():
            await self._until(self._may_begin)
            call = self._prepare(position)  # meanwhile the endpoint may have been found to lack something
            if self._joins(position, call) or await self._answer_known(position, call):
                return
        work = Work(call)
        try:
            if not await self._purse.reserve(work):
                self._refuse(position, work)
                return
            await self._sender.take_slot(work)
            if self._connection is None and self._failure is None:
                self._connection = await self._engine.endpoint.connect()
        except BaseException:
            self._end(work)
            raise
        if self._connection is None or self._failure is not None:
            self._end(work)
            return
        self._waiting[call.key] = [position]
        group.create_task(self._fetch(work, self._connection))

    def _joins(self, position: int, call: Call) -> bool:
        """Let a call that is under way answer this request too, if there is one."""
        if call.key not in self._waiting:
            return False
        self._waiting[call.key].append(position)
        return True

    def _may_begin(self) -> bool:
        n_open = len(self._waiting)
        if not self._engine.is_proven:
            return n_open == 0 or (n_open == 1 and self._sender.has_stumbled)
        return n_open < OPEN_FOR_EACH_SLOT * self._engine.limits.concurrency

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so() and self._failure is None:
            self._purse.changed.clear()
            await self._purse.changed.wait()

    async def _answer_known(self, position: int, call: Call) -> bool:
        """Answer a request from the reply store, or with the refusal that is known to be final."""
        engine = self._engine
        self._purse.replay(call)
        raw = engine.replies.get(call.key) if engine.replies is not None else None
        declined = engine.declined.get(call.key) if raw is None else None
        if raw is None and declined is None:
            return False
        work = Work(call)
        if call.key not in engine.spending.charged:
            if not await self._purse.reserve(work):
                self._refuse(position, work)
                return True
            self._purse.pay(work, usage_of(raw) if raw is not None else Usage())
        engine.tally.add_cached()
        answer = decode(raw, call.payload, from_cache=True) if raw is not None else declined
        if answer is not None:
            self._deliver(position, replace(answer, key=call.key))
        return True

    async def _fetch(self, work: Work, connection: Connection) -> None:
        """Make one call and hand the answer to every request that waits for it."""
        key = work.call.key
        work.started = time.monotonic()
        try:
            answer = replace(await self._ask(work, connection), key=key)
        except (FactoryError, Stopped) as error:
            if isinstance(error, FactoryError):
                self._failure = self._failure or error
            self._purse.is_closed = True
            self._sender.stopping.set()
            return
        finally:
            self._end(work)
            positions = self._waiting.pop(key)
        if isinstance(answer, Abstain) and answer.reason == NO_LOGPROBS:
            self._again += positions
            return
        for position in positions:
            self._deliver(position, answer)

    def _end(self, work: Work) -> None:
        self._purse.give_back(work)
        self._sender.free_slot(work)
        self._purse.changed.set()

    async def _ask(self, work: Work, connection: Connection) -> Reply | Abstain:
        try:
            raw = await self._sender.answer(work, connection)
        except Declined as declined:
            return self._declined(work, declined.abstain)
        except Doubtful as doubtful:
            return self._given_up(work, GaveUp(doubtful.abstain.raw, error=doubtful.error))
        except GaveUp as gave_up:
            return self._given_up(work, gave_up)
        except OutOfBudget as error:
            return self._engine.fail(work, Abstain("budget", str(error)))
        except TeacherError as error:
            self._engine.fail(work, Abstain("unavailable" if error.retryable else "refused", str(error)))
            raise
        return self._answered(work, raw)

    def _answered(self, work: Work, raw: dict[str, Any]) -> Reply | Abstain:
        engine, call = self._engine, work.call
        if engine.replies is not None:
            # First stored, then read: no bug in what follows can lose a reply that was paid for.
            seconds = time.monotonic() - work.started
            exchange = Exchange(engine.endpoint.identity, call.payload, call.request.sample, raw, seconds)
            try:
                engine.replies.put(call.key, exchange)
            except FactoryError:
                self._purse.cut_off(work)
                raise
        self._purse.crossed_out(work)
        usage = usage_of(raw)
        self._purse.pay(work, usage)
        engine.is_proven = True
        self._n_given_up = self._n_declined = 0
        self._answered_at = time.monotonic()
        engine.tally.add(usage or Usage())
        if usage is not None:
            engine.stretch(call.bound, usage)
        answer = decode(raw, call.payload)
        return engine.fail(work, answer) if isinstance(answer, Abstain) else answer

    def _declined(self, work: Work, abstain: Abstain) -> Abstain:
        """Take in that an endpoint will not answer one request."""
        engine = self._engine
        if abstain.may_pass:
            self._gave_up = GaveUp(abstain.raw)
            return engine.fail(work, abstain)
        self._purse.pay(work, Usage())
        if abstain.reason == NO_LOGPROBS:
            if work.call.request.top_logprobs:
                engine.do_without_logprobs()
                return engine.fail(work, abstain)
            abstain = replace(abstain, reason="bad-request")
        engine.fail(work, abstain, is_final=engine.is_proven and abstain.reason == "bad-request")
        if not engine.is_proven and abstain.reason == "bad-request":  # a filter has looked at one text only
            self._n_declined += 1
            if self._n_declined >= DOWN_AFTER:
                raise TeacherRefused(
                    f"{engine.endpoint.identity}: refused the first {DOWN_AFTER} requests; the last: {abstain.raw}",
                    hint="its words say what to change: the key, the model, or what every request has in common",
                )
        return abstain

    def _given_up(self, work: Work, gave_up: GaveUp) -> Abstain:
        """Take in that one request was not answered, and judge whether any will be."""
        engine = self._engine
        self._gave_up = gave_up
        abstain = engine.fail(work, Abstain(gave_up.reason, str(gave_up)))
        if engine.is_proven and work.started > self._answered_at:
            self._n_given_up += 1
            if self._n_given_up >= DOUBTED_AFTER:
                engine.is_proven = False
                self._n_given_up, self._doubted_at = 0, time.monotonic()
        elif not engine.is_proven and work.started > self._doubted_at:
            self._n_given_up += 1
            if self._n_given_up >= DOWN_AFTER or gave_up.error is not None:
                raise self._down(gave_up)
        return abstain

    def _down(self, gave_up: GaveUp) -> TeacherError:
        return gave_up.error or TeacherUnavailable(
            f"{self._engine.endpoint.identity}: {gave_up}",
            hint="check that a server runs at that address (teacher.base_url), then run the same command again; every "
            "reply received so far is kept and is not asked for again",
        )

    def _refuse(self, position: int, work: Work) -> None:
        """Leave a request that does not fit into the budget; not one that the end of the run kept from being asked."""
        if not self._purse.is_closed:
            self._deliver(position, self._engine.fail(work, Abstain("budget")))

    def _deliver(self, position: int, answer: Reply | Abstain) -> None:
        self._answers[position] = answer
        if self._on_reply is not None:
            self._on_reply(position, answer)
        self._engine.tally.report()
