"""Reading parts of a spec that may be wrong elsewhere: what is wrong with them is said by others."""

import json
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from factory.spec import Plugin
from factory.spec_source import KeyPath, Source

T = TypeVar("T")


def plugins_in(source: Source, section: KeyPath) -> list[tuple[KeyPath, Plugin]]:
    """Return the well-formed plugins of a list, or the one that stands alone; others have been complained about."""
    entries = value_at(source, section)
    if isinstance(entries, str | dict):
        alone = read_section(source, section, Plugin)
        return [] if alone is None else [(section, alone)]
    paths: Iterator[KeyPath] = ((*section, index) for index in range(len(entries) if isinstance(entries, list) else 0))
    found = ((path, read_section(source, path, Plugin)) for path in paths)
    return [(path, plugin) for path, plugin in found if plugin is not None]


def read_section(source: Source, path: KeyPath, kind: type[T]) -> T | None:
    """Return a part of the spec even when other parts are wrong, or None when this part is."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value_at(source, path)), strict=True)
    except ValidationError:
        return None


def value_at(source: Source, path: KeyPath) -> Any:
    """Return what stands somewhere in a spec; None where nothing does."""
    value: Any = source.data
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value
