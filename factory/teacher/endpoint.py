"""What the engine needs from a place that answers: one protocol, and the two ways in which a single call may fail."""

from collections.abc import Mapping
from typing import Any, Protocol

from factory.teacher.protocol import Abstain, Request


class Retryable(Exception):
    """One call failed in a way that may pass: busy, down, slow, or not speaking JSON."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, is_refused: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.is_refused = is_refused
        """Whether the server said that it is asked too much (HTTP 429)."""


class Declined(Exception):
    """One request has no answer and will never have one; its neighbours are not affected."""

    def __init__(self, abstain: Abstain) -> None:
        super().__init__(abstain.reason)
        self.abstain = abstain


class Connection(Protocol):
    """An open line to an endpoint; it belongs to one event loop."""

    async def send(self, request: Request, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Ask once and return the raw chat completion.

        Raises:
            Retryable: Worth another attempt.
            Declined: Final, for this request.
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
