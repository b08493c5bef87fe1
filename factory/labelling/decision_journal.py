"""The file of decisions while people work on it: nothing is called saved before it is on the disk."""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from factory.data import WrongRow
from factory.errors import ArtifactError
from factory.labelling.reviewed import Decision, Settled, line_of, read_decisions, settle

HINT = "check that the disk has space and that the file and its folder may be written"


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
            ArtifactError: The disk is full, the file cannot be written, or a decision could not be read again; none of
                them is in the file then.
        """
        if not decisions:
            return
        try:
            data = b"".join(line_of(one, self._labels) + b"\n" for one in decisions)
        except WrongRow as error:
            raise ArtifactError(f"{self.path}: not saved, nobody could read it again: {error}") from error
        try:
            with self._opened() as fd:
                self._follow()
                _write(fd, data)
                self._seen = _state(self.path)
        except OSError as error:
            raise ArtifactError(f"{self.path}: cannot be written: {error.strerror or error}", hint=HINT) from error
        self._decisions += decisions
        self._settled = None

    def set_aside_torn_line(self) -> Path | None:
        """Move what a crash left of a last line into a file of its own; for those who are about to write.

        Only the beginning of a JSON object without its end, in the last line, without a line end, is taken for one: a
        person may have typed it as well, so its bytes are kept.

        Returns:
            The new file, `reviewed.jsonl.torn-1` or a higher number; None if the file is whole, and as it was.

        Raises:
            ArtifactError: It cannot be written; the journal is as it was then.
        """
        if not self.path.is_file():
            return None
        try:
            with self._opened() as fd:
                content = self.path.read_bytes()
                tail = content.rpartition(b"\n")[2]
                if not tail.lstrip().startswith((b"{", b"\0")) or tail.rstrip().endswith(b"}"):
                    return None
                kept = _keep(self.path, tail)
                os.ftruncate(fd, len(content) - len(tail))
                os.fsync(fd)
        except OSError as error:
            raise ArtifactError(f"{self.path}: cannot be written: {error.strerror or error}", hint=HINT) from error
        return kept

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
            _sync_folder(self.path)

    def _follow(self) -> None:
        """Read the file again if somebody else changed it."""
        state = _state(self.path)
        if state != self._seen:
            self._decisions = read_decisions(self.path, self._labels) if state else []
            self._seen, self._settled = state, None


def _keep(path: Path, tail: bytes) -> Path:
    """Save a torn line beside the file it comes from, under a name that is free."""
    for number in count(1):
        kept = path.with_name(f"{path.name}.torn-{number}")
        try:
            with kept.open("xb") as out:
                out.write(tail)
                out.flush()
                os.fsync(out.fileno())
        except FileExistsError:
            continue
        _sync_folder(kept)
        break
    return kept


def _sync_folder(path: Path) -> None:
    """Put a new file's name on the disk too, or the file may be gone after a power cut."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
