"""The version that answers now, and the switch to another when the registry's alias moves.

A request takes `current` once and keeps it: what is in flight finishes on the version it began with, and the last one
to let go of it frees it. A version that cannot be opened never replaces one that answers.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from factory.errors import ArtifactCorrupt
from factory.release.files import Files
from factory.release.predict import Answer, ArtifactError, Predictor
from factory.serving.example import example_row
from factory.serving.http.locate import Located
from factory.store import Artifact

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Knows which version is wanted."""

    @property
    def pause_s(self) -> float:
        """Seconds between two looks."""

    def stamp(self) -> object:
        """Return something that differs once another version may be wanted; None: that must be asked each time."""

    def locate(self) -> Located:
        """Find the wanted version, or raise a FactoryError."""


class Answerer(Protocol):
    """What answers texts: a released student, or a cascade that begins with one. Called from several threads."""

    def predict(self, texts: Sequence[str]) -> Sequence[Answer]:
        """Return an answer for each text, in order."""


@dataclass(frozen=True)
class Opened:
    """A version that answers."""

    name: str
    located: Located
    student: Predictor
    answerer: Answerer
    """The student itself, or a cascade that begins with it."""
    since: float = field(default_factory=time.time)

    @property
    def version(self) -> int:
        """Its number in the registry."""
        return self.located.version


def open_version(
    name: str, located: Located, wrap: Callable[[Predictor], Answerer] = lambda predictor: predictor
) -> Opened:
    """Open a version after comparing every file with its manifest, and let it answer once.

    Args:
        name: Of the task.
        located: The version.
        wrap: Makes what answers of the opened student, such as a cascade.

    Returns:
        The version, warmed up.

    Raises:
        ArtifactCorrupt: A file is not the one that was released, or the graph does not run.
    """
    folder = Path(located.folder)
    artifact = Artifact(folder, Files, was_cached=True)
    artifact.check()
    if artifact.content_hash != located.content_hash:
        raise ArtifactCorrupt(
            f"{folder}: holds another release than version {located.version}", hint="build the task again"
        )
    try:
        predictor = Predictor(folder)
    except ArtifactError as error:  # of the stand-alone program, which knows nothing of the factory
        raise ArtifactCorrupt(str(error), hint="build the task again") from error
    try:
        predictor.predict(
            [example_row(predictor) if predictor.is_table else "warm up"]
        )  # here a graph that opens and does not run is found, and memory is set aside
    except Exception as error:  # onnxruntime has no public base class for its errors
        raise ArtifactCorrupt(f"{folder}: opens, and does not answer: {error}", hint="build the task again") from error
    return Opened(name, located, predictor, wrap(predictor))


class Live:
    """Holds the version that answers; `watch` in a thread of its own keeps it the wanted one."""

    def __init__(
        self, name: str, source: Source, wrap: Callable[[Predictor], Answerer] = lambda predictor: predictor
    ) -> None:
        self._name = name
        self._source = source
        self._wrap = wrap
        self._stop = threading.Event()
        self._seen = source.stamp()
        self.on_switch: Callable[[str, Opened], None] = lambda outcome, opened: None
        self.problem: str | None = None
        """Why the wanted version does not answer, when an older one does."""
        self.current = open_version(name, source.locate(), wrap)

    def watch(self) -> None:
        """Begin to follow the alias."""
        threading.Thread(target=self._watch, name="registry", daemon=True).start()

    def stop(self) -> None:
        """Follow it no more; a question that is being asked is not waited for."""
        self._stop.set()

    def look(self) -> None:
        """Switch if the registry names another version now; a failure is kept in `problem` and logged, once."""
        try:
            stamp = self._source.stamp()
            if stamp is not None and stamp == self._seen and self.problem is None:
                return
            located = self._source.locate()
            if located.content_hash != self.current.located.content_hash:
                opened = open_version(self._name, located, self._wrap)
                self.problem = None  # first: nobody shall see the new version with the old problem
                self.current = opened
                self._tell("switched")
            elif located.version != self.current.version:
                self.current = replace(self.current, located=located)
            self._seen, self.problem = stamp, None
        except Exception as error:  # of any kind: nobody would notice that the thread which follows the alias had ended
            problem = f"{type(error).__name__}: {error}"
            if problem != self.problem:
                self.problem = problem
                self._tell("refused")

    def _tell(self, outcome: str) -> None:
        level = logging.INFO if outcome == "switched" else logging.ERROR
        fields = {"outcome": outcome, "version": self.current.version, "problem": self.problem}
        logger.log(level, "switch", extra={"fields": fields})
        self.on_switch(outcome, self.current)

    def _watch(self) -> None:
        # A problem is looked at less often: each look asks the registry anew.
        while not self._stop.wait(self._source.pause_s * (1 if self.problem is None else 5)):
            self.look()
