"""The ledger of failures: a line for each request that ended without a usable answer."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Failure:
    """One request without a usable answer."""

    key: str
    """Where its reply would stand, or stands if there was one, in the reply store."""
    endpoint: str
    reason: str
    """As in `Abstain.reason`."""
    attempts: int
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    usd: float
    """What it cost all the same."""
    asked: str
    """End of the last message."""
    detail: str
    """What came instead of an answer, or how the last attempt failed."""


class Ledger:
    """A file of JSON lines; made at the first failure."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_damaged = 0
        """Lines that could not be read the last time."""

    def note(self, failure: Failure) -> None:
        """Append a line."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"at": at, **asdict(failure)}, ensure_ascii=False) + "\n"
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, line.encode("utf-8", "replace"))  # one write: lines of two processes do not mix
        finally:
            os.close(fd)

    def failures(self) -> Iterator[Failure]:
        """Read all failures, oldest first; lines that are damaged are counted and left out."""
        self.n_damaged = 0
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
            if not line:
                continue
            try:
                failure = Failure(**{name: value for name, value in json.loads(line).items() if name != "at"})
            except (ValueError, TypeError, AttributeError):
                self.n_damaged += 1
            else:
                yield failure
