"""What people said: the last decision about a row counts, undo takes one back, and a build does as they said."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.check import check_task
from factory.curation.decided import DECIDED, DecidedParams, drop_decided
from factory.data import DataFile, WrongRow
from factory.errors import ArtifactError, SpecError
from factory.labelling.decision_journal import DecisionJournal
from factory.labelling.reviewed import (
    READ_REVIEWED,
    Action,
    Decision,
    ReadReviewedParams,
    line_of,
    parse_decision,
    read_decisions,
    read_reviewed,
    settle,
)
from factory.records import Origin, TextRow, all_kept, row_id, text_dataset
from flows.augmentation import gather_real
from flows.recipe import read_files
from tests.golden_file import check_golden, in_words
from tests.noted_build import MANY, build
from tests.plain_runner import Plain
from tests.scripted_task import LABELS, make_task, texts_of

NAMES = ("a", "b")


def said(text: str, label: str | None, action: str = "label", **more: Any) -> dict[str, Any]:
    return {"text": text, "label": label, "action": action, **more}


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


LINES = [
    {"text": "by hand", "label": "a"},
    said("accepted", "a", "accept", by="Ada", key="k1"),
    said("relabelled", "b", "relabel", by="Ada", key="k2", strategy="attributes"),
    said("new text", "b", "edit", was="old text", by="Ben", key="k3", strategy="attributes"),
    said("thrown out", None, "reject", by="Ben", key="k4", strategy="attributes"),
    said("accepted", "b", "relabel", by="Ben", key="k5"),
    said("taken back", "a", "accept", by="Ada", key="k6"),
    said("taken back", None, "undo", by="Ada", key="k7", of="k6"),
]


def test_golden_reviewed(tmp_path: Path) -> None:
    file = DataFile(write(tmp_path / "reviewed.jsonl", *LINES))
    real, written = (
        in_words(read_reviewed(ReadReviewedParams(labels=NAMES, written=written), file=file))
        for written in (False, True)
    )
    check_golden(READ_REVIEWED, {"real": real, "written": written})


def test_golden_decided(tmp_path: Path) -> None:
    file = DataFile(write(tmp_path / "reviewed.jsonl", *LINES))
    reviewed = read_reviewed(ReadReviewedParams(labels=NAMES, written=True), file=file)
    texts = ("Relabelled!", "old text", "new text", "thrown  OUT", "another")
    rows = all_kept(text_dataset([TextRow(text, "a", Origin.SYNTHETIC) for text in texts]))
    check_golden(DECIDED, in_words(drop_decided(DecidedParams(), rows=rows, accepted=reviewed)))


def test_a_decision_taken_back_uncovers_the_one_before() -> None:
    lines = [said("x", "a", "accept", key="1"), said("x", "b", "relabel", key="2"), said("x", None, "undo", of="2")]
    decisions = [parse_decision(line, NAMES) for line in lines]
    assert settle(decisions).standing[row_id("x")].label == "a"
    assert settle(decisions[:2]).standing[row_id("x")].label == "b"
    assert not settle([decisions[0], parse_decision(said("x", None, "undo", of="1"), NAMES)]).standing


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (said("x", "c"), "label 'c' is not one of a, b"),
        (said("x", None), "`label` must be text"),
        (said("x", "a", "burn"), "`action` 'burn' is not one of"),
        (said("x", "a", "edit"), "an `edit` needs `was`"),
        (said("x", None, "undo"), "an `undo` needs `of`"),
        (said("x", "a", id="0" * 16), "but that of the text is"),
        (said(" ", "a"), "`text` is empty"),
        (said("x", "a", by="two\nlines"), "`by` must be text of at most 200 characters on one line"),
    ],
)
def test_what_is_no_decision_is_named_with_its_line(tmp_path: Path, line: dict[str, Any], why: str) -> None:
    path = write(tmp_path / "reviewed.jsonl", LINES[0], line)
    with pytest.raises(SpecError, match=r"reviewed\.jsonl:2") as caught:
        read_decisions(path, NAMES)
    assert why in str(caught.value) or (line["label"] == "c" and "not in the spec" in str(caught.value))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x, max_size=2)))
def test_no_value_of_a_field_makes_reading_crash(value: Any) -> None:
    for key in ("text", "label", "action", "by", "id", "was", "of", "key"):
        try:
            parse_decision({**LINES[1], key: value}, NAMES)
        except Exception as error:
            assert type(error).__name__ == "WrongRow"


def journal(tmp_path: Path) -> DecisionJournal:
    return DecisionJournal(tmp_path / "reviewed.jsonl", NAMES)


def decision(text: str, label: str = "a") -> Decision:
    return Decision(row_id(text), Action.ACCEPT, text, label, key=f"key-{text}")


def test_the_journal_sees_what_others_wrote(tmp_path: Path) -> None:
    first, second = journal(tmp_path), journal(tmp_path)
    first.append([decision("x")])
    second.append([decision("y")])
    assert [*first.settled().standing] == [row_id("x"), row_id("y")]
    (tmp_path / "reviewed.jsonl").write_text('{"text": "z", "label": "b"}', encoding="utf-8")  # by hand, no line end
    assert [*first.settled().standing] == [row_id("z")]
    first.append([decision("w")])
    assert [*journal(tmp_path).settled().standing] == [row_id("z"), row_id("w")]


def test_a_torn_last_line_is_kept_beside_the_file_when_somebody_is_about_to_write(tmp_path: Path) -> None:
    file = tmp_path / "reviewed.jsonl"
    journal(tmp_path).append([decision("x")])
    whole = file.read_bytes()
    for number, torn in enumerate((b'{"text": "carefully typed", "label": "a"', b'{"id": "12\xc3', b"\0\0"), start=1):
        file.write_bytes(whole + torn)
        with pytest.raises(SpecError, match=r"reviewed\.jsonl:2"):
            journal(tmp_path).settled()
        assert file.read_bytes() == whole + torn
        kept = journal(tmp_path).set_aside_torn_line()
        assert kept is not None and kept == tmp_path / f"reviewed.jsonl.torn-{number}"
        assert (kept.read_bytes(), file.read_bytes()) == (torn, whole)
        assert [*journal(tmp_path).settled().standing] == [row_id("x")]
    assert (tmp_path / "reviewed.jsonl.torn-1").read_bytes().startswith(b'{"text": "carefully')


@pytest.mark.parametrize(
    "tail", ["", '{"text": "z", "label": "b"}', '{"text": "z" "label": "b"}', "z,b", '{"text": "z"\n']
)
def test_a_last_line_that_is_not_torn_is_left_alone(tmp_path: Path, tail: str) -> None:
    file = tmp_path / "reviewed.jsonl"
    file.write_text('{"text": "x", "label": "a"}\n' + tail, encoding="utf-8")
    before = file.read_bytes()
    assert journal(tmp_path).set_aside_torn_line() is None
    assert (file.read_bytes(), [*tmp_path.iterdir()]) == (before, [file])


def test_a_torn_line_that_cannot_be_kept_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "reviewed.jsonl"
    file.write_bytes(b'{"text": "x", "label"')

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="No space left"):
        journal(tmp_path).set_aside_torn_line()
    assert file.read_bytes() == b'{"text": "x", "label"'


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"by": "A" * 201}, "`by` must be text of at most 200"),
        ({"by": "two\nlines"}, "`by` must be text"),
        ({"by": "\ud800"}, "`by` holds half of a surrogate pair"),
        ({"action": Action.UNDO, "label": None}, "an `undo` needs `of`"),
        ({"label": "gone"}, "label 'gone' is not one of"),
        ({"text": "\ud800", "id": ""}, "`text` holds half of a surrogate pair"),
    ],
)
def test_nothing_that_could_not_be_read_again_is_saved(tmp_path: Path, wrong: dict[str, Any], why: str) -> None:
    kept = journal(tmp_path)
    kept.append([decision("x")])
    before = (tmp_path / "reviewed.jsonl").read_bytes()
    with pytest.raises(ArtifactError, match=why):
        kept.append([decision("y"), replace(decision("z"), **wrong)])
    assert (tmp_path / "reviewed.jsonl").read_bytes() == before


@given(st.text(st.characters()), st.sampled_from(Action))
def test_what_is_written_is_what_is_read_or_is_refused(name: str, action: Action) -> None:
    one = Decision(row_id("x"), action, "x", None if action in ("reject", "undo") else "a", by=name, key="k", of=name)
    try:
        line = line_of(one, NAMES)
    except WrongRow:
        return
    assert b"\n" not in line and parse_decision(json.loads(line), NAMES) == one


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = journal(tmp_path)
    kept.append([decision("x")])
    before = (tmp_path / "reviewed.jsonl").read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(ArtifactError, match="No space left"):
        kept.append([decision("y")])
    assert (tmp_path / "reviewed.jsonl").read_bytes() == before


def test_what_people_said_of_train_rows_holds_too(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "task", data={"train": "train.jsonl"}, curation=[])
    rows = [{"text": text, "label": "music"} for text in ("kept", "wrong", "bad", "unclear")]
    write(folder / "train.jsonl", *rows)
    edited = said("clear", "music", "edit", was="unclear")
    write(folder / "reviewed.jsonl", said("wrong", "table"), said("bad", None, "reject"), edited)
    task, run = check_task(folder), Plain(tmp_path / "outputs")
    real = gather_real(task, read_files(task, run), run)
    assert real is not None
    found = {(row["text"], row["label"]) for row in real.load().kept}
    assert found == {("kept", "music"), ("wrong", "table"), ("clear", "music")}


@pytest.mark.slow
def test_the_next_build_does_as_people_said_and_asks_nothing_again(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "task", students=["tfidf-linear"], curation=[], **MANY)
    before = build(folder, tmp_path / "outputs")
    wrong, bad, unclear, good = (texts_of("music")[at] for at in range(4))
    strategy = {"strategy": "attributes"}
    write(
        folder / "reviewed.jsonl",
        said(wrong, "weather", "relabel", **strategy),
        said(bad, None, "reject", **strategy),
        said("play something clearer", "music", "edit", was=unclear, **strategy),
        said(good, "music", "accept", **strategy),
        said("is it warm in Lima", "weather"),
    )
    assert check_task(folder).spec.label_names == tuple(LABELS)
    after = build(folder, tmp_path / "outputs")
    rows = {row["text"]: row for row in after.artifacts["gather-training"].load().kept}
    assert {rows[text]["label"] for text in (wrong, "is it warm in Lima")} == {"weather"}
    assert {rows[text]["origin"] for text in (wrong, good, "play something clearer")} == {"gold"}
    assert not {bad, unclear} & rows.keys()
    assert rows[wrong]["strategy"] == "attributes" and not rows["is it warm in Lima"]["strategy"]
    written = {name for name in after.artifacts if name.startswith("attributes")}
    first = before.artifacts["attributes-1"].load().kept["text"]
    assert written and after.artifacts["attributes-1"].load().kept["text"][:] == first[:]
