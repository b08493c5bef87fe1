"""Why a reply was not found: the stored exchange that is nearest to what was asked, and where the two differ."""

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.teacher.replies import Exchange

PARTS = (
    "endpoint", "model", "system message", "messages before the last", "last message", "schema", "max_tokens",
    "temperature", "top_p", "seed", "log-probabilities", "other settings", "order of the settings",
)  # fmt: skip
"""What a key is made of, as a person would name it."""
MESSAGES = ("system message", "messages before the last", "last message")
WORD_COLUMNS = 64
TIES_COMPARED = 2000
"""The newest, word by word."""
CONTEXT_CHARS = 24
EXCERPT_CHARS = 72

_SETTINGS = {
    "model": "model",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "response_format": "schema",
    "logprobs": "log-probabilities",
    "top_logprobs": "log-probabilities",
}


@dataclass(frozen=True)
class Change:
    """One part in which two exchanges differ, with the place where they part."""

    part: str
    before: str
    after: str


@dataclass(frozen=True)
class Difference:
    """The stored exchange that shares most parts with what was asked."""

    nearest: str
    """Its key."""
    changes: tuple[Change, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that differ."""
        return tuple(change.part for change in self.changes)


class Nearest:
    """Stored exchanges, as a matrix of hashes of their parts: 10,000 of them are compared in a millisecond.

    Holds hashes only; the exchange that was found is read again from where it came.
    """

    def __init__(self, exchanges: Iterable[Exchange]) -> None:
        hashes: list[list[int]] = []
        words: list[NDArray[np.int16]] = []
        self._keys: list[str] = []
        for exchange in exchanges:
            parts = parts_of(exchange)
            self._keys.append(exchange.key)
            hashes.append(_hashes(parts))
            words.append(_words(parts))
        self._hashes = np.array(hashes, dtype=np.int64).reshape(len(hashes), len(PARTS))
        self._words = np.array(words, dtype=np.int16).reshape(len(words), WORD_COLUMNS)

    def __len__(self) -> int:
        return len(self._keys)

    def to(self, asked: Exchange) -> str | None:
        """Find the exchange with the most equal parts; of several the one whose messages share most words.

        Args:
            asked: What was looked for.

        Returns:
            Its key, of the newest where that decides nothing; None when there is none.
        """
        if not self._keys:
            return None
        parts = parts_of(asked)
        equal = (self._hashes == np.array(_hashes(parts), dtype=np.int64)).sum(axis=1)
        tied = np.flatnonzero(equal == equal.max())[-TIES_COMPARED:]
        distance = np.abs(self._words[tied] - _words(parts)).sum(axis=1)
        return self._keys[int(tied[len(tied) - 1 - int(distance[::-1].argmin())])]


def difference(stored: Exchange, asked: Exchange) -> Difference:
    """Say in which parts two exchanges differ.

    Args:
        stored: What was found.
        asked: What was looked for.

    Returns:
        The parts in the order of `PARTS`, each with an excerpt of both sides.
    """
    before, after = parts_of(stored), parts_of(asked)
    changes = [Change(part, *_excerpts(before[part], after[part])) for part in PARTS if before[part] != after[part]]
    if len(changes) > 1 and set(stored.payload) != set(asked.payload):
        # A setting that only one of them has was named already.
        changes = [change for change in changes if change.part != "order of the settings"]
    return Difference(stored.key, tuple(changes))


def parts_of(exchange: Exchange) -> dict[str, str]:
    """Take a key apart; texts as they are, everything else as JSON, empty where there is nothing."""
    payload = exchange.payload
    parts = dict.fromkeys(PARTS, "")
    messages = list(payload.get("messages", ()))
    n_system = next((n for n, one in enumerate(messages) if one["role"] != "system"), len(messages))
    parts["endpoint"] = exchange.endpoint
    parts["system message"] = _spoken(messages[:n_system])
    parts["messages before the last"] = _spoken(messages[n_system:-1])
    parts["last message"] = _spoken(messages[n_system:][-1:])
    seeds = {exchange.sample, payload.get("seed", exchange.sample)}
    parts["seed"] = ", ".join(map(str, sorted(seeds, key=str)))
    others: dict[str, Any] = {}
    for name, value in sorted(payload.items()):
        if name in _SETTINGS:
            part = _SETTINGS[name]
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            text = f"{name} {text}" if name == "max_completion_tokens" else text
            parts[part] = f"{parts[part]} {text}".strip()
        elif name not in ("messages", "seed"):
            others[name] = value
    parts["other settings"] = json.dumps(others, ensure_ascii=False) if others else ""
    parts["order of the settings"] = ", ".join(payload)
    return parts


def _spoken(messages: list[dict[str, Any]]) -> str:
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n".join(f"{one['role']}: {one['content']}" for one in messages)


def _hashes(parts: dict[str, str]) -> list[int]:
    return [hash(parts[part]) for part in PARTS]


def _words(parts: dict[str, str]) -> NDArray[np.int16]:
    """Count the words of the messages in a few columns; words that share a column are taken for one."""
    columns = [
        zlib.crc32(word.encode("utf-8", "replace")) % WORD_COLUMNS for part in MESSAGES for word in parts[part].split()
    ]
    return np.bincount(columns, minlength=WORD_COLUMNS).astype(np.int16)


def _excerpts(before: str, after: str) -> tuple[str, str]:
    """Cut two texts down to the place where they part."""
    equal = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
    start = max(0, equal - CONTEXT_CHARS)
    return _cut(before, start), _cut(after, start)


def _cut(text: str, start: int) -> str:
    end = start + EXCERPT_CHARS
    cut = f"{'...' if start else ''}{text[start:end]}{'...' if end < len(text) else ''}"
    return cut.replace("\n", "\\n") or "nothing"
