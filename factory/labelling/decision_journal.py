"""The file of decisions while people work on it: nothing is called saved before it is on the disk."""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from factory.errors import ArtifactError
from factory.labelling.reviewed import Decision, Settled, read_decisions, settle


class DecisionJournal:
    """The decisions of one task; several programs may write to the file at once.

    Not made for several threads: whoever has some holds a lock.
    """

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        self.path = path
        self._labels = tuple(labels)
        self._decisions: list[Decision] = []
        self._settled: Settled | None = None
        self._seen: tuple[int, int, int] | None = None
        self._repair()

    def settled(self) -> Settled:
        """Return what holds now, what others wrote into the file included."""
        self._follow()
        if self._settled is None:
            self._settled = settle(self._decisions)
        return self._settled

    def keys(self) -> frozenset[str]:
        """Return the keys of all decisions in the file."""
        self._follow()
        return frozenset(one.key for one in self._decisions if one.key)

    def append(self, decisions: Sequence[Decision]) -> None:
        """Write decisions to the end of the file, and come back when they are on the disk.

        Args:
            decisions: New ones.

        Raises:
            ArtifactError: The disk is full or the file cannot be written; none of them is in the file then.
        """
        if not decisions:
            return
        data = "".join(one.as_line() + "\n" for one in decisions).encode()
        try:
            with self._opened() as fd:
                self._follow()
                _write(fd, data)
                self._seen = _state(self.path)
        except OSError as error:
            hint = "check that the disk has space and that the file and its folder may be written"
            raise ArtifactError(f"{self.path}: cannot be written: {error.strerror or error}", hint=hint) from error
        self._decisions += decisions
        self._settled = None

    @contextmanager
    def _opened(self) -> Iterator[int]:
        is_new = not self.path.exists()
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)
        if is_new:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # or the file itself may be gone after a power cut
            finally:
                os.close(folder)

    def _follow(self) -> None:
        """Read the file again if somebody else changed it."""
        state = _state(self.path)
        if state != self._seen:
            self._decisions = read_decisions(self.path, self._labels) if state else []
            self._seen, self._settled = state, None

    def _repair(self) -> None:
        """Cut off what a power cut left of a last line: it was never called saved."""
        if not self.path.is_file():
            return
        with self._opened() as fd:
            content = self.path.read_bytes()
            tail = content.rpartition(b"\n")[2]
            if tail.strip() and not tail.rstrip().endswith(b"}"):
                os.ftruncate(fd, len(content) - len(tail))
                os.fsync(fd)


def _write(fd: int, data: bytes) -> None:
    """Write lines whole or not at all."""
    n_bytes = os.fstat(fd).st_size
    if n_bytes and os.pread(fd, 1, n_bytes - 1) != b"\n":
        data = b"\n" + data  # a person's editor left the last line open
    try:
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    except OSError:
        os.ftruncate(fd, n_bytes)  # half a line would spoil the file
        raise


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
