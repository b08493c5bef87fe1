"""What a running build tells whoever watches: the terminal, a JSON log, the Prefect UI.

Events travel as ordinary log records with the event attached, so that a stage stays a pure function and nobody holds
a global. `factory.cli` and the flows install handlers; without one, events cost a level check and go nowhere.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """Base of all events; `stage` is the stage that speaks."""

    stage: str


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage was not cached and begins to run."""

    because: str
    """Why nothing stored fits, such as `params.seed changed`."""


@dataclass(frozen=True)
class StageFinished(Event):
    """A stage has a result; `summary` is a line for a person, such as `412 kept, 38 rejected`."""

    cached: bool
    seconds: float
    summary: str


@dataclass(frozen=True)
class Progressed(Event):
    """Work inside a stage: `done` of `total` (0 when unknown) `unit`s, with a short note."""

    done: int
    total: int
    unit: str
    note: str = ""


@dataclass(frozen=True)
class TeacherUsed(Event):
    """What the teacher has been asked in this build so far, replies from the cache apart."""

    calls: int
    cached_calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float
    tokens_per_s: float
    teacher: str = ""
    """Its identity: a build may ask several."""


@dataclass(frozen=True)
class Warned(Event):
    """Something is not as it should be, and the build goes on."""

    message: str


def used_together(used: Collection[TeacherUsed]) -> TeacherUsed | None:
    """Add up what several teachers have been asked; None if none was."""
    if not used:
        return None
    return TeacherUsed(
        stage="teacher",
        calls=sum(one.calls for one in used),
        cached_calls=sum(one.cached_calls for one in used),
        prompt_tokens=sum(one.prompt_tokens for one in used),
        completion_tokens=sum(one.completion_tokens for one in used),
        usd=sum(one.usd for one in used),
        tokens_per_s=max(one.tokens_per_s for one in used),
        teacher=", ".join(one.teacher for one in used),
    )


def emit(event: Event) -> None:
    """Send an event to whoever listens."""
    logger.info("%s", event, extra={"event": event})


def as_json(event: Event) -> dict[str, Any]:
    """Turn an event into a JSON-ready mapping with its type under `event`."""
    return {"event": type(event).__name__, **asdict(event)}


class Listener(logging.Handler):
    """A log handler that passes each event to a function; other records are ignored."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        super().__init__(logging.INFO)
        self._on_event = on_event

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on the event a record carries, if it carries one."""
        event = getattr(record, "event", None)
        if isinstance(event, Event):
            self._on_event(event)


@contextmanager
def listening(on_event: Callable[[Event], None]) -> Iterator[None]:
    """Call a function on each event while the block runs.

    Args:
        on_event: Called in the thread that emits.

    Yields:
        Nothing.
    """
    listener = Listener(on_event)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(listener)
    # Events are for listeners: without this they would also reach whatever handler the root logger has.
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagate
