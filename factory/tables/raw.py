"""Files of table rows as chunks of untyped columns, each row with its line: JSON Lines or CSV in UTF-8.

    {"features": {"age": 35, "job": "technician"}, "target": "yes"}
    {"age": 35, "job": "technician", "subscribed": "yes"}

A CSV file has the column names in its first line; its cells are parted by commas, semicolons or tabs.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from factory.data import Findings, WrongRow, numbered_lines, parse_line
from factory.spec_errors import listed, nearest, shown

if TYPE_CHECKING:
    import pyarrow

CHUNK_ROWS = 20_000
PLAIN_ROWS = 100_000
NOT_PLAIN = (b'"', b"\0", b"\n\n", b"\n\r\n")
"""Quotes and blank lines make a row something else than a line."""
MOST_PLAIN_BYTES = 1_500_000_000
"""Of a file that is in memory as a whole; larger ones are read row by row."""
SEPARATORS = ",;\t"
MOST_CELL_BYTES = 1_000_000


@dataclass(frozen=True)
class Names:
    """What the columns of a file are called."""

    columns: tuple[str, ...]
    """Read, in the order of the spec."""
    target: str
    needs_target: bool
    left_out: frozenset[str]
    """Known, and skipped."""


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file."""

    lines: Sequence[int]
    columns: "Mapping[str, Sequence[Any] | pyarrow.Array]"
    """Untyped cells, each as long as `lines`; of a plain CSV file Arrow texts."""
    target: "Sequence[Any] | pyarrow.Array"
    """Empty when the target is not needed."""


def read_chunks(path: Path, names: Names, findings: Findings) -> Iterator[Chunk]:
    """Yield the rows of a file, `.csv` or else JSON Lines; what is no row goes to the findings."""
    plain = read_plain_csv(path, names) if path.suffix.lower() in (".csv", ".tsv") else None
    if plain is not None:
        for start in range(0, len(plain), PLAIN_ROWS):
            some = plain.slice(start, PLAIN_ROWS)
            columns = {name: some.column(name).combine_chunks() for name in names.columns}
            target = some.column(names.target).combine_chunks() if names.needs_target else []
            yield Chunk(range(start + 2, start + 2 + len(some)), columns, target)
        return
    found = (
        _csv_rows(path, names, findings)
        if path.suffix.lower() in (".csv", ".tsv")
        else _json_rows(path, names, findings)
    )
    lines: list[int] = []
    rows: list[Sequence[Any]] = []
    for line, cells in found:
        lines.append(line)
        rows.append(cells)
        if len(rows) == CHUNK_ROWS:
            yield _chunk(names, lines, rows)
            lines, rows = [], []
    if rows:
        yield _chunk(names, lines, rows)


def read_plain_csv(path: Path, names: Names) -> "pyarrow.Table | None":
    """Read a CSV file without quotes, blank lines or any complaint at once; None where a closer look is needed.

    Args:
        path: The file.
        names: The columns it should have.

    Returns:
        All columns as texts, row n from line n + 2: every cell is what stands between two separators.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow

    if path.stat().st_size > MOST_PLAIN_BYTES:
        return None
    content = path.read_bytes()
    first, _, rest = content.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    if not rest or any(mark in content for mark in NOT_PLAIN) or content.count(b"\r") != content.count(b"\r\n"):
        return None
    try:
        line = first.decode("utf-8").rstrip("\r")
    except UnicodeDecodeError:
        return None
    separator = max(SEPARATORS, key=line.count)
    header = [name.strip() for name in line.split(separator)]
    findings = Findings(path)
    if _header(header, names, findings) is None:
        return None
    try:
        found = arrow.read_csv(
            pa.BufferReader(content),
            read_options=arrow.ReadOptions(column_names=header, skip_rows=1),
            parse_options=arrow.ParseOptions(delimiter=separator, quote_char=False, ignore_empty_lines=False),
            convert_options=arrow.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False, check_utf8=True
            ),
        )
    except pa.ArrowInvalid:  # a row of another length, a blank line, no UTF-8: who reads it line by line says where
        return None
    return found if len(found) == rest.count(b"\n") + (not rest.endswith(b"\n")) else None


def _chunk(names: Names, lines: list[int], rows: list[Sequence[Any]]) -> Chunk:
    columns = [list(column) for column in zip(*rows, strict=True)]
    n_columns = len(names.columns)
    target = columns[n_columns] if names.needs_target else []
    return Chunk(lines, dict(zip(names.columns, columns, strict=False)), target)


def _json_rows(path: Path, names: Names, findings: Findings) -> Iterator[tuple[int, list[Any]]]:
    with path.open("rb") as file:
        for number, raw in numbered_lines(file):
            try:
                yield number, _json_cells(parse_line(raw), names)
            except WrongRow as error:
                findings.add(number, str(error))


def _json_cells(row: dict[str, Any], names: Names) -> list[Any]:
    """Return the cells of a row, in both forms, and the target last."""
    is_nested = isinstance(row.get("features"), dict) and "features" not in names.columns
    cells = row["features"] if is_nested else row
    try:
        found = [cells[name] for name in names.columns]
    except KeyError:
        missing = next(name for name in names.columns if name not in cells)
        raise WrongRow(_missing(missing, cells, "key") + "; write null where nothing is known") from None
    known = len(names.columns) + (names.target in cells) + sum(name in cells for name in names.left_out)
    if len(cells) > known:
        raise WrongRow(_strange([name for name in cells if not _is_known(name, names)]))
    if names.needs_target:
        keys = (names.target, "target") if is_nested else (names.target,)
        holder = next((one for one in (cells, row) for key in keys if key in one), None)
        if holder is None:
            raise WrongRow(_missing(names.target, row, "target"))
        found.append(next(holder[key] for key in keys if key in holder))
    return found


def _is_known(name: str, names: Names) -> bool:
    return name in names.columns or name == names.target or name in names.left_out


def _missing(name: str, given: Any, what: str) -> str:
    guess = nearest(name, given)
    return f"no {what} {shown(name)}" + (f"; is {shown(guess)} meant?" if guess else "")


def _strange(names: list[str]) -> str:
    more = "describe it under `columns` or name it under `leave_out`"
    return f"{listed([shown(name) for name in names])} is not in the spec: {more}"


def _csv_rows(path: Path, names: Names, findings: Findings) -> Iterator[tuple[int, list[Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            yield from _csv_lines(file, names, findings)
        except UnicodeDecodeError as error:
            findings.add(None, f"not UTF-8: byte 0x{error.object[error.start]:02X}; save the file as UTF-8")


def _csv_lines(file: TextIO, names: Names, findings: Findings) -> Iterator[tuple[int, list[Any]]]:
    csv.field_size_limit(MOST_CELL_BYTES)
    first = file.readline()
    separator = max(SEPARATORS, key=first.count)
    file.seek(0)
    # A byte order mark is skipped only at the very start.
    reader = csv.reader((line.removeprefix("\ufeff") for line in file), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        positions = _header(header, names, findings)
        before = reader.line_num
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                continue
            if len(cells) != len(header):
                findings.add(line, f"expected {len(header)} cells as in the first line, got {len(cells)}")
            elif positions is not None:
                yield line, [cells[position] for position in positions]
    except csv.Error as error:
        findings.add(reader.line_num, f"not CSV: {error}")


def _header(header: list[str], names: Names, findings: Findings) -> list[int] | None:
    """Return where the columns are, the target last; None when the first line does not name them all once."""
    wanted = [*names.columns, names.target] if names.needs_target else list(names.columns)
    wrong = [f"column {shown(name)} is given {n} times" for name, n in Counter(header).items() if n > 1 and name]
    wrong += [f"{_missing(name, header, 'column')}" for name in wanted if name not in header]
    strange = [name for name in header if name and not _is_known(name, names)]
    wrong += [_strange(strange)] if strange else []
    unnamed = [str(position) for position, name in enumerate(header, start=1) if not name]
    wrong += [f"cell {', '.join(unnamed)} of the first line is empty: every column needs a name"] if unnamed else []
    for message in wrong:
        findings.add(1, message)
    return None if wrong else [header.index(name) for name in wanted]
