import json
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.data import DataFile, Findings
from factory.errors import SpecError
from factory.records import Origin, Rejection, Rows, column_of, split
from factory.records_table import cells_of, rows_at
from factory.spec import Label
from factory.spec_table import Column, ColumnKind, Table, Target
from factory.tables.cells import read_cells
from factory.tables.raw import read_chunks
from factory.tables.read import ReadTableParams, read_table, survey_table

TABLE = Table(
    columns=(
        Column(name="age", kind=ColumnKind.INTEGER, range=(0, 120)),
        Column(name="pay", kind=ColumnKind.NUMERIC),
        Column(name="job", kind=ColumnKind.CATEGORY, values=("cook", "smith")),
    ),
    target=Target(column="good"),
    labels=(Label(name="yes"), Label(name="no")),
    left_out=("secret",),
    rules=("pay >= age",),
)
NUMBER = Table(columns=TABLE.columns[1:], target=Target(column="price", range=(0, None)), labels=())
GOOD = "age,pay,job,secret,good\n20,21.5,cook,x,yes\n,1e3, smith ,,no\n"


def read(tmp_path: Path, content: str | bytes, name: str = "rows.csv", table: Table = TABLE) -> Any:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    params = ReadTableParams(origin=Origin.GOLD, table=table, needs_target=True)
    return read_table(params, file=DataFile(path)).kept


def problems(tmp_path: Path, content: str | bytes, name: str = "rows.csv", table: Table = TABLE) -> list[str]:
    with pytest.raises(SpecError, match="rows") as caught:
        read(tmp_path, content, name, table)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_the_same_rows_come_from_csv_and_both_forms_of_json(tmp_path: Path) -> None:
    flat = jsonl(
        {"age": 20, "pay": 21.5, "job": "cook", "secret": 1, "good": "yes"},
        {"good": "no", "age": None, "pay": 1000, "job": "smith"},
    )
    nested = jsonl(
        {"features": {"age": 20, "pay": 21.5, "job": "cook"}, "target": "yes", "source": "form"},
        {"features": {"age": "", "pay": "1000", "job": "smith"}, "target": "no"},
    )
    semicolons = GOOD.replace(",", ";").replace("\n", "\r\n")
    first = read(tmp_path, GOOD)
    assert first["label"][:] == ["yes", "no"]
    assert first["features"][:] == [
        {"age": 20, "pay": 21.5, "job": "cook"},
        {"age": None, "pay": 1000.0, "job": "smith"},
    ]
    for content, name in ((flat, "a.jsonl"), (nested, "b.jsonl"), (semicolons, "c.csv"), ("\ufeff" + GOOD, "d.csv")):
        again = read(tmp_path, content, name)
        assert again["features"][:] == first["features"][:]
        assert again["id"][:] == first["id"][:] and again["label"][:] == first["label"][:]


def test_rows_keep_their_types_through_the_store_and_through_a_filter(tmp_path: Path) -> None:
    rows = read(tmp_path, GOOD)
    parted = split(rows, {1: Rejection("odd", 0.5)}, by="test")
    parted.save(tmp_path)
    loaded = Rows.load(tmp_path)
    assert loaded.kept.features == rows.features and loaded.kept["features"][0]["age"] == 20
    assert loaded.rejected["reason"][:] == ["odd"] and loaded.rejected["features"][0]["job"] == "smith"
    cells = cells_of(loaded.kept)
    assert {name: column.type for name, column in cells.items()} == {
        "age": pa.int64(),
        "pay": pa.float64(),
        "job": pa.string(),
    }
    assert cells_of(loaded.kept.select([]))["age"].type == pa.int64()
    assert column_of(rows.select([1, 0]), "label").to_pylist() == ["no", "yes"]
    assert rows_at(rows, np.array([1, 0])).to_dict() == rows.select([1, 0]).to_dict()
    assert rows_at(rows, np.array([], dtype=np.intp)).features == rows.features


def test_an_id_follows_the_cells_and_not_the_label(tmp_path: Path) -> None:
    rows = "age,pay,job,good\n1,2,cook,yes\n1,2,cook,no\n1,2,smith,no\n,2,cook,no\n0,2,cook,no\n"
    ids = read(tmp_path, rows)["id"][:]
    assert ids[0] == ids[1] and len(set(ids)) == 4
    assert ids[0] == "ae6253a18ef62f10"  # golden: a change makes every stored row another


def test_a_number_is_the_answer_of_a_regression(tmp_path: Path) -> None:
    rows = read(tmp_path, "pay,job,price\n1,cook,3\n2,smith,4.5\n", table=NUMBER)
    assert rows["label"][:] == [3.0, 4.5]
    assert problems(tmp_path, "pay,job,price\n1,cook,\n2,smith,-1\n3,cook,dear\n", table=NUMBER) == [
        "rows.csv:2: price: is empty, and the spec refuses that (missing: refuse)",
        "rows.csv:3: price: -1 is outside the range 0 to of the spec",
        "rows.csv:4: price: expected a number, got 'dear'",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("age,pay,job,good\n1,x,cook,yes\n", ["rows.csv:2: pay: expected a number, got 'x'"]),
        ("age,pay,job,good\n1,nan,cook,yes\n", ["rows.csv:2: pay: expected a number, got 'nan'"]),
        ("age,pay,job,good\n1,inf,cook,yes\n", ["rows.csv:2: pay: expected a number, got 'inf'"]),
        ("age,pay,job,good\n1,1_000,cook,yes\n", ["rows.csv:2: pay: expected a number, got '1_000'"]),
        ('age,pay,job,good\n1,"1,000",cook,yes\n', ["rows.csv:2: pay: expected a number, got '1,000'"]),
        ("age,pay,job,good\n1,1e999,cook,yes\n", ["rows.csv:2: pay: inf is no number"]),
        ("age,pay,job,good\n1.5,2,cook,yes\n", ["rows.csv:2: age: expected a whole number, got '1.5'"]),
        ("age,pay,job,good\n121,200,cook,yes\n", ["rows.csv:2: age: 121 is outside the range 0 to 120 of the spec"]),
        ("age,pay,job,good\n1,2,cok,yes\n", ["rows.csv:2: job: 'cok' is no value of the spec (cook, smith); nearest"]),
        ("age,pay,job,good\n1,2,cook,maybe\n", ["rows.csv:2: label: 1 row has 'maybe' (first at line 2), not in the"]),
        ("age,pay,job,good\n1,2,cook,\n", ["rows.csv:2: good: is empty"]),
        ("age,pay,job,good\n9,2,cook,yes\n", ["rows.csv:2: breaks the rule `pay >= age`"]),
        ("age,pay,job,good\n1,2,cook\n", ["rows.csv:2: expected 4 cells as in the first line, got 3"]),
        ("age,pay,good\n1,2,yes\n", ["rows.csv:1: no column 'job'"]),
        (
            "Age,pay,job,good\n1,2,cook,yes\n",
            ["rows.csv:1: no column 'age'; is 'Age' meant?", "rows.csv:1: 'Age' is n"],
        ),
        ("age,pay,job,good,x\n1,2,cook,yes,1\n", ["rows.csv:1: 'x' is not in the spec: describe it under `columns`"]),
        ("age,age,pay,job,good\n1,1,2,cook,yes\n", ["rows.csv:1: column 'age' is given 2 times"]),
        ("age,pay,,job,good\n1,2,3,cook,yes\n", ["rows.csv:1: cell 3 of the first line is empty"]),
        ('age,pay,job,good\n1,2,"cook,yes\n', ["rows.csv:2: not CSV: unexpected end of data"]),
        ("age,pay,job,good\n", ["rows.csv: the file has no rows"]),
        (b"age,pay,job,good\n1,2,c\xffok,yes\n", ["rows.csv: not UTF-8: byte 0xFF"]),
    ],
)
def test_a_wrong_cell_of_a_csv_file_is_named_with_its_line(
    tmp_path: Path, content: str | bytes, expected: list[str]
) -> None:
    found = problems(tmp_path, content)
    assert len(found) == len(expected)
    assert all(message.startswith(start) for message, start in zip(found, expected, strict=True)), found


ROW = {"age": 1, "pay": 2, "job": "cook", "good": "yes"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"age": NaN, "pay": 2, "job": "cook", "good": "yes"}', "age: nan is no number"),
        ('{"age": 1, "pay": -Infinity, "job": "cook", "good": "yes"}', "pay: -inf is no number"),
        ('{"age": 1, "age": 2, "pay": 2, "job": "cook", "good": "yes"}', "key 'age' is given twice"),
        (json.dumps({**ROW, "pay": [1]}), "pay: expected a number, got a list"),
        (json.dumps({**ROW, "pay": True}), "pay: expected a number, got true"),
        (json.dumps({**ROW, "job": {}}), "job: expected text, got a mapping"),
        (json.dumps({**ROW, "age": 10**400}), "age: is too large a number"),
        (json.dumps({"AGE": 1, "pay": 2, "job": "cook", "good": "yes"}), "no key 'age'; is 'AGE' meant?"),
        (json.dumps({**ROW, "x": 1}), "'x' is not in the spec"),
        (json.dumps({"features": {"age": 1, "pay": 2, "job": "cook"}}), "no target 'good'"),
    ],
)
def test_a_wrong_json_row_is_named_with_its_line(tmp_path: Path, line: str, expected: str) -> None:
    (found,) = problems(tmp_path, json.dumps(ROW) + "\n" + line + "\n", "rows.jsonl")
    assert found.startswith(f"rows.jsonl:2: {expected}"), found


def cells(column: Column, *values: Any) -> list[Any]:
    found, wrong = read_cells(column, values)
    return [*found.to_pylist(), *(message for _, message in wrong)]


def test_dates_are_understood_in_three_formats_and_an_ambiguous_one_is_not_guessed() -> None:
    column = Column(name="d", kind=ColumnKind.DATE)
    day = date(2024, 4, 3)
    assert cells(column, "2024-04-03", "03.04.2024", "2024-04-03T00:00:00Z", None, " ") == [day, day, day, None, None]
    assert cells(column.model_copy(update={"date_order": "day-first"}), "3/4/2024") == [day]
    assert cells(column.model_copy(update={"date_order": "month-first"}), "04/03/2024") == [day]
    for wrong, why in (
        ("03/04/2024", "date_order: day-first or month-first"),
        ("31.02.2024", "expected a date such as 2024-12-31"),
        ("2024-04-03T12:30", "with a time of day"),
        (20240403, "expected a date"),
    ):
        none, message = cells(column, wrong)
        assert none is None and why in message


def test_what_stands_for_a_missing_cell_is_said_by_the_spec() -> None:
    column = Column(name="n", kind=ColumnKind.NUMERIC, missing_codes=("?", -1))
    assert cells(column, "?", "-1", -1.0, 2, "3", "") == [None, None, None, 2.0, 3.0, None]
    refused = Column(name="n", kind=ColumnKind.NUMERIC, missing="refuse")
    assert "missing: refuse" in cells(refused, 1, None)[-1]
    assert cells(Column(name="c", kind=ColumnKind.CATEGORY), "NA", 1, 1.0, True) == ["NA", "1", "1", "true"]


def test_a_formula_in_a_cell_is_text() -> None:
    column = Column(name="c", kind=ColumnKind.TEXT)
    assert cells(column, "=HYPERLINK(1)", "@SUM(A1)") == ["=HYPERLINK(1)", "@SUM(A1)"]
    assert "expected a number" in cells(Column(name="n", kind=ColumnKind.NUMERIC), "=1+1")[-1]


def test_truth_is_spelled_in_many_ways() -> None:
    column = Column(name="b", kind=ColumnKind.BOOLEAN)
    assert cells(column, "Yes", "n", 1, 0.0, True, "FALSE") == [True, False, True, False, True, False]
    assert "expected true or false" in cells(column, "maybe")[-1]


def test_a_survey_counts_and_warns_of_columns_that_teach_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("age,pay,job,good\n,5,cook,yes\n,5,smith,no\n,5,cook,yes\n", encoding="utf-8")
    found = survey_table(path, TABLE, needs_target=True, repeats=True)
    assert (found.n_rows, dict(found.n_by_label), found.n_repeated) == (3, {"yes": 2, "no": 1}, 1)
    assert found.warnings == (
        "rows.csv: no row has a value of 'age': nothing can be learned from it",
        "rows.csv: 'pay' is 5.0 in every row that has it",
    )


def test_many_cells_are_read_as_few_are(tmp_path: Path) -> None:
    """What is repeated is read once; it must make no difference, to what is wrong neither."""
    values = ["cook", " smith", "", None, "cok", "=1+1"]
    column = TABLE.columns[2]
    few = [cells(column, value) for value in values]
    found, wrong = read_cells(column, values * 50)
    assert found.to_pylist() == [one[0] for one in few] * 50
    assert wrong == [(place, one[1]) for place, one in enumerate(few * 50) if len(one) > 1]
    mixed: list[Any] = [1, 1.0, True, "1", "yes"] * 50  # equal to Python, and not to us
    assert cells(Column(name="b", kind=ColumnKind.CATEGORY), *mixed) == ["1", "1", "true", "1", "yes"] * 50
    dates = Column(name="d", kind=ColumnKind.DATE)
    assert cells(dates, *(["2024-04-03", "03.04.2024", None] * 50)) == [date(2024, 4, 3), date(2024, 4, 3), None] * 50


PLAIN = "age,pay,job,good\n" + "20,21.5,cook,yes\n,1e3, smith ,no\n" * 3


@pytest.mark.parametrize(
    ("change", "is_plain"),
    [
        (lambda text: text, True),
        (lambda text: text.replace("\n", "\r\n"), True),
        (lambda text: text.rstrip("\n"), True),
        (lambda text: "\ufeff" + text, True),
        (lambda text: text.replace(",", ";"), True),
        (lambda text: text.replace("cook", '"cook"'), False),
        (lambda text: text + "\n", False),
        (lambda text: text.replace("\n20", "\n\n20"), False),
        (lambda text: text + "1,2,cook\n", False),
        (lambda text: text.replace("cook", "co\rok"), False),
        (lambda text: text.replace("age", "Age"), False),
        (lambda text: "age,pay,job,good\n", False),
    ],
)
def test_a_plain_file_is_read_at_once_as_it_is_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, is_plain: bool
) -> None:
    from factory.tables import raw

    path = tmp_path / "rows.csv"
    path.write_bytes(change(PLAIN).encode())
    names = raw.Names(("age", "pay", "job"), "good", True, frozenset({"secret"}))
    assert (raw.read_plain_csv(path, names) is not None) == is_plain

    def outcome() -> Any:
        params = ReadTableParams(origin=Origin.GOLD, table=TABLE, needs_target=True)
        try:
            return read_table(params, file=DataFile(path)).kept.to_dict()
        except SpecError as error:
            return [str(problem) for problem in error.problems]

    at_once = outcome()
    monkeypatch.setattr(raw, "MOST_PLAIN_BYTES", -1)
    assert at_once == outcome()


@given(st.lists(st.lists(st.sampled_from(["", "1", "x", " ", "=1", "é", "1e3", "\t", "nan"]), min_size=2, max_size=4)))
def test_any_plain_file_is_read_at_once_as_it_is_line_by_line(rows: list[list[str]]) -> None:
    from factory.tables import raw

    text = "a,y\n" + "".join(",".join(row) + "\n" for row in rows)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_bytes(text.encode())
        names = raw.Names(("a",), "y", True, frozenset())
        findings = Findings(path)
        at_once = [
            (list(one.lines), list(map(list_of, one.columns.values()))) for one in read_chunks(path, names, findings)
        ]
        line_by_line = [(line, cells) for line, cells in raw._csv_rows(path, names, Findings(path))]
        if raw.read_plain_csv(path, names) is not None:
            assert [line for lines, _ in at_once for line in lines] == [line for line, _ in line_by_line]
            assert [cell for _, (cells,) in at_once for cell in cells] == [cells[0] for _, cells in line_by_line]


def list_of(column: Any) -> list[Any]:
    return column.to_pylist() if isinstance(column, pa.Array) else list(column)


def test_columns_may_come_in_any_order(tmp_path: Path) -> None:
    backwards = "".join(",".join(reversed(line.split(","))) + "\n" for line in GOOD.splitlines())
    assert read(tmp_path, backwards)["features"][:] == read(tmp_path, GOOD, "b.csv")["features"][:]
