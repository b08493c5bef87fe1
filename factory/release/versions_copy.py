"""A copy of what MLflow last said about a task, believed only while MLflow's database file has not changed since.

`factory predict` then needs no MLflow, whose import and first query take three seconds. See
docs/decisions/0003-registry.md.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 2
"""Changes with what is said of a version."""


@dataclass(frozen=True)
class VersionsCopy:
    """The copy of one task."""

    path: Path
    database: Path | None
    """MLflow's SQLite file; None where a server keeps it, which must be asked each time."""

    def read(self) -> list[dict[str, Any]] | None:
        """Return the copied versions, or None when MLflow must be asked."""
        stamp = self.stamp()
        if stamp is None or not self.path.is_file():
            return None
        try:
            copy = json.loads(self.path.read_text(encoding="utf-8"))
            return list(copy["versions"]) if copy["stamp"] == [FORMAT, *stamp] else None
        except (ValueError, KeyError, TypeError):
            return None  # A copy of another format or half a file: the truth is elsewhere.

    def write(self, stamp: Sequence[int], versions: Sequence[dict[str, Any]]) -> None:
        """Renew the copy; `stamp` is from before the question."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        copy = {"stamp": [FORMAT, *stamp], "versions": versions}
        scratch.write_text(json.dumps(copy, indent=1) + "\n", encoding="utf-8")
        scratch.replace(self.path)

    def stamp(self) -> list[int] | None:
        """Return what changes whenever MLflow's database does; None without one."""
        if self.database is None or not self.database.is_file():
            return None
        stat = self.database.stat()
        with self.database.open("rb") as file:
            header = file.read(28)
        # The last four bytes count transactions (sqlite.org/fileformat.html, 1.3.7); a file's time can stand still.
        return [stat.st_ino, stat.st_mtime_ns, int.from_bytes(header[24:], "big")]
