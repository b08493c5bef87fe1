"""A file of lines that several processes append to: whole lines, each in one write."""

import os
from collections.abc import Iterator
from pathlib import Path

from factory.errors import ArtifactError


class Lines:
    """The file at `path`; opened, and made if missing, at the first line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def append(self, line: str) -> None:
        """Write one line after whatever is there.

        Args:
            line: Without its end.

        Raises:
            ArtifactError: The disk is full, or the file cannot be written.
        """
        data = line.encode("utf-8", "replace") + b"\n"
        try:
            fd = self._open()
            n_bytes = os.fstat(fd).st_size
            if n_bytes and os.pread(fd, 1, n_bytes - 1) != b"\n":
                data = b"\n" + data  # a torn line stays, closed, and does not swallow ours
            view = memoryview(data)
            while view:  # one write as a rule, so that lines of two processes do not mix
                view = view[os.write(fd, view) :]
        except OSError as error:
            hint = "check that the disk has space and that the file and its folder may be written"
            raise ArtifactError(f"{self.path}: cannot be written: {error}", hint=hint) from error

    def read(self) -> Iterator[str]:
        """Return all lines that are not empty, oldest first; none when there is no file."""
        try:
            with self.path.open(encoding="utf-8", errors="replace", newline="\n") as file:
                for line in file:
                    if line.strip():
                        yield line.removesuffix("\n")
        except FileNotFoundError:
            return
        except OSError as error:
            hint = "check that it is a file and may be read"
            raise ArtifactError(f"{self.path}: cannot be read: {error}", hint=hint) from error

    def close(self) -> None:
        """Close the file; safe to call twice, and the next line opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        if self._fd is not None and os.fstat(self._fd).st_nlink == 0:
            self.close()  # somebody deleted it
        if self._fd is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return self._fd
