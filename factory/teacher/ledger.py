"""The ledger of failures: a line for each request that ended without a usable answer."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from factory.teacher.lines import Lines


@dataclass(frozen=True)
class Failure:
    """One request without a usable answer."""

    key: str
    """Where its reply would stand, or stands if there was one, in the reply store."""
    endpoint: str
    reason: str
    """As in `Abstain.reason`; `refused` where it ended the run."""
    attempts: int
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    usd: float
    """What it cost all the same: what the server counted, and the upper bound of each attempt that may have been
    served though no answer arrived."""
    asked: str
    """End of the last message."""
    detail: str
    """What came instead of an answer, or how the last attempt failed."""
    is_final: bool = False
    """The endpoint, known to work, will not have this request: it is not asked again while this line stands."""


class Ledger:
    """A file of JSON lines; made at the first failure."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_damaged = 0
        """Lines that could not be read the last time."""
        self._lines = Lines(path)
        self._unasked: set[str] | None = None
        """Keys of requests that the budget kept from being asked: a line for each is enough."""

    def note(self, failure: Failure) -> None:
        """Append a line.

        Args:
            failure: What failed; that the budget refused a request is noted once, not at every run.

        Raises:
            ArtifactError: The file cannot be written.
        """
        if failure.reason == "budget" and not failure.attempts:
            if self._unasked is None:
                self._unasked = {one.key for one in self.failures() if one.reason == "budget" and not one.attempts}
            if failure.key in self._unasked:
                return
            self._unasked.add(failure.key)
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._lines.append(json.dumps({"at": at, **asdict(failure)}, ensure_ascii=False))

    def failures(self) -> Iterator[Failure]:
        """Read all failures, oldest first; lines that are damaged are counted and left out."""
        self.n_damaged = 0
        for line in self._lines.read():
            try:
                failure = Failure(**{name: value for name, value in json.loads(line).items() if name != "at"})
            except (ValueError, TypeError, AttributeError, RecursionError):
                self.n_damaged += 1
            else:
                yield failure

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        self._lines.close()
