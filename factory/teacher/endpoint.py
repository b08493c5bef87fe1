"""What the engine needs from a place that answers: one protocol, and the ways in which a single call may fail."""

from collections.abc import Mapping
from typing import Any, Protocol

from factory.errors import TeacherError
from factory.teacher.protocol import Abstain, Request


class Retryable(Exception):
    """One call failed in a way that may pass: busy, down, slow, or not speaking JSON."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        is_refused: bool = False,
        may_be_paid: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.is_refused = is_refused
        """Whether the server said that it is asked too much (HTTP 429)."""
        self.may_be_paid = may_be_paid
        """Whether the server may have done the work, and charge for it, though no answer arrived."""


class Declined(Exception):
    """One request has no answer and will have none in this run; its neighbours are not affected."""

    def __init__(self, abstain: Abstain, *, may_be_paid: bool = False) -> None:
        super().__init__(abstain.reason)
        self.abstain = abstain
        self.may_be_paid = may_be_paid
        """As for `Retryable`."""


class Doubtful(Exception):
    """A refusal of one request, or of all: nobody can tell before the endpoint has answered something."""

    def __init__(self, abstain: Abstain, error: TeacherError) -> None:
        super().__init__(abstain.reason)
        self.abstain = abstain
        """What it is where the endpoint is known to work."""
        self.error = error
        """What it is otherwise."""


class Connection(Protocol):
    """An open line to an endpoint; it belongs to one event loop."""

    async def send(self, request: Request, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Ask once and return the raw chat completion.

        Raises:
            Retryable: Worth another attempt.
            Declined: Over, for this request.
            Doubtful: Over for this request or for the whole run.
            TeacherError: Final, for the whole run.
        """

    async def aclose(self) -> None:
        """Hang up."""


class Endpoint(Protocol):
    """A place that answers chat completions."""

    @property
    def identity(self) -> str:
        """Model and address, never a secret; part of the key of each stored reply."""

    def encode(self, request: Request) -> dict[str, Any]:
        """Return the body that goes over the wire: same request, same bytes."""

    async def connect(self) -> Connection:
        """Open a line; called only when the cache cannot answer, so this is where expensive things start."""
