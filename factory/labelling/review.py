"""What nobody agreed on goes to people as a file, and comes back with labels: pure functions over rows and lines.

The file is CSV or JSONL with `id`, `text`, an empty `label` to fill in, `votes` and `probabilities`. Only `id` and
`label` are read again, and `text` where the id is not known.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.data import WrongRow, numbered_lines, parse_line
from factory.errors import FactoryError, Problem, SpecError
from factory.labelling.aggregate import NO_AGREEMENT
from factory.records import Rows, row_id
from factory.spec_errors import not_among, shown

SUFFIXES = (".csv", ".jsonl")
COLUMNS = ("id", "text", "label", "votes", "probabilities")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run by spreadsheets; an apostrophe in front makes it text."""
MOST_PROBLEMS = 100


@dataclass(frozen=True)
class OpenItem:
    """A row that nobody agreed on."""

    id: str
    text: str
    votes: Mapping[str, str]
    """Labels by voter; silent voters are left out."""
    probabilities: Mapping[str, float]
    """By label."""


@dataclass(frozen=True)
class Labelled:
    """A row with the label a person gave it."""

    text: str
    label: str


@dataclass(frozen=True)
class Returned:
    """What a file brought back."""

    rows: tuple[Labelled, ...]
    n_open: int
    """Rows whose label is still empty."""


def open_items(rows: Rows, labels: Sequence[str]) -> list[OpenItem]:
    """List what the aggregate stage left to people.

    Args:
        rows: The result of the stage.
        labels: Labels in spec order.

    Returns:
        The rows in their order, those nobody was near to agreeing on among the others.
    """
    votes: Mapping[str, Mapping[str, str]] = rows.report["votes"]
    return [
        OpenItem(row["id"], row["text"], votes[row["id"]], dict(zip(labels, row["label_probs"], strict=True)))
        for row in rows.rejected
        if row["reason"] == NO_AGREEMENT
    ]


def write_items(items: Iterable[OpenItem], suffix: str) -> str:
    """Write items as the content of a CSV or JSONL file, `label` empty."""
    if suffix == ".jsonl":
        return "".join(json.dumps(_as_json(item), ensure_ascii=False) + "\n" for item in items)
    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow(COLUMNS)
    for item in items:
        votes = "; ".join(f"{voter}: {label}" for voter, label in item.votes.items())
        likely = sorted(item.probabilities.items(), key=lambda pair: -pair[1])[:5]
        table.writerow(map(_safe, (item.id, item.text, "", votes, "; ".join(f"{name} {p:.3f}" for name, p in likely))))
    return file.getvalue()


def read_labelled(path: Path, labels: Sequence[str], known: Mapping[str, str]) -> Returned:
    """Read a file that people filled in.

    Args:
        path: CSV (separated by commas, semicolons or tabs) or JSONL.
        labels: Labels in spec order.
        known: Texts of exported rows by id. Of other rows the text in the file counts, if the id is its own.

    Returns:
        The labelled rows.

    Raises:
        SpecError: The file cannot be read or a row is wrong; holds a problem for each wrong row, and nothing counts.
    """
    require_suffix(path)
    problems: list[Problem] = []
    found: dict[str, tuple[int, Labelled]] = {}
    n_open = 0
    for line, row in _rows(path, problems):
        try:
            id_, labelled = _read_row(row, labels, known)
            if labelled is None:
                n_open += 1
                continue
        except WrongRow as error:
            problems.append(Problem(path, line, "", str(error)))
            continue
        first, _ = found.setdefault(id_, (line, labelled))
        if first != line:
            problems.append(Problem(path, line, "", f"row {id_} is given twice, first in line {first}"))
    if problems:
        n_more = len(problems) - MOST_PROBLEMS
        more = [Problem(path, None, "", f"... and {n_more:,} more")] if n_more > 0 else []
        raise SpecError([*problems[:MOST_PROBLEMS], *more])
    return Returned(tuple(labelled for _, labelled in found.values()), n_open)


def merge(before: Iterable[Labelled], now: Iterable[Labelled]) -> str:
    """Return the content of the file of reviewed rows: of two labels for one text the newer counts."""
    merged = {one.text: one.label for one in (*before, *now)}
    lines = (json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in merged.items())
    return "".join(line + "\n" for line in lines)


def require_suffix(path: Path) -> None:
    """Refuse a file that is neither CSV nor JSONL by its name.

    Args:
        path: The file.

    Raises:
        FactoryError: It is something else.
    """
    if path.suffix not in SUFFIXES:
        raise FactoryError(f"{path}: expected a file called .csv or .jsonl", hint="the name decides the format")


def _as_json(item: OpenItem) -> dict[str, Any]:
    probabilities = {label: round(probability, 6) for label, probability in item.probabilities.items()}
    return {"id": item.id, "text": item.text, "label": None, "votes": item.votes, "probabilities": probabilities}


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _read_row(row: Mapping[str, Any], labels: Sequence[str], known: Mapping[str, str]) -> tuple[str, Labelled | None]:
    """Return id and what a person said; None for an empty label."""
    for key in ("id", "label"):
        if key not in row:
            raise WrongRow(f"no `{key}`")
    id_, label = row["id"], row["label"]
    if not isinstance(id_, str) or not id_.strip():
        raise WrongRow(f"`id` must be the id of an exported row, got {shown(id_)}")
    id_ = id_.strip()
    if label is None or (isinstance(label, str) and not label.strip()):
        return id_, None
    if not isinstance(label, str) or label.strip() not in labels:
        wrong = label.strip() if isinstance(label, str) else ""
        raise WrongRow(f"label {shown(label)} is {not_among(wrong, labels)}")
    text = known.get(id_) or row.get("text")
    if isinstance(text, str) and row_id(text) != id_ and text.startswith("'"):
        text = text[1:]  # put there for spreadsheets
    if not isinstance(text, str) or row_id(text) != id_:
        raise WrongRow(f"no exported row has the id {shown(id_)}, and it is not that of the text in this line")
    return id_, Labelled(text, label.strip())


def _rows(path: Path, problems: list[Problem]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield line and cells of each row; what is no row goes to the problems."""
    try:
        if path.suffix == ".csv":
            yield from _csv_rows(path, problems)
            return
        with path.open("rb") as file:
            for line, raw in numbered_lines(file):
                try:
                    yield line, parse_line(raw)
                except WrongRow as error:
                    problems.append(Problem(path, line, "", str(error)))
    except UnicodeDecodeError as error:
        problems.append(Problem(path, None, "", f"not UTF-8: byte 0x{error.object[error.start]:02X}; save it as UTF-8"))
    except csv.Error as error:
        problems.append(Problem(path, None, "", f"not CSV: {error}"))
    except OSError as error:
        problems.append(Problem(path, None, "", f"cannot be read: {error.strerror or error}"))


def _csv_rows(path: Path, problems: list[Problem]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    content = path.read_text(encoding="utf-8-sig")
    head = content.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    table = csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True)
    columns = next(table, [])
    missing = [key for key in ("id", "label") if key not in columns]
    if missing:
        message = f"no column {' and no column '.join(missing)}; the first line must name the columns"
        problems.append(Problem(path, 1, "", message))
        return
    line = table.line_num + 1
    for cells in table:
        if len(cells) == len(columns):
            yield line, dict(zip(columns, cells, strict=True))
        elif cells:
            problems.append(Problem(path, line, "", f"expected {len(columns)} cells, got {len(cells)}"))
        line = table.line_num + 1
