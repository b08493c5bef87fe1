"""The data files of a task folder: JSON Lines in UTF-8, one row a line.

    {"text": "where is my parcel", "label": "order_status"}

Keys other than `text` and `label` are ignored, and so is `label` where rows need none (the pool): it is dropped. A byte
order mark, CRLF line ends and blank lines are accepted. Files are streamed; every complaint names its line.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from factory.errors import Problem, SpecError
from factory.events import Progressed, emit
from factory.records import Origin, Rows, TextRow, all_kept, text_dataset
from factory.spec import Model
from factory.spec_errors import listed, nearest, shown, suggestion
from factory.store import Stage

if TYPE_CHECKING:
    from datasets import Dataset

MAX_CHARS = 100_000
"""Longest text of a row."""
MAX_LINE_BYTES = 4_000_000
"""A text of `MAX_CHARS` in its longest JSON spelling, and room for other keys."""
MAX_PROBLEMS = 20
"""Problems listed for one file; the rest are counted."""
_CHUNK = 10_000


@dataclass(frozen=True)
class DataFile:
    """A data file as a resource of a stage: it is what is in it, not where it lies."""

    path: Path

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the content."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise SpecError([unreadable(self.path, error)]) from error


class ReadParams(Model):
    """How to read a data file."""

    origin: Origin
    labels: tuple[str, ...]
    """The labels a row may have, in spec order."""
    needs_label: bool
    """False for the pool, whose rows lose a label they may have."""


@dataclass(frozen=True)
class Survey:
    """What was found in a data file."""

    problems: tuple[Problem, ...]
    n_rows: int
    """Rows without a problem."""
    n_by_label: Counter[str]
    n_repeated: int
    """Rows whose text came before, with the same label; 0 when repetition was not looked for."""
    warnings: tuple[str, ...] = ()
    """What a person should know and may ignore."""


def read(params: ReadParams, *, file: DataFile) -> Rows:
    """Read a data file as rows, all of them kept."""
    labels = params.labels if params.needs_label else None
    return all_kept(read_rows(file.path, labels=labels, origin=params.origin))


READ = Stage("read", 2, ReadParams, read, Rows)


def read_rows(path: Path, *, labels: Sequence[str] | None, origin: Origin) -> "Dataset":
    """Read a JSONL file of text rows.

    Args:
        path: The file.
        labels: The labels a row may have, or None for rows that need none.
        origin: Who made the rows.

    Returns:
        The rows in file order, with null labels when `labels` is None.

    Raises:
        SpecError: The file cannot be read or has a wrong row; holds the first `MAX_PROBLEMS` problems.
    """
    from datasets import concatenate_datasets

    findings = Findings(path)
    chunks: list[Dataset] = []
    rows: list[TextRow] = []
    for _, text, label in _scan(path, labels, findings):
        rows.append(TextRow(text, label, origin))
        if len(rows) == _CHUNK:
            chunks.append(text_dataset(rows))
            rows = []
            emit(Progressed("read", done=len(chunks) * _CHUNK, total=0, unit="rows", note=path.name))
    problems = findings.problems()
    if problems:
        raise SpecError(problems)
    return concatenate_datasets([*chunks, text_dataset(rows)])


def survey(path: Path, *, labels: Sequence[str] | None, contradictions: bool = False) -> Survey:
    """Look through a JSONL file of text rows without keeping them.

    Args:
        path: The file.
        labels: The labels a row may have, or None for rows that need none.
        contradictions: Also look for texts that come again, which costs memory for every row;
            a text that comes again with another label is a problem.

    Returns:
        Problems and counts.
    """
    findings = Findings(path)
    n_rows = n_repeated = 0
    n_by_label: Counter[str] = Counter()
    first: dict[bytes, tuple[int, str | None]] = {}
    for line, text, label in _scan(path, labels, findings):
        n_rows += 1
        if label is not None:
            n_by_label[label] += 1
        if contradictions:
            line_before, label_before = first.setdefault(hashlib.sha256(text.encode()).digest()[:16], (line, label))
            n_repeated += line_before != line and label_before == label
            if label_before != label:
                findings.add(line, f"labelled {label!r}, but the same text in line {line_before} is {label_before!r}")
        if n_rows % _CHUNK == 0:
            emit(Progressed("check", done=n_rows, total=0, unit="rows", note=path.name))
    return Survey(tuple(findings.problems()), n_rows, n_by_label, n_repeated)


@dataclass
class Findings:
    """Collects the problems of one file, never more than a person wants to read."""

    path: Path
    """The file."""
    listed: list[Problem] = field(default_factory=list)
    n_unlisted: int = 0
    unknown: dict[str, list[int]] = field(default_factory=dict)
    """For each label the spec lacks: how many rows, first line."""
    known: Sequence[str] = ()

    def add(self, line: int | None, message: str, key: str = "") -> None:
        """Note a problem of a line, and of what in it."""
        if len(self.listed) < MAX_PROBLEMS:
            self.listed.append(Problem(self.path, line, key, message))
        else:
            self.n_unlisted += 1

    def add_unknown(self, line: int, label: str) -> None:
        """Note a row whose label the spec lacks."""
        # A file whose labels are all different must not fill the memory.
        if label in self.unknown or len(self.unknown) < MAX_PROBLEMS:
            self.unknown.setdefault(label, [0, line])[0] += 1
        else:
            self.n_unlisted += 1

    def problems(self) -> list[Problem]:
        """Return the first problems in order of line, and how many more there are."""
        found = list(self.listed)
        for label, (n_rows, line) in self.unknown.items():
            rows = "1 row has" if n_rows == 1 else f"{n_rows:,} rows have"
            what = f"{rows} {shown(label)} (first at line {line}), not in the spec ({listed(self.known)})"
            found.append(Problem(self.path, line, "label", what + suggestion(label, self.known)))
        found.sort(key=lambda problem: problem.line or 0)
        n_more = self.n_unlisted + max(0, len(found) - MAX_PROBLEMS)
        del found[MAX_PROBLEMS:]
        if n_more:
            found.append(Problem(self.path, None, "", f"... and {n_more:,} more"))
        return found


class WrongRow(Exception):
    """A line that is no row; the message says why."""


def _scan(path: Path, labels: Sequence[str] | None, findings: Findings) -> Iterator[tuple[int, str, str | None]]:
    """Yield line number, text and label of every good row; the others go to the findings."""
    findings.known = labels or ()
    known = frozenset(findings.known)
    is_empty = True
    try:
        with path.open("rb") as file:
            for number, raw in numbered_lines(file):
                is_empty = False
                try:
                    row = parse_line(raw)
                    text = text_of(row)
                    label = None if labels is None else label_of(row)
                except WrongRow as error:
                    findings.add(number, str(error))
                    continue
                if label is not None and label not in known:
                    findings.add_unknown(number, label)
                else:
                    yield number, text, label
    except OSError as error:
        findings.listed.append(unreadable(path, error))
    else:
        if is_empty:
            findings.add(None, "the file has no rows")


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, numbered from 1 and cut where they are longer than any row."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        rest = raw
        while not rest.endswith(b"\n") and len(rest) > MAX_LINE_BYTES:
            rest = file.readline(MAX_LINE_BYTES + 1)
        line = (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).rstrip(b"\r\n")
        if line.strip():
            yield number, line


def parse_line(raw: bytes) -> dict[str, Any]:
    """Read one line as a JSON object, or raise `WrongRow`."""
    if len(raw) > MAX_LINE_BYTES:
        raise WrongRow(f"the line is longer than {MAX_LINE_BYTES:,} bytes")
    try:
        row = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_repeats)
    except UnicodeDecodeError as error:
        raise WrongRow(f"not UTF-8: byte 0x{raw[error.start]:02X} at column {error.start + 1:,}") from error
    except json.JSONDecodeError as error:
        raise WrongRow(f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno:,}") from error
    except ValueError as error:  # a number of thousands of digits
        raise WrongRow(f"not JSON that can be read: {error}") from error
    except RecursionError as error:
        raise WrongRow("nested too deeply") from error
    if not isinstance(row, dict):
        raise WrongRow(f'expected an object such as {{"text": "..."}}, got {shown(row)}')
    return row


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise WrongRow(f"key {shown(repeated)} is given twice")
    return row


def text_of(row: dict[str, Any]) -> str:
    """Return the text of a line, or raise `WrongRow`."""
    text = _value_of(row, "text")
    if not isinstance(text, str):
        raise WrongRow(f"`text` must be text, got {shown(text)}")
    if not text.strip():
        raise WrongRow("`text` is empty")
    if len(text) > MAX_CHARS:
        raise WrongRow(f"`text` has {len(text):,} characters, more than {MAX_CHARS:,}")
    if "\0" in text:
        raise WrongRow("`text` holds a NUL character")
    refuse_surrogates(text, "text")
    return text


def label_of(row: dict[str, Any]) -> str:
    """Return the label of a line, or raise `WrongRow`."""
    label = _value_of(row, "label")
    if not isinstance(label, str):
        quoted = f', put it in quotes: "{shown(label)}"' if isinstance(label, bool | int | float) else ""
        raise WrongRow(f"`label` must be text, got {shown(label)}{quoted}")
    if not label.strip():
        raise WrongRow("`label` is empty")
    refuse_surrogates(label, "label")
    return label


def _value_of(row: dict[str, Any], key: str) -> Any:
    if key not in row:
        guess = nearest(key, row)
        raise WrongRow(f"no `{key}`" + (f"; is {shown(guess)} meant?" if guess else ""))
    return row[key]


def refuse_surrogates(text: str, key: str) -> None:
    """Raise `WrongRow` for a text that cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise WrongRow(f"`{key}` holds half of a surrogate pair at character {error.start + 1:,}") from error


def unreadable(path: Path, error: OSError) -> Problem:
    """Say that a file cannot be read."""
    return Problem(
        path, None, "", "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
    )
