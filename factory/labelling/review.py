"""Rows for people as a file, and what they said back: pure functions over rows and lines.

CSV and JSONL have `id`, `text`, an empty `label` to fill in, `suggestion`, `votes` and `probabilities`. Only `id` and
`label` are read again, `text` where the id is not known, and, if somebody filled them in, `reject` and `edit`.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from factory.data import WrongRow, numbered_lines, parse_line
from factory.errors import FactoryError, Problem
from factory.labelling.review_json import argilla_records, label_studio_tasks, read_json
from factory.labelling.review_opinions import Known, Opinion, Returned, decide
from factory.labelling.review_rows import ReviewRow
from factory.spec_errors import shown

COLUMNS = ("id", "text", "label", "reject", "edit", "suggestion", "votes", "probabilities")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run by spreadsheets; an apostrophe in front makes it text."""
YES = ("x", "yes", "true", "1", "reject")


class Format(StrEnum):
    """What a file of rows is for."""

    CSV = "csv"
    JSONL = "jsonl"
    ARGILLA = "argilla"
    LABEL_STUDIO = "label-studio"


SUFFIXES: Mapping[str, tuple[Format, ...]] = {
    ".csv": (Format.CSV,),
    ".jsonl": (Format.JSONL,),
    ".json": (Format.ARGILLA, Format.LABEL_STUDIO),
}


def write_rows(rows: Sequence[ReviewRow], wanted: Format) -> str:
    """Write rows as the content of a file, with nothing said about them."""
    if wanted is Format.ARGILLA:
        return argilla_records(rows)
    if wanted is Format.LABEL_STUDIO:
        return label_studio_tasks(rows)
    if wanted is Format.JSONL:
        return "".join(json.dumps(_as_json(row), ensure_ascii=False) + "\n" for row in rows)
    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow(COLUMNS)
    for row in rows:
        votes = "; ".join(f"{voter}: {label}" for voter, label in row.votes.items())
        likely = sorted(row.probabilities.items(), key=lambda pair: -pair[1])[:5]
        probabilities = "; ".join(f"{name} {p:.3f}" for name, p in likely)
        cells = (row.id, row.text, "", "", "", row.label or "", votes, probabilities)
        table.writerow(map(_safe, cells))
    return file.getvalue()


def read_returned(path: Path, known: Known, *, by: str = "", told: Format | None = None) -> Returned:
    """Read a file that people filled in.

    Args:
        path: CSV (separated by commas, semicolons or tabs), JSONL, or the JSON of Argilla or Label Studio.
        known: Labels and rows.
        by: Whose opinions they are, where the file does not say.
        told: The format; default: what the name and the content say.

    Returns:
        Decisions.

    Raises:
        SpecError: The file cannot be read or a row is wrong; holds a problem for each wrong row, and nothing counts.
        FactoryError: The format cannot be told from the name.
    """
    format_ = told or formats_of(path)[0]
    problems: list[Problem] = []
    if format_ in (Format.ARGILLA, Format.LABEL_STUDIO):
        opinions = [*read_json(path, problems)]
    else:
        opinions = [*_opinions(path, format_, problems)]
    return decide(path, opinions, known, by=by, problems=problems)


def formats_of(path: Path) -> tuple[Format, ...]:
    """Return the formats a file may have by its name.

    Args:
        path: The file.

    Returns:
        One or more.

    Raises:
        FactoryError: None is known by this name.
    """
    if path.suffix not in SUFFIXES:
        raise FactoryError(
            f"{path}: expected a file called .csv, .jsonl or .json",
            hint="the name decides the format, unless --format does",
        )
    return SUFFIXES[path.suffix]


def _as_json(row: ReviewRow) -> dict[str, Any]:
    probabilities = {label: round(probability, 6) for label, probability in row.probabilities.items()}
    said = {"id": row.id, "text": row.text, "label": None, "suggestion": row.label}
    return {**said, "votes": dict(row.votes), "probabilities": probabilities}


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _opinions(path: Path, format_: Format, problems: list[Problem]) -> Iterator[Opinion]:
    for line, row in _rows(path, format_, problems):
        try:
            yield _read_row(line, row, format_)
        except WrongRow as error:
            problems.append(Problem(path, line, "", str(error)))


def _read_row(line: int, row: Mapping[str, Any], format_: Format) -> Opinion:
    for key in ("id", "label"):
        if key not in row:
            raise WrongRow(f"no `{key}`")
    id_, label, reject, text = row["id"], row["label"], row.get("reject"), row.get("text")
    if not isinstance(id_, str) or not id_.strip():
        raise WrongRow(f"`id` must be the id of an exported row, got {shown(id_)}")
    if label is not None and not isinstance(label, str):
        raise WrongRow(f"`label` must be text, got {shown(label)}")
    is_rejected = reject is True or (isinstance(reject, str) and reject.strip().lower() in YES)
    if not is_rejected and reject not in (None, False) and str(reject).strip():
        raise WrongRow(f"`reject` must be x or empty, got {shown(reject)}")
    edit = _filled(row, "edit")
    if edit is not None and format_ is Format.CSV and edit.startswith("'") and edit[1:].startswith(FORMULA):
        edit = edit[1:]
    return Opinion(
        line,
        id_.strip(),
        text if isinstance(text, str) else None,
        _plain(label) or None,
        is_rejected,
        edit,
        _filled(row, "by") or "",
    )


def _filled(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise WrongRow(f"`{key}` must be text, got {shown(value)}")
    return value if value and value.strip() else None


def _plain(label: str | None) -> str:
    """Return a label without what stands before it for spreadsheets."""
    label = (label or "").strip()
    return label[1:] if label.startswith("'") and label[1:].startswith(FORMULA) else label


def _rows(path: Path, format_: Format, problems: list[Problem]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield line and cells of each row; what is no row goes to the problems."""
    try:
        if format_ is Format.CSV:
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
    repeated = [key for key in (*COLUMNS, "by") if columns.count(key) > 1]
    if repeated:
        message = f"two columns are called {' and two '.join(repeated)}; which of them counts cannot be told: leave one"
        problems.append(Problem(path, 1, "", message))
        return
    line = table.line_num + 1
    for cells in table:
        if len(cells) == len(columns):
            yield line, dict(zip(columns, cells, strict=True))
        elif cells:
            problems.append(Problem(path, line, "", f"expected {len(columns)} cells, got {len(cells)}"))
        line = table.line_num + 1
