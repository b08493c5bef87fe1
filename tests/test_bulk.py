"""Bulk prediction: every row once and in its place, whatever stops it; files that would fill the memory are refused."""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import FactoryError
from factory.events import Event, Warned, listening
from factory.release.predict import Predictor
from factory.serving import bulk, bulk_formats, bulk_parquet
from factory.serving.bulk import Questions, answer_here, predict_file
from factory.serving.bulk_formats import Answers
from tests.released import exported

ROOT = Path(__file__).parents[1]
TEXTS = ["play jazz", "rain, snow", 'a "quoted"\nline', "", "\u05e9\u05dc\u05d5\u05dd \U0001f600"] * 9
ROWS = [{"id": n, "text": text} for n, text in enumerate(TEXTS)]
SUFFIXES = (".parquet", ".csv", ".jsonl")


@cache
def predictor() -> Predictor:
    with exported().on_disk() as folder:
        return Predictor(folder)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bulk, bulk_formats, bulk_parquet):
        monkeypatch.setattr(module, "PART_ROWS", 10)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=25)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {**row, "id": int(row["id"]), "probability": float(row["probability"])} for row in csv.DictReader(file)
            ]
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def predict(source: Path, target: Path, answer_all: bulk.AnswerAll | None = None, **job: Any) -> bulk.Done:
    return predict_file(source, target, answer_all or answer_here(predictor()), **{"model": "m", **job})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_row_keeps_its_place_and_gets_its_label(suffix: str, tmp_path: Path) -> None:
    source, target = write(tmp_path / f"in{suffix}", ROWS), tmp_path / f"out{suffix}"
    done = predict(source, target)
    answers = predictor().predict(TEXTS)
    found = read(target)
    assert [(row["id"], row["text"], row["label"]) for row in found] == [
        (row["id"], row["text"], answer["label"]) for row, answer in zip(ROWS, answers, strict=True)
    ]
    assert [row["probability"] for row in found] == pytest.approx([answer["probability"] for answer in answers])
    assert (done.n_rows, done.n_resumed) == (45, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, target.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_job_killed_half_way_goes_on_where_it_was(suffix: str, tmp_path: Path) -> None:
    source, target = write(tmp_path / f"in{suffix}", ROWS), tmp_path / f"out{suffix}"
    target.write_text("of old")
    program = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from factory.serving import bulk, bulk_formats, bulk_parquet
        for module in (bulk, bulk_formats, bulk_parquet):
            module.PART_ROWS = 10
        def answer_all(questions):
            for number, texts in questions:
                if number == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield number, [{"label": "from the first run", "probability": 1.0}] * len(texts)
        bulk.predict_file(Path(sys.argv[1]), Path(sys.argv[2]), answer_all, model="m")
        """
    )
    command = [sys.executable, "-c", program, str(source), str(target)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    assert target.read_text() == "of old"
    done = predict(source, target)
    assert (done.n_rows, done.n_resumed) == (45, 3)
    found = read(target)
    assert [row["id"] for row in found] == list(range(45))
    n_first = sum(row["label"] == "from the first run" for row in found)
    assert 25 <= n_first <= 30


@pytest.mark.parametrize("change", ["model", "source", "column"])
def test_parts_of_another_job_are_never_used(change: str, tmp_path: Path) -> None:
    rows = [{**row, "other": "play jazz"} for row in ROWS]
    source, target = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"

    def stops(questions: Questions) -> Iterator[tuple[int, Answers]]:
        number, texts = next(iter(questions))
        yield number, [{"label": "wrong"}] * len(texts)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(source, target, stops)
    if change == "source":
        write(source, rows[:-1])
    heard: list[Event] = []
    with listening(heard.append):
        done = predict(source, target, **({"model": "n"} if change == "model" else {}), column="other")
    assert (done.n_resumed, "wrong" in {row["label"] for row in read(target)}) == (0, False)
    assert ["begins anew: 1 parts" in event.message for event in heard if isinstance(event, Warned)] == [True]


def test_two_processes_never_write_one_file(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"

    def meddles(questions: Questions) -> Iterator[tuple[int, Answers]]:
        with pytest.raises(FactoryError, match="another process writes it"):
            predict(source, target)
        yield from answer_here(predictor())(questions)

    assert predict(source, target, meddles).n_rows == 45


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str
)
def test_a_row_without_a_text_gets_no_label_and_columns_keep_their_types(kind: pa.DataType, tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    columns = {"text": pa.array(["play jazz", None, "snow"]).cast(kind), "vector": [[1.0], [], None], "on": [1, 2, 3]}
    pq.write_table(pa.table(columns), source)
    predict(source, target)
    assert pq.read_table(target)["label"].to_pylist() == ["music", None, "weather"]
    assert pq.read_table(target).select(list(columns)).equals(pq.read_table(source))


def test_blank_lines_and_other_keys_stay(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'\xef\xbb\xbf{"text": "play", "more": {"a": [1]}}\r\n\n{"text": "snow", "label": "old"}')
    predict(source, tmp_path / "out.jsonl")
    first, second, third = (tmp_path / "out.jsonl").read_text().split("\n")[:3]
    assert (json.loads(first)["more"], second, json.loads(third)["label"]) == ({"a": [1]}, "", "weather")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_rows_gives_one(suffix: str, tmp_path: Path) -> None:
    source, target = write(tmp_path / f"in{suffix}", ROWS[:1]), tmp_path / f"out{suffix}"
    if suffix == ".parquet":
        pq.write_table(pq.read_table(source).slice(0, 0), source)
    else:
        source.write_text("id,text\n" if suffix == ".csv" else "")
    assert predict(source, target).n_rows == 0
    assert read(target) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("in.csv", b"", r"expected a column 'text', got none"),
        ("in.csv", b"a,b\n1,2\n", r"expected a column 'text', got a, b"),
        ("in.csv", b"text,label\nx,y\n", r"has a column 'label'"),
        ("in.csv", b"text,a,a\nx,1,2\n", r"expected columns of different names"),
        ("in.csv", b"text,a\nx,1\ny\n", r"in\.csv:3: expected 2 columns, as the header has, got 1"),
        ("in.csv", b"text\ncaf\xe9\n", r"expected CSV in UTF-8"),
        ("in.csv", b'text\n"never closed\n', r"expected CSV in UTF-8"),
        ("in.csv", b"text\n" + b"a" * 1_000_001, r"in\.csv:2: .*larger than field limit"),
        ("in.jsonl", b'{"text": "a"}\nnope\n', r"in\.jsonl:2: not JSON"),
        ("in.jsonl", b'{"txt": "a"}\n', r"in\.jsonl:1: expected a string under 'text', got null"),
        ("in.jsonl", b'{"text": "a", "n": NaN}\n', r"a number that JSON does not know"),
        ("in.jsonl", b'{"text": "' + b"a" * 5_000_000 + b'"}\n', r"longer than 4,000,000 bytes"),
        ("in.parquet", b"PAR1 no PAR1", r"expected a Parquet file"),
        ("in.parquet", b"", r"expected a Parquet file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_and_nothing_is_left(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises(FactoryError, match=said):
        predict(source, tmp_path / f"out{source.suffix}")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(("source", "target"), [("in.csv", "out.parquet"), ("in.txt", "out.txt"), ("in.csv", "in.csv")])
def test_files_of_different_formats_or_the_same_file_are_refused(source: str, target: str, tmp_path: Path) -> None:
    (tmp_path / source).write_text("text\nplay\n")
    with pytest.raises(FactoryError, match="expected"):
        predict(tmp_path / source, tmp_path / target)


def test_a_source_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"

    def meddles(questions: Questions) -> Iterator[tuple[int, Answers]]:
        yield from answer_here(predictor())(questions)
        os.utime(source, ns=(0, 0))

    with pytest.raises(FactoryError, match="was changed while it was read"):
        predict(source, target, meddles)
    assert not target.exists()


def bombs() -> dict[str, tuple[pa.Table, str]]:
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["a" * 50_000_000]))
    raw = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array([b"a" * 50_000_000]))
    short = pa.array(["play"] * 1000)
    return {
        "a text repeated by its dictionary": (pa.table({"text": long}), "10 rows of row group 0 unpack to 500,000,000"),
        "another column that is": (pa.table({"text": short, "more": long}), "10 rows of row group 0 unpack to 500,"),
        "bytes that are": (pa.table({"text": short, "more": raw}), "unpack to 500,"),
        "texts in lists": (pa.table({"text": ["play"], "more": [["a"]]}), "inside lists or structures"),
        "texts in structures": (pa.table({"text": ["play"], "more": [{"a": "b"}]}), "inside lists or structures"),
        "wide bytes": (
            pa.table({"text": ["play"], "more": pa.array([b"a" * 100_000], pa.binary(100_000))}),
            "100,000 bytes a row",
        ),
    }


@pytest.mark.parametrize("name", bombs())
def test_a_parquet_file_that_stands_for_more_than_the_memory_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_parquet, "MAX_FIXED_BYTES", 16_384)
    table, said = bombs()[name]
    source = tmp_path / "in.parquet"
    pq.write_table(table, source, compression="zstd")
    assert source.stat().st_size < 200_000
    with pytest.raises(FactoryError, match=said):
        predict(source, tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("column", ["text", "more"])
def test_row_groups_that_declare_too_much_are_refused_before_they_are_read(
    column: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_parquet, "MAX_GROUP_BYTES", 1_000_000)
    source = tmp_path / "in.parquet"
    more = {"text": pa.array(["a" * 2_000_000]), "more": pa.array([[1] * 200_000], pa.list_(pa.int8()))}[column]
    pq.write_table(pa.table({"text": ["play"], **{column: more}}), source)

    def never(questions: Questions) -> Iterator[tuple[int, Answers]]:
        assert not list(questions)
        yield from ()

    with pytest.raises(FactoryError, match="row group 0 of 1 rows unpacks to") as caught:
        predict(source, tmp_path / "out.parquet", never)
    assert "row groups of fewer rows" in caught.value.hint


@given(st.data())
def test_damaged_rows_of_a_parquet_file_are_an_error_or_are_read(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = write(Path(folder) / "in.parquet", ROWS)
        content = bytearray(source.read_bytes())
        # Before the footer: one that is damaged in certain ways ends pyarrow, and with it the process.
        n_data = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        for _ in range(data.draw(st.integers(1, 5))):
            content[data.draw(st.integers(0, n_data - 1))] = data.draw(st.integers(0, 255))
        source.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
        try:
            done = predict(source, Path(folder) / "out.parquet")
        except FactoryError:
            assert [path.name for path in Path(folder).iterdir() if path.name[0] != "."] == ["in.parquet"]
        else:
            assert done.n_rows == len(read(Path(folder) / "out.parquet"))
