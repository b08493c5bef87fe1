"""Fingerprints: the one written form of a value, its hash, and where two such values differ."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True)
class Key:
    """The fingerprint of a stage run and the parts it was made from."""

    fingerprint: str
    parts: dict[str, Any]


def plain(value: object, where: str = "params") -> Any:
    """Turn a value into JSON-ready data, or refuse it.

    Args:
        value: A parameter; the order of a mapping is kept, because prompts list labels in spec order.
        where: Dotted path of the value, for the message.

    Returns:
        The same value in dicts, lists, text, numbers, booleans and None.

    Raises:
        TypeError: The value has no stable written form.
    """
    if isinstance(value, Enum):
        return plain(value.value, where)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise TypeError(f"{where}: cannot fingerprint {value}")
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name), f"{where}.{name}") for name in type(value).model_fields}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{where}: cannot fingerprint a mapping whose keys are not text")
        return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(f"{where}: cannot fingerprint a {type(value).__name__}")


def hash_value(value: object) -> str:
    """Return the SHA-256 of a plain value, as hex; the order of keys counts."""
    return hashlib.sha256(_dump(value).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of the bytes of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(old: object, new: object, where: str = "") -> list[str]:
    """Return the dotted paths at which two JSON values differ; a change of key order is one too."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = [
            path
            for name in dict.fromkeys([*old, *new])
            for path in differences(old.get(name), new.get(name), f"{where}.{name}" if where else str(name))
        ]
        return found if found or list(old) == list(new) else [f"order of {where}"]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            path
            for index, (a, b) in enumerate(zip(old, new, strict=True))
            for path in differences(a, b, f"{where}[{index}]")
        ]
    return [] if _dump(old) == _dump(new) else [where]


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
