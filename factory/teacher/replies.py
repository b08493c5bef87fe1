"""The reply store: every reply the teacher ever gave, in one file, so that nothing is asked or paid for twice.

A line an exchange, appended before anybody parses the reply:

    <key, 64 hex digits> <CRC-32 of the rest and the key, 8 hex digits> {"endpoint": ..., "payload": ..., ...}

The key is a hash of the endpoint's identity, the exact body that went over the wire and the sample index; errors are
never stored. Builds may share the file: each appends whole lines under a lock and reads what others appended. Damage
anywhere, a torn last line included, loses the lines it touches and no other (docs/decisions/0007-reply-store.md).
"""

import errno
import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from factory.errors import ArtifactCorrupt, ArtifactError
from factory.events import Warned, emit
from factory.teacher.exchange import LINE, Exchange, is_whole, key_of, line_of, parse
from factory.teacher.journal import Journal
from factory.teacher.ledger import Ledger

__all__ = ["Exchange", "Replies", "key_of"]

_HEAD = re.compile(rb"[0-9a-f]*")
_TRACE = re.compile(rb'[0-9a-f]{8} \{"endpoint":')
"""What a damaged store still has somewhere."""
_BLOCK = 1 << 20


class Replies:
    """The reply store in the file `path`; the file is opened, and made if missing, at the first use.

    Safe to share between threads and processes. Memory grows by about 300 bytes a reply: where each line is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = Ledger(path.with_name("failures.jsonl"))
        """Requests that ended without a usable answer."""
        self.journal = Journal(path.with_name("spending.log"))
        """Attempts that may have been paid for though no reply of them is stored."""
        self.n_damaged = 0
        """Lines that could not be read, in the part of the file read so far."""
        self._fd: int | None = None
        self._lines: dict[bytes, tuple[int, int]] = {}
        """Key -> where its line begins and how long it is. The first line of a key counts."""
        self._n_read = 0
        """Bytes of the file that `_lines` covers: always whole lines."""
        self._lock = threading.Lock()

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a stored reply, or None.

        Raises:
            ArtifactError: The file cannot be read.
        """
        exchange = self.find(key)
        return None if exchange is None else dict(exchange.reply)

    def find(self, key: str) -> Exchange | None:
        """Return a reply with what it was the answer to, or None; see `get`."""
        with self._using() as fd:
            where = self._lines.get(bytes.fromhex(key))
            if where is None:
                self._read_on(fd)
                where = self._lines.get(bytes.fromhex(key))
            found = self._at(fd, key, where)
            if where is not None and found is None:  # damaged, or put elsewhere, since it was first read
                self._lines, self._n_read, self.n_damaged = {}, 0, 0
                self._read_on(fd)
                found = self._at(fd, key, self._lines.get(bytes.fromhex(key)))
            return found

    def _at(self, fd: int, key: str, where: tuple[int, int] | None) -> Exchange | None:
        """Read the exchange at a place, if it is whole and the one that is looked for."""
        line = None if where is None else LINE.fullmatch(os.pread(fd, where[1], where[0]))
        return parse(line) if line is not None and line[1].decode() == key and is_whole(line) else None

    def put(self, key: str, exchange: Exchange) -> None:
        """Append an exchange; when another process was faster, its reply stays.

        Args:
            key: That of the exchange, from `key_of`.
            exchange: What was asked, and the chat completion as it came.

        Raises:
            ArtifactError: The disk is full, or the file cannot be written.
        """
        with self._using(exclusively=True) as fd:
            self._read_on(fd)
            if bytes.fromhex(key) not in self._lines:
                self._append(fd, line_of(key, exchange))

    def exchanges(self) -> Iterator[Exchange]:
        """Read everything that is stored, in the order it was stored."""
        with self._using() as fd:
            self._read_on(fd)
            keys = list(self._lines)
        for key in keys:
            exchange = self.find(key.hex())
            if exchange is not None:
                yield exchange

    def prune(self, keep: Iterable[str]) -> int:
        """Rewrite the file with some of its replies, atomically; damaged lines go too.

        Args:
            keep: Keys that stay.

        Returns:
            How many replies are gone.
        """
        kept = {bytes.fromhex(key) for key in keep}
        return self._rewrite(lambda key: key in kept)

    def drop(self, keys: Iterable[str]) -> int:
        """Rewrite the file without some of its replies; what others append meanwhile stays.

        Args:
            keys: Keys that go; others than stored ones do no harm.

        Returns:
            How many replies are gone.
        """
        dropped = {bytes.fromhex(key) for key in keys}
        return self._rewrite(lambda key: key not in dropped)

    def n_bytes(self, keys: Iterable[str]) -> int:
        """Return how much of the file some replies take."""
        return sum(self._lines.get(bytes.fromhex(key), (0, 0))[1] for key in keys)

    def _rewrite(self, stays: Callable[[bytes], bool]) -> int:
        """Put a file with some of the lines in the place of this one; return how many are gone."""
        with self._using(exclusively=True) as fd:
            self._read_on(fd)
            n_gone = 0
            scratch = self.path.with_suffix(f".{os.getpid()}.tmp")
            with scratch.open("wb") as file:
                for key, (start, length) in self._lines.items():
                    if stays(key):
                        file.write(os.pread(fd, length, start))
                    else:
                        n_gone += 1
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self.path)  # whoever has the old file open notices and opens the new one
        return n_gone

    def __len__(self) -> int:
        with self._using() as fd:
            self._read_on(fd)
            return len(self._lines)

    def close(self) -> None:
        """Close the files; safe to call twice, and the next use opens them again."""
        with self._lock:
            self._forget()
        self.ledger.close()
        self.journal.close()

    @contextmanager
    def _using(self, *, exclusively: bool = False) -> Iterator[int]:
        """Lend the open file to one thread at a time, if asked to one process; turn the system's errors into ours."""
        with self._lock:
            try:
                fd = self._open()
                while exclusively and not self._lock_file(fd):
                    fd = self._open()
                try:
                    yield fd
                finally:
                    if exclusively:
                        fcntl.flock(fd, fcntl.LOCK_UN)
            except OSError as error:
                raise self._unusable(error) from error

    def _lock_file(self, fd: int) -> bool:
        """Wait for the lock of a file; false when meanwhile another file has taken its place."""
        fcntl.flock(fd, fcntl.LOCK_EX)
        if self._is_current(fd):
            return True
        fcntl.flock(fd, fcntl.LOCK_UN)
        return False

    def _open(self) -> int:
        """Return the file that is at `path` now: another process may have put a pruned one there."""
        if self._fd is not None and not self._is_current(self._fd):
            self._forget()
        while self._fd is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._read_on(self._fd)
            if not self._lines and not _HEAD.fullmatch(os.pread(self._fd, 16, 0)):  # not even a torn first line
                self._set_aside(self._fd)
        return self._fd

    def _set_aside(self, fd: int) -> None:
        """Move a store without a whole line away; refuse a file that is something else, and leave it alone."""
        content = os.pread(fd, _BLOCK, 0)
        if _TRACE.search(content) is None and content.strip(b"\0\n"):
            self._forget()
            hint = "move it away, or give another --out"
            raise ArtifactCorrupt(f"{self.path}: not a reply store, or damaged from end to end", hint=hint)
        fcntl.flock(fd, fcntl.LOCK_EX)  # freed when the file is closed
        self._read_on(fd)
        if not self._is_current(fd):  # another process moved it meanwhile
            self._forget()
            return
        if self._lines:  # or mended it
            fcntl.flock(fd, fcntl.LOCK_UN)
            return
        n = 1
        while (aside := self.path.with_name(f"{self.path.name}.damaged-{n}")).exists():
            n += 1
        self.path.rename(aside)
        self._forget()
        emit(Warned("teacher", f"{self.path}: damaged from end to end, moved to {aside.name}; replies are asked anew"))

    def _is_current(self, fd: int) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(fd)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino) and there.st_size >= self._n_read

    def _forget(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._lines, self._n_read, self.n_damaged = None, {}, 0, 0

    def _read_on(self, fd: int) -> None:
        """Find the lines that were appended since the last look; an unfinished last line is left for later."""
        n_damaged = 0
        rest = b""
        while block := os.pread(fd, _BLOCK, self._n_read + len(rest)):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                length = len(line) + 1
                found = LINE.fullmatch(line + b"\n")
                if found is not None and is_whole(found):
                    self._lines.setdefault(bytes.fromhex(found[1].decode()), (self._n_read, length))
                elif line:
                    n_damaged += 1
                self._n_read += length
        if n_damaged:
            self._say_damaged(n_damaged)

    def _say_damaged(self, n: int) -> None:
        self.n_damaged += n
        emit(
            Warned(
                "teacher", f"{self.path}: {n} damaged lines; their replies will be asked for again, the rest is whole"
            )
        )

    def _append(self, fd: int, line: bytes) -> None:
        """Write a whole line or nothing, after whatever is there."""
        end = os.fstat(fd).st_size
        if end > self._n_read:  # somebody was killed in the middle of a line: it stays, closed, as a damaged one
            line = b"\n" + line
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(fd, view) :]
        except OSError:
            os.ftruncate(fd, end)
            raise
        self._read_on(fd)

    def _unusable(self, error: OSError) -> ArtifactError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space and run the same command again; every reply stored so far is kept"
            return ArtifactError(f"{self.path}: the disk is full", hint=hint)
        hint = "check that the disk has space and that the file and its folder may be written"
        return ArtifactError(f"{self.path}: cannot use the reply store: {error}", hint=hint)
