"""What the server writes down: one JSON object a line on standard error, without texts; and, when asked, the texts."""

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factory.errors import FactoryError

logger = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """A record as JSON: time, level, logger, message, and the mapping given as `extra={"fields": ...}`.

    Of an exception only its type and place are written: its message may quote the text that caused it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format on one line."""
        said: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            said["error"] = describe(record.exc_info[1])
        return json.dumps(said, ensure_ascii=True, default=str)


def describe(error: BaseException) -> str:
    """Name an exception and the innermost line it came through, without its message."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    return f"{type(error).__name__} at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


class TextLog:
    """Appends what was asked and answered, for `factory watch`: {time, id, text, label, probability, version} a line.

    The file is opened for each request, so it may be moved away at any time, and only its owner may read it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._append(b"")
        except OSError as error:
            raise FactoryError(
                f"{path}: the text log cannot be written: {error.strerror}", hint="name a file in an existing folder"
            ) from error

    def write(self, request_id: str, texts: Sequence[Any], answers: Sequence[Any], version: int) -> bool:
        """Append a line for each text.

        Args:
            request_id: The `x-request-id` of the answer; lines are numbered after it.
            texts: What was asked; of a table, rows.
            answers: What was said.
            version: Of the model.

        Returns:
            Whether they were written; a full disk must not cost a client its answer.
        """
        now = _utc(time.time())
        rows = (
            {
                "time": now,
                "id": f"{request_id}-{number}",
                **({"text": text} if isinstance(text, str) else {"features": text}),
                **{key: answer[key] for key in ("label", "probability", "value") if key in answer},
                "version": version,
            }
            for number, (text, answer) in enumerate(zip(texts, answers, strict=True))
        )
        try:
            self._append("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
        except OSError as error:
            logger.error("text log not written", extra={"fields": {"reason": error.strerror, "n_texts": len(texts)}})
            return False
        return True

    def _append(self, lines: bytes) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # One call, so that several servers may share a file; what a full disk cuts off is an error.
            if os.write(handle, lines) != len(lines):
                raise OSError(28, "only a part was written")
        finally:
            os.close(handle)


def log_to_stderr() -> None:
    """Send the server's log, uvicorn's errors included, to standard error as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name in ("factory.serving", "uvicorn"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(logging.INFO if name == "factory.serving" else logging.WARNING)


def _utc(seconds: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1000):03d}Z"
