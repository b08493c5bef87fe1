"""One line of the reply store: what was asked, what came back, and the key both are found by."""

import hashlib
import json
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

LINE = re.compile(rb"([0-9a-f]{64}) ([0-9a-f]{8}) (\{.*\})\n", re.DOTALL)


@dataclass(frozen=True)
class Exchange:
    """What was asked and what came back."""

    endpoint: str
    """Identity of the endpoint."""
    payload: Mapping[str, Any]
    """The body that went over the wire."""
    sample: int
    reply: Mapping[str, Any]
    """The chat completion as it came."""
    seconds: float
    """How long the teacher took."""
    written_at: str = ""
    """Time of storing, UTC, ISO 8601; empty until then."""

    @property
    def key(self) -> str:
        """Where it is stored."""
        return key_of(self.endpoint, self.payload, self.sample)


def key_of(identity: str, payload: Mapping[str, Any], sample: int) -> str:
    """Return the key of a reply. Key order counts: a grammar writes properties in the order of the schema."""
    parts = {"endpoint": identity, "payload": payload, "sample": sample}
    text = json.dumps(parts, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def line_of(key: str, exchange: Exchange) -> bytes:
    """Write an exchange as a line."""
    # Not `asdict`, which copies every log-probability.
    content = {
        "endpoint": exchange.endpoint,
        "payload": exchange.payload,
        "sample": exchange.sample,
        "reply": exchange.reply,
        "seconds": round(exchange.seconds, 3),
        "written_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    try:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half an emoji
        text = json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode()
    return b"%s %08x %s\n" % (key.encode(), _checksum(key.encode(), text), text)


def _checksum(key: bytes, text: bytes) -> int:
    return zlib.crc32(key, zlib.crc32(text))


def is_whole(line: re.Match[bytes]) -> bool:
    """Return whether a line is as it was written, its key included."""
    noted = int(line[2], 16)
    if noted == _checksum(line[1], line[3]):
        return True
    if noted != zlib.crc32(line[3]):
        return False
    # Until November 2026 the checksum did not cover the key: it follows from the rest.
    exchange = parse(line)
    try:
        return exchange is not None and exchange.key.encode() == line[1]
    except ValueError:
        return False


_FIELDS = frozenset(field.name for field in fields(Exchange))


def parse(line: re.Match[bytes]) -> Exchange | None:
    """Read what a line holds; a newer version may know more of it."""
    try:
        return Exchange(**{name: value for name, value in json.loads(line[3]).items() if name in _FIELDS})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
