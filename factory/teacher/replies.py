"""The reply cache: every reply the teacher ever gave, in one SQLite file, so that nothing is asked or paid for twice.

The key is a hash of the endpoint's identity, the exact body that went over the wire and the sample index. The value is
the reply as it came, before anybody parsed it. Errors are never stored. The file is in WAL mode: several builds may
use it at once, and `kill -9` loses at most the calls in flight.
"""

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from factory.errors import ArtifactCorrupt, ArtifactError
from factory.teacher.wire import usage_of

FORMAT = 1
"""Number in the file's `user_version`; a file with another number is refused, never rewritten."""
BUSY_TIMEOUT_S = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    reply TEXT NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    seconds REAL NOT NULL,
    written_at TEXT NOT NULL
)
"""


def key_of(identity: str, payload: Mapping[str, Any], sample: int) -> str:
    """Return the key of a reply. Key order counts: a grammar writes properties in the order of the schema."""
    parts = {"endpoint": identity, "payload": payload, "sample": sample}
    text = json.dumps(parts, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Replies:
    """The reply cache in the file `path`; the file is opened, and made if missing, at the first use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a stored reply, or None.

        Raises:
            ArtifactCorrupt: The file is damaged.
            ArtifactError: The file cannot be read.
        """
        with self._using() as connection:
            row = connection.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            reply = json.loads(row[0])
        except ValueError as error:
            raise self._damaged(f"reply {key[:12]} is not JSON") from error
        if not isinstance(reply, dict):
            raise self._damaged(f"reply {key[:12]} is not an object")
        return reply

    def put(self, key: str, reply: Mapping[str, Any], *, seconds: float) -> None:
        """Store a reply; when another process was faster, its reply stays.

        Args:
            key: From `key_of`.
            reply: The chat completion as it came.
            seconds: How long the teacher took.

        Raises:
            ArtifactCorrupt: The file is damaged.
            ArtifactError: The disk is full, or the file cannot be written.
        """
        usage = usage_of(reply)
        row = (
            key,
            json.dumps(reply, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace").decode(),
            usage and usage.prompt_tokens,
            usage and usage.completion_tokens,
            seconds,
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        with self._using() as connection:
            connection.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?)", row)

    def __len__(self) -> int:
        with self._using() as connection:
            return int(connection.execute("SELECT count(*) FROM replies").fetchone()[0])

    def close(self) -> None:
        """Close the file; safe to call twice, and the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection to one thread at a time and turn SQLite's errors into ours."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                yield self._connection
            except sqlite3.OperationalError as error:
                raise self._unusable(error) from error
            except sqlite3.DatabaseError as error:
                raise self._damaged(str(error)) from error

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"{self.path}: cannot make the folder of the reply cache: {error}") from error
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,  # every reply is its own transaction
            check_same_thread=False,  # the lock sees to that
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        # NORMAL survives `kill -9`; only a power cut may cost the last replies, never the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        # IMMEDIATE: two processes that make the same new file take turns.
        connection.execute("BEGIN IMMEDIATE")
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
        is_new = not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        if is_new:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
        if not is_new and found != FORMAT:
            hint = "use the version of the factory that wrote it, or move the file away to ask everything again"
            raise ArtifactError(f"{self.path}: reply cache of format {found}, expected {FORMAT}", hint=hint)

    def _unusable(self, error: sqlite3.OperationalError) -> ArtifactError:
        code = error.sqlite_errorcode & 0xFF
        if code == sqlite3.SQLITE_FULL:
            hint = "free some space and run the same command again; every reply stored so far is kept"
            return ArtifactError(f"{self.path}: the disk is full", hint=hint)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            hint = "another program holds it open for writing; close it and run the same command again"
            return ArtifactError(f"{self.path}: locked for over {BUSY_TIMEOUT_S:g} s", hint=hint)
        hint = "check that the disk has space and that the file and its folder may be written"
        return ArtifactError(f"{self.path}: cannot use the reply cache: {error}", hint=hint)

    def _damaged(self, what: str) -> ArtifactCorrupt:
        hint = (
            f"copy what can be saved with `sqlite3 {self.path.name} .recover | sqlite3 saved.sqlite` and put it in its "
            "place, or move the file away together with its -wal and -shm; then all its replies are asked again"
        )
        return ArtifactCorrupt(f"{self.path}: the reply cache is damaged: {what}", hint=hint)
