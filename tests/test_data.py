import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.data import MAX_CHARS, MAX_LINE_BYTES, MAX_PROBLEMS, READ, DataFile, ReadParams, read, read_rows, survey
from factory.errors import SpecError
from factory.records import Origin
from factory.store import run_stage

GOLDEN = Path(__file__).parent / "golden" / "read.json"
LABELS = ("refund", "hours")
GOOD = '{"text": "money back", "label": "refund"}\n'

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(content: str | bytes) -> Path:
        path = tmp_path / "holdout.jsonl"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def problems(path: Path, labels: tuple[str, ...] | None = LABELS) -> list[str]:
    found = survey(path, labels=labels, contradictions=True).problems
    return [str(problem).removeprefix(str(path)).removeprefix(":").strip() for problem in found]


def test_the_golden_rows_of_the_read_stage(write: Write) -> None:
    """When this fails because the meaning of the output changed: bump the version of READ."""
    content = GOOD + '\n{"label": "hours", "text": "öffnet ihr sonntags?", "id": 7}\n'
    params = ReadParams(origin=Origin.GOLD, labels=LABELS, needs_label=True)
    rows = read(params, file=DataFile(write(content)))
    assert READ.version == 2
    assert rows.kept.to_dict() == json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len(rows.rejected) == 0


def test_the_read_stage_is_cached_by_content_and_not_by_place(write: Write, tmp_path: Path) -> None:
    params = ReadParams(origin=Origin.GOLD, labels=LABELS, needs_label=True)
    path = write(GOOD)
    run_stage(tmp_path / "out", READ, params, resources={"file": DataFile(path)})
    moved = path.rename(tmp_path / "moved.jsonl")
    assert run_stage(tmp_path / "out", READ, params, resources={"file": DataFile(moved)}).was_cached
    moved.write_text(GOOD + GOOD, encoding="utf-8")
    assert not run_stage(tmp_path / "out", READ, params, resources={"file": DataFile(moved)}).was_cached


def test_pool_rows_need_no_label_and_lose_the_one_they_have(write: Write) -> None:
    path = write(GOOD + '{"text": "a"}\n{"text": "b", "label": 3}\n')
    rows = read_rows(path, labels=None, origin=Origin.SILVER)
    assert rows["text"][:] == ["money back", "a", "b"]
    assert rows["label"][:] == [None, None, None]


def test_byte_order_mark_crlf_blank_lines_and_a_missing_last_newline_are_accepted(write: Write) -> None:
    path = write(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode() + b"\r\n  \n" + GOOD.strip().encode())
    assert len(read_rows(path, labels=LABELS, origin=Origin.GOLD)) == 2


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"text": "a", "label": "refund"', "not JSON: Expecting ',' delimiter at column 32"),
        ("hello", "not JSON: Expecting value at column 1"),
        ('{"text": "a', "not JSON: Unterminated string starting at column 10"),
        ("[1]", 'expected an object such as {"text": "..."}, got a list'),
        ('"a"', 'expected an object such as {"text": "..."}, got \'a\''),
        ('{"label": "refund"}', "no `text`"),
        ('{"Text": "a", "label": "refund"}', "no `text`; is 'Text' meant?"),
        ('{"text": "  ", "label": "refund"}', "`text` is empty"),
        ('{"text": null, "label": "refund"}', "`text` must be text, got nothing"),
        ('{"text": ["a"], "label": "refund"}', "`text` must be text, got a list"),
        ('{"text": "a\\u0000b", "label": "refund"}', "`text` holds a NUL character"),
        ('{"text": "a\\ud800b", "label": "refund"}', "`text` holds half of a surrogate pair at character 2"),
        ('{"text": "a", "label": "\\udc00"}', "`label` holds half of a surrogate pair at character 1"),
        ('{"text": "a"}', "no `label`"),
        ('{"text": "a", "labels": "refund"}', "no `label`; is 'labels' meant?"),
        ('{"text": "a", "label": null}', "`label` must be text, got nothing"),
        ('{"text": "a", "label": 1}', '`label` must be text, got 1, put it in quotes: "1"'),
        ('{"text": "a", "label": ""}', "`label` is empty"),
        ('{"text": "a", "text": "b", "label": "refund"}', "key 'text' is given twice"),
        ('{"text": "' + "a" * (MAX_CHARS + 1) + '"}', "`text` has 100,001 characters, more than 100,000"),
        ('{"text": "a' + " " * MAX_LINE_BYTES + '"}', "the line is longer than 4,000,000 bytes"),
        (b'{"text": "caf\xe9", "label": "refund"}', "not UTF-8: byte 0xE9 at column 14"),
        ('{"text": "a", "x": ' + "[" * 100_000, "nested too deeply"),
        ('{"text": "a", "x": ' + "9" * 5_000 + "}", "not JSON that can be read: Exceeds the limit"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_row_is_named_with_its_line(write: Write, line: str | bytes, expected: str) -> None:
    line = line.encode() if isinstance(line, str) else line
    found = problems(write(GOOD.encode() + line + b"\n" + GOOD.encode()))
    assert len(found) == 1
    assert found[0].startswith(f"2: {expected}")


def test_labels_that_the_spec_lacks_are_counted_with_the_nearest_name(write: Write) -> None:
    rows = ["refund", "Refund", "hours", "Refund", "weather", "Refund "]
    path = write("".join(json.dumps({"text": f"{n}", "label": label}) + "\n" for n, label in enumerate(rows)))
    assert problems(path) == [
        "2: label: 2 rows have 'Refund' (first at line 2), not in the spec (refund, hours); nearest: 'refund'",
        "5: label: 1 row has 'weather' (first at line 5), not in the spec (refund, hours)",
        "6: label: 1 row has 'Refund ' (first at line 6), not in the spec (refund, hours); nearest: 'refund'",
    ]


def test_no_more_problems_are_listed_than_a_person_reads(write: Write) -> None:
    found = problems(write("{}\n" * 1_000 + "".join(f'{{"text": "a", "label": "l{n}"}}\n' for n in range(1_000))))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[0] == "1: no `text`"
    assert found[-1] == "... and 1,980 more"


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", " \r\n"])
def test_a_file_without_rows_is_a_problem(write: Write, content: str) -> None:
    assert problems(write(content)) == ["the file has no rows"]


def test_the_same_text_under_two_labels_is_a_problem_and_under_one_label_is_counted(write: Write) -> None:
    path = write(GOOD + GOOD + GOOD.replace("refund", "hours"))
    assert problems(path) == ["3: labelled 'hours', but the same text in line 1 is 'refund'"]
    assert survey(path, labels=LABELS, contradictions=True).n_repeated == 1
    assert survey(path, labels=LABELS).problems == ()


def test_reading_a_broken_file_raises_what_the_survey_finds(write: Write) -> None:
    path = write(GOOD + "nope\n")
    with pytest.raises(SpecError, match=r"holdout\.jsonl:2: not JSON"):
        read_rows(path, labels=LABELS, origin=Origin.GOLD)


def test_a_file_that_is_gone_is_said_by_the_reader_and_by_its_identity(tmp_path: Path) -> None:
    gone = tmp_path / "gone.jsonl"
    with pytest.raises(SpecError, match=r"gone\.jsonl: no such file"):
        read_rows(gone, labels=None, origin=Origin.SILVER)
    with pytest.raises(SpecError, match=r"gone\.jsonl: no such file"):
        _ = DataFile(gone).identity


def test_more_rows_than_a_chunk_keep_their_order(write: Write) -> None:
    texts = [str(n) for n in range(20_001)]
    path = write("".join(f'{{"text": "{text}"}}\n' for text in texts))
    assert read_rows(path, labels=None, origin=Origin.SILVER)["text"][:] == texts


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=100) | st.text(alphabet='{}[]":,\\u0d8textlabel \n1', max_size=60))
def test_random_files_never_raise_from_the_survey(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = survey(path, labels=LABELS, contradictions=True)
    assert found.problems or found.n_rows
    assert all("\n" not in str(problem) for problem in found.problems)
