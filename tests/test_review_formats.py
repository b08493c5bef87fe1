"""Rows for Argilla and Label Studio as these tools read them, and what they write back."""

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import SpecError
from factory.labelling.review import FORMULA, Format, read_returned, write_rows
from factory.labelling.review_json import label_studio_config
from factory.labelling.review_opinions import Known, Returned
from factory.labelling.review_rows import ReviewRow
from factory.labelling.reviewed import Action, Settled, settle
from factory.records import row_id
from factory.texts import fold

GOLDEN = Path(__file__).parent / "golden"
LABELS = ("refund", "=SUM(A1)", 'say "hi" & <go>')
TEXTS = ("=1+1 refund", 'two\nlines, "quoted"', "-5 degrees", "Ünïcode ☔")
ROWS = [
    ReviewRow(
        row_id(TEXTS[0]), TEXTS[0], {"label": "refund"}, {"refund": 0.9, "=SUM(A1)": 0.1}, "refund", "attributes"
    ),
    ReviewRow(row_id(TEXTS[1]), TEXTS[1], {"teacher": "=SUM(A1)"}, {"=SUM(A1)": 1.0}, "=SUM(A1)"),
    ReviewRow(row_id(TEXTS[2]), TEXTS[2], {}, {}, LABELS[2], "attributes", "disagrees"),
    ReviewRow(row_id(TEXTS[3]), TEXTS[3], label=None),
]
IDS = [row.id for row in ROWS]
KNOWN = Known(LABELS, {row.id: row for row in ROWS}, frozenset({fold("measured")}))
USERS = ("8d5f2f1e-0000-4000-8000-000000000001", "8d5f2f1e-0000-4000-8000-000000000002")
Answer = dict[str, str]


def golden(name: str, content: str) -> Path:
    path = GOLDEN / name
    if os.environ.get("FACTORY_WRITE_GOLDEN") == "1":
        path.write_bytes(content.encode())
    assert path.read_bytes() == content.encode()
    return path


def answered(format_: Format, answers: list[list[Answer]], names: bool = False) -> str:
    """Do what people and the tool do: for each row the answers of each person, by question."""
    entries = json.loads(write_rows(ROWS, format_))
    for number, (entry, given_) in enumerate(zip(entries, answers, strict=True), start=1):
        if format_ is Format.ARGILLA:
            entry |= {"status": "completed" if given_ else "pending", "_server_id": USERS[0]}
            for user, answer in zip(USERS, given_, strict=False):
                for question, value in answer.items():
                    entry["responses"].setdefault(question, []).append({"value": value, "user_id": user})
        else:
            entry |= {"id": number, "file_upload": "1-tasks.json", "total_annotations": len(given_)}
            entry["annotations"] = [
                {"id": 10 * number + at, "completed_by": at, "was_cancelled": False, "result": result(answer)}
                for at, answer in enumerate(given_, start=1)
            ]
    return json.dumps(entries, ensure_ascii=False, indent=1) + "\n"


def result(answer: Answer) -> list[dict[str, Any]]:
    """Write an answer as Label Studio does: a text area gives a list too."""
    parts = []
    for question, value in answer.items():
        kind, key = ("textarea", "text") if question == "edit" else ("choices", "choices")
        at = {"from_name": question, "to_name": "text", "type": kind, "origin": "manual", "id": f"x{question}"}
        parts.append({"value": {key: [value]}, **at})
    return parts


def returned(path: Path, content: str, **more: Any) -> Returned:
    path.write_text(content, encoding="utf-8")
    return read_returned(path, KNOWN, **more)


def in_short(found: Returned) -> list[tuple[str, str | None, str]]:
    return [(one.action.value, one.label, one.text) for one in found.decisions]


@pytest.mark.parametrize("format_", [*Format])
def test_golden_files_of_every_format(format_: Format) -> None:
    ending = {Format.CSV: ".csv", Format.JSONL: ".jsonl"}.get(format_, ".json")
    golden(f"review-{format_.value}{ending}", write_rows(ROWS, format_))


ANSWERS: list[list[Answer]] = [
    [{"label": "=SUM(A1)"}],
    [{"label": "=SUM(A1)"}],
    [{"label": "refund", "edit": "minus five degrees"}],
    [],
]


@pytest.mark.parametrize("format_", [Format.ARGILLA, Format.LABEL_STUDIO])
def test_what_people_said_in_another_tool_comes_back(tmp_path: Path, format_: Format) -> None:
    path = golden(f"review-answered-{format_.value}.json", answered(format_, ANSWERS))
    found = read_returned(path, KNOWN)
    assert in_short(found) == [
        ("relabel", "=SUM(A1)", TEXTS[0]),
        ("accept", "=SUM(A1)", TEXTS[1]),
        ("edit", "refund", "minus five degrees"),
    ]
    assert found.n_open == 1
    who = f"argilla {USERS[0]}" if format_ is Format.ARGILLA else "label-studio 1"
    assert {one.by for one in found.decisions} == {who}
    assert [one.strategy for one in found.decisions] == ["attributes", "", "attributes"]
    rejected = returned(tmp_path / "r.json", answered(format_, [[{"reject": "reject"}], [], [], []]))
    assert in_short(rejected) == [("reject", None, TEXTS[0])]


@pytest.mark.parametrize("format_", [Format.ARGILLA, Format.LABEL_STUDIO])
def test_rows_on_which_two_people_disagree_stay_open(tmp_path: Path, format_: Format) -> None:
    same = [{"label": "refund"}, {"label": "refund"}]
    differ = [{"label": "refund"}, {"label": "=SUM(A1)"}]
    torn = [{"label": "refund"}, {"reject": "reject"}]
    found = returned(tmp_path / "r.json", answered(format_, [same, differ, torn, []]))
    assert found.disputed == (IDS[1], IDS[2])
    assert [one.text for one in found.decisions] == [TEXTS[0], TEXTS[0]]
    assert len({one.by for one in found.decisions}) == 2
    assert settled(found).n_overruled == 1


def settled(found: Returned) -> Settled:
    return settle(found.decisions)


def test_a_skipped_task_and_a_discarded_record_say_nothing(tmp_path: Path) -> None:
    tasks = json.loads(answered(Format.LABEL_STUDIO, [[{"label": "refund"}], [], [], []]))
    tasks[0]["annotations"][0]["was_cancelled"] = True
    assert returned(tmp_path / "t.json", json.dumps(tasks)).decisions == ()
    records = json.loads(answered(Format.ARGILLA, [[{"label": "refund"}], [], [], []]))
    records[0]["responses"]["label"][0]["status"] = "discarded"
    assert returned(tmp_path / "t.json", json.dumps(records)).decisions == ()


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"text": "x", "annotator": 1, "label": "refund"}, "row 1: expected an Argilla record .* not as JSON-MIN"),
        ({"fields": {"text": "x"}}, "row 1: `id` must be the id of an exported row"),
        ({"id": IDS[0], "fields": {"text": "x"}, "responses": {"label": [{"user_id": "u"}]}}, "with a `value`"),
        ({"id": IDS[0], "fields": {}, "responses": {"label": [{"value": 3}]}}, "expected text as answer to label"),
        ({"data": {"row": IDS[0]}, "annotations": [{"result": "x"}]}, "annotations with a `result`"),
        (
            {"data": {"row": IDS[0]}, "annotations": [{"result": result({"label": "zebra"})}]},
            "label 'zebra' is not one",
        ),
        ({"data": {"row": "0" * 16}, "annotations": [{"result": result({"label": "refund"})}]}, "no exported row has"),
        (
            {"data": {"row": IDS[0]}, "annotations": [{"result": result({"edit": "Measured."})}]},
            "the model is measured on",
        ),
        ({"data": {"row": IDS[0]}, "annotations": [{"result": result({"edit": TEXTS[3]})}]}, f"that of row {IDS[3]}"),
        ("text", "expected an Argilla record"),
        ({"id": IDS[0], "fields": {}, "responses": {"label": 5}}, "row 1: expected responses to the question label as"),
        ({"data": {"row": IDS[0]}, "annotations": 5}, "row 1: expected `annotations` as a list, got 5"),
        (
            {"id": IDS[0], "fields": {}, "responses": {"label": [{"value": "refund", "user_id": "two\nlines"}]}},
            r"row 1: `by` must be text of at most 200 characters on one line, got 'argilla two\\nlines'",
        ),
        (
            {
                "data": {"row": IDS[0]},
                "annotations": [{"result": result({"label": "refund"}), "completed_by": {"email": "a\n@b"}}],
            },
            "row 1: `by` must be text",
        ),
    ],
)
def test_what_is_no_answer_is_named_with_its_row(tmp_path: Path, entry: object, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        returned(tmp_path / "r.json", json.dumps([entry]))


@pytest.mark.parametrize("content", ["", "{}", "[", "3", "[" * 100_000])
def test_what_is_no_list_is_said_to_be_none(tmp_path: Path, content: str) -> None:
    with pytest.raises(SpecError, match=r"not JSON that can be read|expected a list"):
        returned(tmp_path / "r.json", content)


def test_csv_carries_labels_rejections_and_new_texts(tmp_path: Path) -> None:
    lines = [
        "id,label,reject,edit,by",
        f"{IDS[0]},'=SUM(A1),,,Ada",  # as the export writes such a label
        f"{IDS[1]},,x,,Ada",
        f"{IDS[2]},refund,,'=new text,Ben",
        f"{IDS[3]},,,,",
    ]
    found = returned(tmp_path / "r.csv", "\n".join(lines) + "\n", by="nobody")
    assert in_short(found) == [
        ("relabel", "=SUM(A1)", TEXTS[0]), ("reject", None, TEXTS[1]), ("edit", "refund", "=new text"),
    ]  # fmt: skip
    assert ([one.by for one in found.decisions], found.n_open) == (["Ada", "Ada", "Ben"], 1)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"{IDS[0]},refund,x,", "not both"),
        (f"{IDS[3]},,,new", "a new text needs a label"),
        (f"{IDS[0]},,maybe,", "`reject` must be x or empty, got 'maybe'"),
        (f"{IDS[0]},,,Measured", "measured on"),
    ],
)
def test_contradictions_in_a_line_are_named(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        returned(tmp_path / "r.csv", f"id,label,reject,edit\n{line}\n")


def test_two_rows_cannot_be_edited_into_one_by_a_file(tmp_path: Path) -> None:
    lines = f"id,label,edit\n{IDS[0]},,same words\n{IDS[1]},,Same words!\n"
    with pytest.raises(SpecError, match=rf"r\.csv:3: the new text is that of row {IDS[0]}"):
        returned(tmp_path / "r.csv", lines)


@given(st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text))
def test_no_cell_of_any_text_is_a_formula(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    row = ReviewRow(row_id(text), text, {text: text}, {}, text)
    import csv
    import io

    _, cells = csv.reader(io.StringIO(write_rows([row], Format.CSV), newline=""))
    assert not [cell for cell in cells if cell.startswith(FORMULA)]


def test_the_interface_for_label_studio_has_every_label_as_it_is() -> None:
    root = ElementTree.fromstring(label_studio_config(LABELS))
    choices = [one.attrib["value"] for one in root.findall("./Choices[@name='label']/Choice")]
    assert tuple(choices) == LABELS
    assert {one.attrib["toName"] for one in root if one.tag != "Text"} == {"text"}
    assert Action.REJECT.value in {one.attrib["value"] for one in root.findall("./Choices[@name='reject']/Choice")}
