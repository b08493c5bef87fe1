"""A request made ready for the wire, the work of getting it answered, and the ways in which that ends without one."""

import time
from dataclasses import dataclass, field
from typing import Any

from factory.errors import TeacherError
from factory.teacher.protocol import Request
from factory.teacher.wire import Usage


@dataclass(frozen=True)
class Call:
    """What goes over the wire, its key, and the most that one attempt can cost."""

    request: Request
    payload: dict[str, Any]
    key: str
    bound: Usage


@dataclass
class Work:
    """A call and what became of it so far."""

    call: Call
    started: float = field(default_factory=time.monotonic)
    attempts: int = 0
    cost: Usage = field(default_factory=Usage)
    """What was charged for it."""
    n_reserved: int = 0
    """Attempts whose bound is set aside in the budget."""
    has_slot: bool = False
    """Whether it is counted among the calls in flight."""

    def left_s(self, deadline_s: float | None) -> float:
        """Return the seconds until its deadline."""
        return float("inf") if deadline_s is None else self.started + deadline_s - time.monotonic()


class Stopped(Exception):
    """The run is ending: one call learned that no further one can succeed."""


class OutOfBudget(Exception):
    """There is no room for another attempt."""


class GaveUp(Exception):
    """One request got no answer in all its attempts or its time."""

    def __init__(self, message: str, reason: str = "unavailable", *, error: TeacherError | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.error = error
        """What ends the run if the endpoint turns out to be down, where that is something special."""
