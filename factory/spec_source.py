"""A YAML file as plain data in which every value still knows its line.

A strict subset, read as editors read it (YAML 1.2 core schema): `yes`, `no`, `on`, `off` and dates are text; only
`true`, `false`, `null` and numbers are not. Anchors, tags and repeated keys are refused.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

import yaml

from factory.errors import Problem, SpecError

MAX_BYTES = 1_000_000
"""A spec of 300 labels has a thirtieth of this."""
MAX_DEPTH = 20
MAX_VALUES = 50_000
"""Keys and values; PyYAML reads about 30,000 of them a second."""
MAX_PROBLEMS = 50
"""Problems listed for one spec; the rest are counted."""

KeyPath = tuple[str | int, ...]

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,400}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Source:
    """What a YAML file says, and where."""

    file: Path
    data: dict[str, Any]
    lines: Mapping[KeyPath, int]
    """Line of each key path, counted from 1; a list entry has its index as key."""

    def problem(self, path: KeyPath, message: str) -> Problem:
        """Say that something is wrong at a key path, or at its nearest ancestor that the file has."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        return Problem(self.file, self.lines.get(known), dotted(path), message)

    def existing(self, path: KeyPath) -> KeyPath:
        """Shorten a key path to the part that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return path


def first_of(problems: Sequence[Problem], n_all: int, file: Path) -> list[Problem]:
    """List no more problems than a person reads, and say how many there are."""
    if n_all <= MAX_PROBLEMS:
        return list(problems)
    return [*problems[:MAX_PROBLEMS], Problem(file, None, "", f"... and {n_all - MAX_PROBLEMS:,} more")]


def dotted(path: KeyPath) -> str:
    """Write a key path as a person would: `labels[3].name`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{_printable(key)}" for key in path).removeprefix(".")


def _printable(key: str) -> str:
    key = key if len(key) <= 60 else f"{key[:60]}..."
    return key if key.isprintable() else repr(key)


def read_source(file: Path) -> Source:
    """Read a YAML mapping.

    Args:
        file: A YAML file of at most `MAX_BYTES`.

    Returns:
        Its data, with lines.

    Raises:
        SpecError: The file cannot be read, is no YAML, or uses what is refused here.
    """
    text = _read_text(file)
    try:
        root = _compose(text)
    except yaml.reader.ReaderError as error:
        message = f"a character that YAML does not allow: U+{error.character:04X}"
        raise SpecError([Problem(file, text.count("\n", 0, error.position) + 1, "", message)]) from error
    except _Refused as error:
        raise SpecError([Problem(file, error.line, "", str(error))]) from error
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise SpecError([Problem(file, line, "", _in_our_words(error))]) from error
    except (ValueError, OverflowError) as error:  # PyYAML's own: "\UFFFFFFFF" is no character
        raise SpecError([Problem(file, None, "", f"not valid YAML: {error}")]) from error
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
        message = "the file is empty; a spec needs name, kind, description and labels"
        raise SpecError([Problem(file, 1, "", message)])
    if not isinstance(root, yaml.MappingNode):
        got = "a list" if isinstance(root, yaml.SequenceNode) else "plain text"
        message = f"expected `key: value` lines at the top, got {got}"
        raise SpecError([Problem(file, root.start_mark.line + 1, "", message)])
    reader = _Reader(file)
    data = reader.value_of(root, ())
    if reader.problems:
        raise SpecError(first_of(reader.problems, len(reader.problems), file))
    return Source(file, data, reader.lines)


def _read_text(file: Path) -> str:
    try:
        status = file.stat()
        if S_ISDIR(status.st_mode):
            raise SpecError([Problem(file, None, "", "expected a file, got a folder")])
        if not S_ISREG(status.st_mode):  # a pipe would wait for ever
            raise SpecError([Problem(file, None, "", "not a regular file")])
        if status.st_size > MAX_BYTES:
            message = f"the file has {status.st_size:,} bytes, more than a spec may have ({MAX_BYTES:,})"
            raise SpecError([Problem(file, None, "", message)])
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise SpecError([Problem(file, None, "", "no such file")]) from error
    except (OSError, ValueError) as error:
        raise SpecError([Problem(file, None, "", f"cannot be read: {error}")]) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # `start` does not count a byte order mark, `object` is what was decoded.
        offset = error.start + len(content) - len(error.object)
        line = content.count(b"\n", 0, offset) + 1
        message = f"not UTF-8: byte 0x{content[offset]:02X} at offset {offset:,}; save the file as UTF-8"
        raise SpecError([Problem(file, line, "", message)]) from error


class _Refused(Exception):
    """Fine YAML that has no place in a spec."""

    def __init__(self, message: str, event: yaml.Event) -> None:
        super().__init__(message)
        self.line = event.start_mark.line + 1 if event.start_mark else None


class _Loader(yaml.SafeLoader):
    """Composes nodes, never objects; refuses what makes a small file large or a person guess."""

    depth = 0
    n_values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused(f"anchors and aliases (`{event.anchor[:20]}`) are not allowed", event)
        if getattr(event, "tag", None) is not None:
            raise _Refused(f"tags (`{event.tag[:60]}`) are not allowed: write the value alone", event)
        if self.depth == MAX_DEPTH:
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels", event)
        if self.n_values == MAX_VALUES:
            raise _Refused(f"more than {MAX_VALUES:,} keys and values", event)
        self.n_values += 1
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        if not loader.check_node():
            return None
        root = loader.get_node()
        if loader.check_node():
            raise _Refused("a second document starts here (`---`): a spec is one", loader.peek_event())  # type: ignore[no-untyped-call]
        return root
    finally:
        loader.dispose()


def _in_our_words(error: yaml.MarkedYAMLError) -> str:
    problem = (error.problem or "syntax error")[:200]
    if "'\\t'" in problem:
        return "a tab is used for indentation; YAML takes spaces only"
    if "mapping values are not allowed" in problem:
        return "a second `: ` in one line; put text that contains `: ` in quotes"
    return f"not valid YAML: {f'{error.context}, ' if error.context else ''}{problem}"


class _Reader:
    """Turns nodes into plain data; collects lines and problems on the way."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []

    def value_of(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)  # a key's line wins over its value's
        if isinstance(node, yaml.MappingNode):
            return {key: self.value_of(value, (*path, key)) for key, value in self._entries(node, path)}
        if isinstance(node, yaml.SequenceNode):
            return [self.value_of(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return _scalar(node)
        except ValueError as error:
            self._complain(node, path, str(error))

    def _entries(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, yaml.Node]]:
        """Yield the entries whose keys are text and new."""
        for key_node, value_node in node.value:
            try:
                key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            except ValueError:
                key = None
            if not isinstance(key, str):
                self._complain(key_node, path, "a key must be plain text")
            elif (*path, key) in self.lines:
                self._complain(key_node, (*path, key), f"given twice, first in line {self.lines[*path, key]}")
            else:
                self.lines[*path, key] = key_node.start_mark.line + 1
                yield key, value_node

    def _complain(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(self.file, node.start_mark.line + 1, dotted(path), message))


def _scalar(node: yaml.Node) -> str | int | float | bool | None:
    """Read a scalar by the YAML 1.2 core schema; quoted and block scalars are text."""
    text: str = node.value
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds a NUL or half of a surrogate pair, which is not text")
    if getattr(node, "style", None) is not None:
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text[:20]} is too large a number")
        return number
    return text
