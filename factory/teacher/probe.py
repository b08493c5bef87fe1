"""A teacher that answers from the reply store alone: what would a stage ask that is not stored?

Requests go through the engine, so that whatever it does with stored replies happens here too; only the endpoint at its
end answers nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.teacher.budget import Spending
from factory.teacher.endpoint import Declined, Endpoint
from factory.teacher.engine import Engine
from factory.teacher.journal import Journal, Lost
from factory.teacher.ledger import Failure, Ledger
from factory.teacher.limits import Limits
from factory.teacher.protocol import Abstain, OnReply, Reply, Request
from factory.teacher.replies import Exchange, Replies
from factory.teacher.wire import Usage

NOT_STORED = "not-stored"
"""Reason of the abstention where a reply is missing."""


class DependsOnMissing(Exception):
    """What would be asked next depends on replies that are missing."""


class Probe:
    """Answers what is stored and abstains otherwise; asks nobody, stores nothing."""

    def __init__(self, endpoint: Endpoint, replies: Path, *, spending: Spending | None = None) -> None:
        self._asked = _Recorder(endpoint)
        self._replies = _ReadOnly(replies)
        self._engine = Engine(
            self._asked,
            # Opening the store would make the file.
            replies=self._replies if replies.is_file() else None,
            spending=spending,
            limits=Limits(first_call_alone=False),
        )
        self.found: set[str] = set()
        """Keys of the replies it answered from."""

    @property
    def identity(self) -> str:
        """That of the teacher it stands for, so that stages have the same fingerprint."""
        return self._asked.identity

    @property
    def spending(self) -> Spending:
        """Has no bound unless it was given one: nothing is asked."""
        return self._engine.spending

    @property
    def endpoint(self) -> Endpoint:
        """Records requests and declines them."""
        return self._asked

    @property
    def missing(self) -> Mapping[str, Exchange]:
        """What is not stored, by key; each without a reply."""
        return self._asked.missing

    def forget(self) -> None:
        """Begin anew, for another stage."""
        self._asked.missing.clear()
        self.found.clear()

    async def complete(self, requests: Sequence[Request], *, on_reply: OnReply | None = None) -> list[Reply | Abstain]:
        """Answer what is stored; see `Teacher.complete`.

        Args:
            requests: What the teacher would be asked.
            on_reply: As for any teacher.

        Returns:
            Stored answers; an abstention for each one that is missing.

        Raises:
            DependsOnMissing: Something is missing, and so was a reply before, since `forget`: what is asked now may
                have been made from that one, and is not what a build would ask.
        """
        known = dict(self.missing)
        answers = await self._engine.complete(requests, on_reply=on_reply)
        if known and len(self.missing) > len(known):
            self._asked.missing = known
            raise DependsOnMissing
        self.found |= {one.key for one in answers if not (isinstance(one, Abstain) and one.reason == NOT_STORED)}
        return answers

    def note(self, request: Request, abstain: Abstain, replies: Sequence[Reply]) -> None:
        """Note nothing: what was replied was noted when it came."""

    def close(self) -> None:
        """Close the reply store."""
        self._engine.close()


class _Recorder:
    """Endpoint and connection in one; writes down what it is asked and answers nothing."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.missing: dict[str, Exchange] = {}

    @property
    def identity(self) -> str:
        return self._endpoint.identity

    def encode(self, request: Request) -> dict[str, Any]:
        return self._endpoint.encode(request)

    async def connect(self) -> "_Recorder":
        return self

    async def send(self, request: Request, payload: Mapping[str, Any]) -> dict[str, Any]:
        asked = Exchange(self.identity, payload, request.sample, reply={}, seconds=0.0)
        self.missing[asked.key] = asked
        raise Declined(Abstain(NOT_STORED))

    async def aclose(self) -> None:
        """There is nothing to close."""


class _ReadOnly(Replies):
    """A reply store whose ledger and journal stay as they are."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.ledger = _DeafLedger(self.ledger.path)
        self.journal = _DeafJournal(path)


class _DeafLedger(Ledger):
    def note(self, failure: Failure) -> None:
        """Note nothing: a probe is no failure."""


class _DeafJournal(Journal):
    def lost(self) -> dict[str, Lost]:
        """Read nothing: a probe has no budget."""
        return {}

    def _write(self, sign: str, key: str, bound: Usage) -> None:
        """Write nothing: a probe sends nothing."""
