"""`factory init`: drafts of specs from files, and the address of whatever cannot be understood."""

import csv
import json
import re
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from factory.check import Task, check_task
from factory.cli import app
from factory.commands.init import table_files, write_folder
from factory.errors import FactoryError, SpecError
from factory.labelling.describing import describe_columns
from factory.spec_table import Column
from factory.tables.draft_yaml import sensible_range
from factory.tables.drafting import Draft, draft_table, read_grid
from factory.tables.guessing import Hints
from factory.teacher import ScriptedTeacher

NO_HINTS = Hints()


def write_csv(path: Path, rows: list[list[str]], *, separator: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    return path


def draft_of(file: Path, target: str = "y", hints: Hints = NO_HINTS, sheet: str | None = None) -> Draft:
    return draft_table(read_grid(file, sheet), target, hints)


def checked(draft: Draft, folder: Path) -> Task:
    write_folder(folder, table_files(draft, "drafted", {}))
    return check_task(folder)


def draft_column(
    tmp_path: Path, cells: list[str], name: str = "x", hints: Hints = NO_HINTS
) -> tuple[Column, list[Any]]:
    """Draft a table with one column of interest, check it, and return the column and its cells."""
    rows = [
        [name, "other", "y"],
        *([cell, "ab"[at % 2], "no yes".split()[at % 3 == 0]] for at, cell in enumerate(cells)),
    ]
    draft = draft_of(write_csv(tmp_path / "data.csv", rows), hints=hints)
    spec = checked(draft, tmp_path / "task").spec
    guess = next(guess for guess in (*draft.columns, *draft.left_out_columns) if guess.name == name)
    return next(column for column in spec.columns if column.name == name), list(guess.cells)


@pytest.mark.parametrize(
    ("cells", "kind", "written"),
    [
        (["1", "2", "30", "2"], "integer", [1, 2, 30, 2]),
        (["1.5", "2", "-3e1", "2"], "numeric", [1.5, 2.0, -30.0, 2.0]),
        (["1,234", "1,234,567", "12", "5"], "integer", [1234, 1234567, 12, 5]),
        (["1,234.5", "2,000", "1", "1"], "numeric", [1234.5, 2000.0, 1.0, 1.0]),
        (["1.234,5", "2.000", "1", "1"], "numeric", [1234.5, 2000.0, 1.0, 1.0]),
        (["1,5", "2,25", "1", "1"], "numeric", [1.5, 2.25, 1.0, 1.0]),
        (["1 234", "2\u00a0000", "1", "1"], "integer", [1234, 2000, 1, 1]),
        (["1.234", "0.5", "1", "1"], "numeric", [1.234, 0.5, 1.0, 1.0]),
        (["1.234", "5.678", "9.012", "1.234"], "numeric", [1.234, 5.678, 9.012, 1.234]),
        (["12%", "3.5 %", "1%", "1%"], "numeric", [12.0, 3.5, 1.0, 1.0]),
        (["1", "NA", "?", "-", "n/a", "", "2"], "integer", [1, None, None, None, None, None, 2]),
        (["Yes", "no", "YES", "no"], "boolean", [True, False, True, False]),
        (["0", "1", "1", ""], "boolean", [False, True, True, None]),
        (["2024-12-31", "2024-01-01", "2024-01-01"], "date", ["2024-12-31", "2024-01-01", "2024-01-01"]),
        (["31.12.2024", "1.1.2024", "1.1.2024"], "date", ["2024-12-31", "2024-01-01", "2024-01-01"]),
        (["12/31/2024", "01/02/2024", "01/02/2024"], "date", ["2024-12-31", "2024-01-02", "2024-01-02"]),
        (["31/12/2024", "01/02/2024", "01/02/2024"], "date", ["2024-12-31", "2024-02-01", "2024-02-01"]),
        (["007", "012", "007", "012"], "category", ["007", "012", "007", "012"]),
        (["red", "blue", "red", "NA"], "category", ["red", "blue", "red", "NA"]),
        (["=1+1", "=cmd|' /C calc'!A0", "=1+1", "@x"], "text", ["=1+1", "=cmd|' /C calc'!A0", "=1+1", "@x"]),
        (["2024-02-30", "2024-01-01", "2024-01-01"], "category", ["2024-02-30", "2024-01-01", "2024-01-01"]),
        (["5", "١٢", "5", "5"], "category", ["5", "١٢", "5", "5"]),
    ],
)
def test_a_column_is_what_all_its_cells_are(tmp_path: Path, cells: list[str], kind: str, written: list[Any]) -> None:
    column, found = draft_column(tmp_path, cells)
    assert (column.kind.value, found) == (kind, written)


def test_missing_markers_are_codes_that_a_person_can_take_back(tmp_path: Path) -> None:
    column, _ = draft_column(tmp_path, ["EU", "NA", "EU", "AS", "?", "AS"])
    assert (column.values, column.missing_codes) == (("AS", "EU"), ("?", "NA"))


@pytest.mark.parametrize(
    ("name", "unit"),
    [("amount (EUR)", "EUR"), ("speed [km/h]", "km/h"), ("weight (in kg)", "kg"), ("sold (2020)", ""), ("plain", "")],
)
def test_units_come_from_headers(tmp_path: Path, name: str, unit: str) -> None:
    column, _ = draft_column(tmp_path, ["1", "3", "5", "3"], name)
    assert column.unit == unit


@pytest.mark.parametrize(
    ("cells", "address", "remedy"),
    [
        (["1,234", "5,678", "12"], "data.csv:2: cell 1", "--decimal"),
        (["1,5", "1.5", "1"], "data.csv:3: cell 1", "alike"),
        (["5%", "6", "5%"], "data.csv:3: cell 1", "sign"),
        (["01/02/2024", "01/02/2024", "03/04/2024"], "data.csv:2: cell 1", "--date-order"),
        (["1", "1e999", "1"], "data.csv:3: cell 1", "mend"),
        (["a\0b", "c", "a"], "data.csv:2: cell 1", ""),
    ],
)
def test_what_may_be_two_things_is_refused_with_its_address(
    tmp_path: Path, cells: list[str], address: str, remedy: str
) -> None:
    with pytest.raises(FactoryError, match=re.escape(address)) as refused:
        draft_column(tmp_path, cells)
    assert remedy in refused.value.hint


def test_a_person_can_say_which(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    assert draft_column(tmp_path / "a", ["1,234", "5,678"], hints=Hints(decimal="comma"))[1] == [1.234, 5.678]
    assert draft_column(tmp_path / "b", ["1,234", "5,678"], hints=Hints(decimal="point"))[1] == [1234, 5678]
    dates = draft_column(tmp_path / "c", ["01/02/2024", "01/02/2023"], hints=Hints(date_order="day-first"))
    assert (dates[0].date_order, dates[1]) == ("day-first", ["2024-02-01", "2023-02-01"])


def test_a_column_that_tells_needs_no_person(tmp_path: Path) -> None:
    hints = Hints(decimal="comma", date_order="month-first")
    rows = [["n", "day", "y"], ["1,234.5", "31/12/2024", "a"], ["1", "01/12/2024", "b"]]
    draft = draft_of(write_csv(tmp_path / "data.csv", rows), hints=hints)
    assert [guess.cells for guess in draft.columns] == [(1234.5, 1.0), ("2024-12-31", "2024-12-01")]


def test_a_day_that_is_none_is_named(tmp_path: Path) -> None:
    rows = [["day", "z", "y"], ["2024-01-01", "1", "a"], ["2024-02-30", "2", "b"]]
    assert draft_of(write_csv(tmp_path / "data.csv", rows)).warnings[0].startswith("data.csv:3: cell 1: '2024-02-30'")


def test_large_numbers_are_numbers_and_long_digits_are_codes(tmp_path: Path) -> None:
    rows = [["n", "code", "y"], ["1e18", "9007199254740993", "a"], ["2e18", "9007199254740992", "b"]]
    draft = draft_of(write_csv(tmp_path / "data.csv", rows))
    assert [guess.kind.value for guess in draft.columns] == ["numeric", "category"]


def test_points_are_unclear_where_another_column_has_decimal_commas(tmp_path: Path) -> None:
    rows = [["a", "b", "y"], ["1,5", "1.234", "no"], ["2,5", "5.678", "yes"]]
    with pytest.raises(FactoryError, match=re.escape("data.csv:2: cell 2: '1.234' may be 1234 or 1.234")):
        draft_of(write_csv(tmp_path / "data.csv", rows, separator=";"))


def test_cells_that_spoil_a_column_of_numbers_are_named(tmp_path: Path) -> None:
    rows = [["x", "z", "y"], *([str(n % 7 + 2), "ab"[n % 2], "no yes".split()[n % 3 == 0]] for n in range(30))]
    rows[17][0] = "abc"
    draft = draft_of(write_csv(tmp_path / "data.csv", rows))
    assert "data.csv:18: cell 1: 1 cell is no number among 30, such as 'abc'" in draft.warnings[0]


@pytest.mark.parametrize(
    ("numbers", "bounds"),
    [
        ([250, 18424], (0, 20000)),
        ([1990, 2024], (1990, 2030)),
        ([-0.37, 0.21], (-0.4, 0.3)),
        ([5, 5], (0, 5)),
        ([1e300, -1e300], None),
    ],
)
def test_ranges_are_rounded_outward(numbers: list[float], bounds: tuple[float, float] | None) -> None:
    assert sensible_range(numbers) == bounds


def test_suspicious_columns_are_left_out_with_a_reason(tmp_path: Path) -> None:
    header = ["nr", "code", "same", "empty", "copy", "decided", "honest", "y"]
    rows = [
        [
            str(n + 100),
            f"k{n * 7919}x",
            "A",
            "",
            f"{n % 2}.{n % 9}",
            "paid back" if n % 2 else "default",
            str(n % 5),
            "yn"[n % 2],
        ]
        for n in range(200)
    ]
    draft = draft_of(write_csv(tmp_path / "data.csv", [header, *rows]))
    reasons = draft.left_out
    assert [guess.name for guess in draft.columns] == ["honest"]
    words = {"nr": "running number", "code": "identifier", "same": "always 'A'", "empty": "no row", "copy": "AUC 1.000"}
    assert all(word in reasons[name] for name, word in words.items())
    assert "a leak" in reasons["decided"]
    task = checked(draft, tmp_path / "task")
    assert task.spec.leave_out == ("nr", "code", "same", "empty", "copy", "decided")
    assert "  - code  # an identifier: every row has another value" in (tmp_path / "task/spec.yaml").read_text()


def test_a_number_that_copies_the_number_asked_for_is_a_leak(tmp_path: Path) -> None:
    rows = [["net", "area", "y"], *([str(n * 19.5 + 7), str(n * n % 23), str(n * 20.25)] for n in range(90))]
    draft = draft_of(write_csv(tmp_path / "data.csv", rows))
    assert "R2" in draft.left_out["net"]
    assert checked(draft, tmp_path / "task").spec.kind.value == "tabular-regression"


def test_rows_are_split_and_none_is_lost(tmp_path: Path) -> None:
    rows = [["x", "y"], *([str(n * 37 % 11), "" if n % 10 == 0 else "no yes".split()[n % 3 == 0]] for n in range(100))]
    draft = draft_of(write_csv(tmp_path / "data.csv", rows))
    assert (len(draft.train), len(draft.holdout), len(draft.unlabelled)) == (72, 18, 10)
    assert sorted([*draft.train, *draft.holdout, *draft.unlabelled]) == list(range(100))
    assert checked(draft, tmp_path / "task").spec.label_names == ("no", "yes")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [["x", "x", "y"], ["1", "2", "a"]],
            "data.csv:1: cell 2: column 'x' is given twice, first at data.csv:1: cell 1",
        ),
        ([["x", "", "y"], ["1", "2", "a"]], "data.csv:1: cell 2: expected a column name"),
        ([["1", "2"], ["3", "4"]], "data.csv:1: cell 1: expected a column name, got '1'"),
        ([["x", "y"]], "there are no rows"),
        ([["x", "y"], ["1", "a"], ["2"]], "data.csv:3: cell 1: expected 2 cells as in the header, got 1"),
        ([["x", "y"], ["1", "a"], ["2", "a"]], "column 'y': the target is 'a' in every row"),
        ([["x", "y"], ["1", ""], ["2", "?"]], "column 'y': the target has no value"),
        ([["x", "z"], ["1", "a"]], "no column 'y'"),
        ([["x", "y"], ["1", "a"], ["2", "A"]], "data.csv:3: cell 2: 'A' and 'a' differ in case"),
        ([["x", "y"], ["1", "a"], ["1", "b"]], "0 columns to learn from"),
        ([["x", "y"], ["1", "2024-01-01"], ["1", "2024-01-02"]], "a date cannot be asked for"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, rows: list[list[str]], said: str) -> None:
    with pytest.raises(FactoryError, match=re.escape(said)):
        draft_of(write_csv(tmp_path / "data.csv", rows))


def test_bytes_that_are_no_utf8_have_a_line(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(b"x,y\n1,a\nM\xfcnchen,b\n")
    with pytest.raises(FactoryError, match=r"data\.csv:\d+: not UTF-8: byte 0xFC"):
        draft_of(tmp_path / "data.csv")


def test_parquet_and_json_lines_say_the_same(tmp_path: Path) -> None:
    days = [date(2024, 1, 1 + n) for n in range(4)]
    columns = {"n": [1.0, 2.0, None, 2.0], "day": days, "b": [True, False, True, None], "y": ["p", "q", "p", "q"]}
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    rows = [
        {name: str(cells[at]) if name == "day" else cells[at] for name, cells in columns.items()} for at in range(4)
    ]
    flat = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "data.jsonl").write_text(flat, encoding="utf-8")
    nested = [{"features": {k: v for k, v in row.items() if k != "y"}, "target": row["y"]} for row in rows]
    (tmp_path / "nested.jsonl").write_text("".join(json.dumps(row) + "\n" for row in nested), encoding="utf-8")
    drafts = [draft_of(tmp_path / "data.parquet"), draft_of(tmp_path / "data.jsonl")]
    drafts.append(draft_of(tmp_path / "nested.jsonl", "target"))
    for draft in drafts:
        found = {guess.name: (guess.kind.value, guess.cells) for guess in draft.columns}
        assert found["n"] == ("integer", (1, 2, None, 2))
        assert found["day"] == ("date", tuple(map(str, days)))
        assert found["b"] == ("boolean", (True, False, True, None))


@pytest.mark.parametrize("value", [[1], {"a": 1}, float("inf")])
def test_a_cell_that_is_no_plain_value_is_refused(tmp_path: Path, value: Any) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps({"x": value, "y": "a"}).replace("Infinity", "1e999") + "\n")
    with pytest.raises(FactoryError, match=re.escape("data.jsonl:1: 'x'")):
        draft_of(tmp_path / "data.jsonl")


def book_of(path: Path, rows: list[list[Any]], *, merged: tuple[str, ...] = (), title: str = "Sheet1") -> Path:
    book = openpyxl.Workbook()
    page = book.active
    page.title = title
    for row in rows:
        page.append(row)
    for cells in merged:
        page.merge_cells(cells)
    book.save(path)
    return path


TITLE = ["Sales of the year", None, None]
HEADER = ["region", "sold", "y"]
BODY: list[list[Any]] = [["north", 12, "a"], ["south", 7, "b"], ["north", 9, "b"], ["south", 9, "a"]]


@pytest.mark.parametrize(
    ("rows", "merged", "names", "units"),
    [
        ([HEADER, *BODY], (), ["region", "sold"], {}),
        ([TITLE, [], HEADER, *BODY], ("A1:C1",), ["region", "sold"], {}),
        ([TITLE, HEADER, [None, "t", None], *BODY], (), ["region", "sold"], {"sold": "t"}),
        ([HEADER, ["(name)", "[km/h]", None], *BODY], (), ["region", "sold"], {"sold": "km/h"}),
        ([["where", "of 2024", None], ["region", "sold", "y"], *BODY], ("B1:C1",), None, {}),
        ([["region", "of 2024", None], [None, "sold", "y"], *BODY], ("A1:A2", "B1:C1"), ["region", "of 2024 sold"], {}),
    ],
)
def test_a_sheet_is_understood_where_it_can_be_read_in_one_way(
    tmp_path: Path, rows: list[list[Any]], merged: tuple[str, ...], names: list[str] | None, units: dict[str, str]
) -> None:
    file = book_of(tmp_path / "sales.xlsx", rows, merged=merged)
    target = "of 2024 y" if any("of 2024" in row for row in rows) else "y"
    draft = draft_of(file, target)
    assert [guess.name for guess in draft.columns] == (names or ["where region", "of 2024 sold"])
    assert {guess.name: guess.unit for guess in draft.columns if guess.unit} == units
    assert draft.columns[1].cells == (12, 7, 9, 9)
    checked(draft, tmp_path / "task")


@pytest.mark.parametrize(
    ("rows", "merged", "said"),
    [
        ([HEADER, *BODY[:2], [None] * 3, *BODY[2:]], (), "sales.xlsx: Sheet1!A4: an empty row"),
        ([HEADER, *BODY], ("A2:A3",), "sales.xlsx: Sheet1!A2: merged cells among the rows"),
        ([["region", None, "y"], *BODY], (), "sales.xlsx: Sheet1!B1: expected a column name"),
        ([HEADER, ["east", "t", "a"], *BODY], (), "sales.xlsx: Sheet1!B2: 't' over numbers"),
        ([["a", "of 2024", None], ["b", 3, "y"], *BODY], ("B1:C1",), "sales.xlsx: Sheet1!B2: expected a column name"),
        ([HEADER, *BODY], ("A1:A3",), "sales.xlsx: Sheet1!A1: a header of 3 merged rows"),
        ([HEADER, ["east", "=1+1", "a"], *BODY], (), "sales.xlsx: Sheet1!B2: a formula without a saved value"),
        ([HEADER, ["east", "#DIV/0!", "a"], *BODY], (), "sales.xlsx: Sheet1!B2: holds the error #DIV/0!"),
        ([HEADER, ["east", datetime(2024, 1, 1, 8), "a"], *BODY], (), ""),
    ],
)
def test_a_sheet_that_can_be_read_in_two_ways_is_refused_with_the_cell(
    tmp_path: Path, rows: list[list[Any]], merged: tuple[str, ...], said: str
) -> None:
    file = book_of(tmp_path / "sales.xlsx", rows, merged=merged)
    if not said:
        assert draft_of(file).columns[1].kind.value == "text"
        return
    with pytest.raises(FactoryError, match=re.escape(said)):
        draft_of(file)


def test_of_several_sheets_one_must_be_named(tmp_path: Path) -> None:
    book = openpyxl.load_workbook(book_of(tmp_path / "sales.xlsx", [HEADER, *BODY]))
    page = book.create_sheet("Old")
    page.append(["nothing", "here"])
    book.create_sheet("Empty")
    book.save(tmp_path / "sales.xlsx")
    with pytest.raises(FactoryError, match="2 sheets have cells: Sheet1, Old") as refused:
        draft_of(tmp_path / "sales.xlsx")
    assert "--sheet" in refused.value.hint
    assert len(draft_of(tmp_path / "sales.xlsx", sheet="Sheet1").columns) == 2
    with pytest.raises(FactoryError, match="no sheet 'sheet1'"):
        draft_of(tmp_path / "sales.xlsx", sheet="sheet1")


def test_percent_formats_saved_formulas_and_days_are_read_as_they_are_shown(tmp_path: Path) -> None:
    file = book_of(
        tmp_path / "sales.xlsx",
        [
            ["share", "day", "calc", "shown", "y"],
            *([0.07 * n, datetime(2024, 1, n), 5, n, "ab"[n % 2]] for n in (1, 2, 3)),
        ],
    )
    book = openpyxl.load_workbook(file)
    for row in (2, 3, 4):
        book["Sheet1"][f"A{row}"].number_format = "0.0%"
        book["Sheet1"][f"D{row}"].number_format = '0"%"'
        book["Sheet1"][f"C{row}"] = f"=A{row}*3"
    book.save(file)
    # A spreadsheet program saves the value beside the formula; the library does not.
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    parts[sheet] = re.sub(rb"<f>A(\d)\*3</f><v ?/?>(</v>)?", rb"<f>A\1*3</f><v>\g<1>.5</v>", parts[sheet])
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    found = {guess.name: guess for guess in draft_of(file).columns}
    assert (found["share"].cells, found["share"].unit) == ((7, 14, 21), "%")
    assert found["day"].cells == ("2024-01-01", "2024-01-02", "2024-01-03")
    assert found["calc"].cells == (2.5, 3.5, 4.5)
    assert found["shown"].cells == (1, 2, 3)


def test_a_zip_bomb_is_not_opened(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"")
        archive.writestr("xl/worksheets/sheet1.xml", b"\0" * 20_000_000)
    with pytest.raises(FactoryError, match="unpacks to 20,000,000 bytes"):
        draft_of(tmp_path / "bomb.xlsx")


@pytest.mark.parametrize("attack", ["merged", "far"])
def test_a_sheet_that_claims_millions_of_cells_is_refused(tmp_path: Path, attack: str) -> None:
    file = book_of(tmp_path / "sales.xlsx", [HEADER, *BODY])
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    merged = b'</sheetData><mergeCells count="1"><mergeCell ref="A1:XFD1048576"/></mergeCells>'
    far = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    parts[sheet] = parts[sheet].replace(b"</sheetData>", merged if attack == "merged" else far)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(FactoryError, match="too many merged cells" if attack == "merged" else "Sheet1!XFD1048576"):
        draft_of(file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\xd0\xcf\x11\xe0 an old file"])
def test_what_is_no_spreadsheet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.xlsx").write_bytes(content)
    with pytest.raises(FactoryError, match=r"x\.xlsx: cannot be read as \.xlsx"):
        draft_of(tmp_path / "x.xlsx")
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(FactoryError, match=r"x\.parquet: cannot be read as Parquet"):
        draft_of(tmp_path / "x.parquet")


def test_the_teacher_proposes_and_its_words_are_marked(tmp_path: Path) -> None:
    rows = [
        ["amt", "job", "y"],
        *([str(n * 13 % 31), "cook smith".split()[n % 2], "ab"[n % 3 == 0]] for n in range(12)),
    ]
    draft = draft_of(write_csv(tmp_path / "data.csv", rows))
    replies = ['{"description": "amount: of the #1 loan", "unit": "EUR"}', "no idea", "still none"]
    teacher = ScriptedTeacher(replies)
    said = describe_columns(draft, teacher)
    assert said == {"amt": {"description": "amount: of the #1 loan", "unit": "EUR"}}
    assert len(teacher.history) == 3
    assert teacher.history[0].schema is not None
    write_folder(tmp_path / "task", table_files(draft, "drafted", said))
    column = check_task(tmp_path / "task").spec.columns[0]
    assert (column.description, column.unit) == ("amount: of the #1 loan", "EUR")
    spec = (tmp_path / "task/spec.yaml").read_text()
    assert "unit: EUR  # proposed by the teacher" in spec


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


def test_the_command_says_what_it_decided_and_never_overwrites(tmp_path: Path) -> None:
    rows = [["id", "x", "y"], *([str(n), str(n * 7 % 5), "no yes".split()[n % 3 == 0]] for n in range(60))]
    file = write_csv(tmp_path / "data.csv", rows)
    done = run(tmp_path / "My Task", "--from", file, "--target", "y")
    assert done.exit_code == 0, done.output
    assert "'id': left out: a running number, 0 to 59" in done.output
    assert "factory check" in done.output
    assert check_task(tmp_path / "My Task").spec.name == "my_task"
    before = (tmp_path / "My Task/spec.yaml").read_bytes()
    again = run(tmp_path / "My Task", "--from", file, "--target", "x")
    assert isinstance(again.exception, FactoryError)
    assert (tmp_path / "My Task/spec.yaml").read_bytes() == before


@pytest.mark.parametrize("options", [["--target", "y"], ["--from", "a.csv"], ["--from", "a.csv", "--text", "t"]])
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, options: list[str]) -> None:
    assert run(tmp_path / "task", *options).exit_code == 2
    assert not (tmp_path / "task").exists()


def test_texts_and_skeletons_pass_the_check_too(tmp_path: Path) -> None:
    rows = [["body", "topic"], *([f"text number {n}", ["refund", "hours", ""][n % 3]] for n in range(90))]
    file = write_csv(tmp_path / "mail.csv", [*rows, ["text number 0", "refund"]])
    done = run(tmp_path / "mail", "--from", file, "--text", "body", "--label", "topic")
    assert "1 repeated rows left out" in done.output
    task = check_task(tmp_path / "mail")
    assert (task.spec.label_names, set(task.files)) == (("hours", "refund"), {"train", "holdout"})
    assert len((tmp_path / "mail/unlabelled.jsonl").read_text().splitlines()) == 30
    assert run(tmp_path / "mine").exit_code == 0
    assert check_task(tmp_path / "mine").spec.name == "mine"


def test_a_shipped_task_can_be_drafted_again(tmp_path: Path) -> None:
    draft = draft_of(Path("tasks/german_credit/train.csv"), "credit_risk")
    spec = checked(draft, tmp_path / "task").spec
    assert not draft.left_out
    assert {column.name: column.kind.value for column in spec.columns}["telephone"] == "boolean"


ODD_CELLS = (
    "|1|2|0|-1|1,234|1.5|1,5|12%|NA|?|yes|no|1/2/2024|31.12.2024|=1+1|true|null|~|- a|a: b|#x|'|\"|007|1e999|nan"
)
HOSTILE = st.one_of(st.sampled_from([*ODD_CELLS.split("|"), "\u2028", "\ufeff", "\x85", "a\nb"]), st.text(max_size=6))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_csv_gives_a_spec_that_passes_or_an_error_with_an_address(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    n_columns = data.draw(st.integers(1, 4))
    names = [data.draw(HOSTILE) for _ in range(n_columns)]
    rows = data.draw(st.lists(st.lists(HOSTILE, min_size=n_columns, max_size=n_columns), min_size=0, max_size=6))
    folder = tmp_path_factory.mktemp("any")
    rows = [[cell.encode("utf-8", "ignore").decode() for cell in row] for row in [names, *rows]]
    try:
        file = write_csv(folder / "data.csv", rows)
    except csv.Error:
        return  # what the writer cannot write
    try:
        draft = draft_of(file, rows[0][-1].strip())
    except SpecError:
        raise
    except FactoryError as error:
        assert str(error).startswith("data.csv")
        return
    checked(draft, folder / "task")


def test_init_tells_programs_what_was_decided(tmp_path: Path) -> None:
    rows = [["age (years)", "same", "y"], *([str(20 + at % 40), "x", "no yes".split()[at % 2]] for at in range(60))]
    source = write_csv(tmp_path / "data.csv", rows)
    done = CliRunner().invoke(app, ["init", str(tmp_path / "task"), "--from", str(source), "--target", "y", "--json"])
    told = json.loads(done.stdout)
    assert told["kind"] == "tabular-classification" and sum(told["rows"].values()) == 60
    assert len(told["columns"]) == 1 and list(told["left_out"]) == ["same"]
