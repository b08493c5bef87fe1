"""The engine under every teacher: a work queue with the reply store, rates, retries, the ledger and the budget.

`Engine` holds what outlives one run; `run` feeds one list of requests through it, `sender` makes the attempts at each
call, `purse` sees that each attempt is paid for.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from factory.events import Warned, emit
from factory.teacher.budget import Spending, stretched, upper_bound
from factory.teacher.calls import Call, Work
from factory.teacher.endpoint import Endpoint
from factory.teacher.journal import Lost
from factory.teacher.ledger import Failure
from factory.teacher.limits import Limits
from factory.teacher.protocol import Abstain, OnReply, Reply, Request
from factory.teacher.replies import Replies, key_of
from factory.teacher.run import Run
from factory.teacher.sender import Paces
from factory.teacher.tally import Tally
from factory.teacher.wire import NO_LOGPROBS, Usage

ASKED_CHARS = 300
"""Of a failed request, in the ledger."""


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
        """Whether the endpoint has answered before, and is not in doubt."""
        self.paces = Paces(self.limits)
        self.tally = Tally(self.spending, endpoint.identity)
        self._stretch = (1.0, 1.0)
        """How many times the most that a prompt or a completion can cost the server has counted."""

    @cached_property
    def declined(self) -> dict[str, Abstain]:
        """Requests that the endpoint refused for good, by key."""
        failures = self.replies.ledger.failures() if self.replies is not None else ()
        return {one.key: Abstain(one.reason, one.detail, one.key) for one in failures if one.is_final}

    @cached_property
    def lost_before(self) -> Mapping[str, Lost]:
        """What earlier runs lost, by key."""
        return self.replies.journal.lost() if self.replies is not None else {}

    @cached_property
    def _has_no_logprobs(self) -> list[bool]:
        failures = self.replies.ledger.failures() if self.replies is not None else ()
        identity = self.endpoint.identity
        return [True for one in failures if one.reason == NO_LOGPROBS and one.endpoint == identity]

    def prepare(self, request: Request) -> Call:
        """Write a request for the wire."""
        endpoint = self.endpoint
        if request.top_logprobs and self._has_no_logprobs:
            request = replace(request, top_logprobs=0)
        payload = endpoint.encode(request)
        bound = stretched(upper_bound(request), self._stretch)
        return Call(request, payload, key_of(endpoint.identity, payload, request.sample), bound)

    def do_without_logprobs(self) -> None:
        """Remember that the endpoint refuses requests for log-probabilities: none are asked for any more."""
        self._has_no_logprobs.append(True)

    def stretch(self, bound: Usage, usage: Usage) -> None:
        """Widen the bounds of later calls where a server counts more than the bound of a call."""
        seen = (
            usage.prompt_tokens / max(1, bound.prompt_tokens),
            usage.completion_tokens / max(1, bound.completion_tokens),
        )
        if max(seen) <= 1.0:
            return
        self._stretch = (self._stretch[0] * max(1.0, seen[0]), self._stretch[1] * max(1.0, seen[1]))
        message = (
            f"{self.endpoint.identity} counts {usage.prompt_tokens} tokens read and {usage.completion_tokens} written "
            f"where at most {bound.prompt_tokens} and {bound.completion_tokens} were possible; "
            "the budget sets aside more for each call from now on"
        )
        emit(Warned("teacher", message))

    def fail(self, work: Work, abstain: Abstain, *, is_final: bool = False) -> Abstain:
        """Write a failed request into the ledger."""
        call = work.call
        seconds = time.monotonic() - work.started if work.attempts else 0.0
        self.note(call, abstain, attempts=work.attempts, seconds=seconds, cost=work.cost, is_final=is_final)
        if is_final:
            self.declined[call.key] = abstain
        return abstain

    def note(
        self, call: Call, abstain: Abstain, *, attempts: int, seconds: float, cost: Usage, is_final: bool = False
    ) -> None:
        """Write a line into the ledger, if there is one."""
        if self.replies is None:
            return
        failure = Failure(
            key=call.key,
            endpoint=self.endpoint.identity,
            reason=abstain.reason,
            attempts=attempts,
            seconds=round(seconds, 3),
            prompt_tokens=cost.prompt_tokens,
            completion_tokens=cost.completion_tokens,
            usd=self.spending.cost_usd(cost.prompt_tokens, cost.completion_tokens),
            asked=call.request.messages[-1].content[-ASKED_CHARS:],
            detail=abstain.raw,
            is_final=is_final,
        )
        self.replies.ledger.note(failure)

    async def complete(self, requests: Sequence[Request], *, on_reply: OnReply | None = None) -> list[Reply | Abstain]:
        """Answer every request; see `Teacher.complete`."""
        self.tally.begin()
        try:
            return await Run(self, requests, on_reply).answers()
        except BaseExceptionGroup as group:
            # A task group wraps what its tasks raise; the first failure is the one that stopped the run.
            raise _first_of(group) from None
        finally:
            self.tally.report(is_last=True)

    def close(self) -> None:
        """Close the files."""
        if self.replies is not None:
            self.replies.close()


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

    def note(self, request: Request, abstain: Abstain, replies: Sequence[Reply]) -> None:
        """Write into the ledger that nothing could be made of what was replied; see `Teacher.note`."""
        cost = Usage(
            prompt_tokens=sum(reply.prompt_tokens for reply in replies),
            completion_tokens=sum(reply.completion_tokens for reply in replies),
        )
        self._engine.note(self._engine.prepare(request), abstain, attempts=len(replies), seconds=0.0, cost=cost)

    def close(self) -> None:
        """Close the reply store."""
        self._engine.close()


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
