"""`factory review`: what nobody agreed on goes out as a file and comes back as gold rows, all of them or none."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from factory.check import check_task
from factory.data import READ, DataFile, ReadParams
from factory.errors import FactoryError, SpecError
from factory.evaluation.verdict import Regime
from factory.labelling.aggregate import AGGREGATE, AggregateParams
from factory.labelling.review import read_returned
from factory.labelling.review_opinions import Known
from factory.labelling.review_rows import Order
from factory.records import Origin, row_id
from factory.spec import Label, Plugin
from factory.store import run_stage
from factory.teacher import open_teacher
from flows.augmentation import gather_real
from flows.builds import BuildNote
from flows.judging import regime
from flows.recipe import read_files, write_rows
from flows.review import export_review, import_review, make_desk, open_review
from tests.conftest import Factory
from tests.plain_runner import Plain
from tests.scripted_task import LABELS, make_task, texts_of

NAMES = tuple(LABELS)
TEXTS = ["=1+1 rain", 'two\nlines, "quoted"; and more', "ordinary words", "Ünïcode ☔"]
"""What spreadsheets and separators stumble over."""


def built(place: Path) -> tuple[Path, Path]:
    """A task folder and outputs whose newest build left all of `TEXTS` to people."""
    folder = make_task(place / "task", students=["tfidf-linear"], curation=[], data=None)
    outputs = place / "outputs"
    note = BuildNote(outputs / "scripted")
    labels = tuple(Label(name=name, description=phrase) for name, phrase in LABELS.items())
    params = AggregateParams(labels=labels, voters=(Plugin(name="teacher"), Plugin(name="nearest-description")),
                             aggregation=Plugin(name="majority"), min_agreement=1.0)  # fmt: skip
    task = check_task(folder)
    (place / "silver.jsonl").write_text("".join(json.dumps({"text": t, "label": "weather"}) + "\n" for t in TEXTS))
    run = Plain(outputs / "scripted")
    silver = run(READ, ReadParams(origin=Origin.SILVER, labels=task.spec.label_names, needs_label=True),
                 resources={"file": DataFile(place / "silver.jsonl")})  # fmt: skip
    note.used(run_stage(run.root, AGGREGATE, params, inputs={"rows": silver}, resources={"encoder": Contrary()}))
    return folder, outputs


class Contrary:
    """An encoder for which every text is nearest to the last label."""

    identity = "contrary"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        is_last = [text in TEXTS or text == LABELS[NAMES[-1]] for text in texts]
        return np.array([[float(last), float(not last)] for last in is_last], dtype=np.float32)


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path, Path]:
    folder, outputs = built(tmp_path)
    return folder, outputs, tmp_path


def fill_in(file: Path, labels: list[str]) -> None:
    """Do what a person does in a spreadsheet."""
    if file.suffix == ".jsonl":
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        lines = [json.dumps({**row, "label": label}) for row, label in zip(rows, labels, strict=True)]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    with file.open(encoding="utf-8", newline="") as opened:
        cells = list(csv.DictReader(opened))
    with file.open("w", encoding="utf-8-sig", newline="") as opened:
        table = csv.DictWriter(opened, fieldnames=list(cells[0]), delimiter=";")
        table.writeheader()
        table.writerows({**row, "label": label} for row, label in zip(cells, labels, strict=True))


@pytest.mark.parametrize("name", ["open.csv", "open.jsonl"])
def test_what_goes_out_comes_back_word_for_word(place: tuple[Path, Path, Path], name: str) -> None:
    folder, outputs, tmp_path = place
    file = tmp_path / name
    assert export_review(str(folder), file, outputs, order=Order.BUILT) == 4
    fill_in(file, ["weather", "music", "", "table"])
    done = import_review(str(folder), file, outputs)
    assert (done.n_new, done.n_open, done.n_rows) == (3, 1, 3)
    rows = [json.loads(line) for line in (folder / "reviewed.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["text"], row["label"]) for row in rows] == [
        (TEXTS[0], "weather"), (TEXTS[1], "music"), (TEXTS[3], "table"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["open.csv", "open.jsonl"])
def test_a_file_from_another_machine_needs_no_build(place: tuple[Path, Path, Path], name: str) -> None:
    folder, outputs, tmp_path = place
    export_review(str(folder), tmp_path / name, outputs)
    fill_in(tmp_path / name, ["weather"] * 4)
    import_review(str(folder), tmp_path / name, tmp_path / "nothing")
    assert len((folder / "reviewed.jsonl").read_text(encoding="utf-8").splitlines()) == 4


def test_what_is_exported_says_who_voted_for_what(place: tuple[Path, Path, Path]) -> None:
    folder, outputs, tmp_path = place
    export_review(str(folder), tmp_path / "open.jsonl", outputs, order=Order.BUILT)
    first = json.loads((tmp_path / "open.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first == {
        "id": row_id(TEXTS[0]),
        "text": TEXTS[0],
        "label": None,
        "suggestion": "weather",
        "votes": {"teacher": "weather", "nearest-description": "table"},
        "probabilities": {"weather": 0.5, "music": 0.0, "table": 0.5},
    }


def test_no_cell_is_a_formula(place: tuple[Path, Path, Path]) -> None:
    folder, outputs, tmp_path = place
    export_review(str(folder), tmp_path / "open.csv", outputs)
    with (tmp_path / "open.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert f"'{TEXTS[0]}" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_every_bad_row_is_named_with_its_line_and_nothing_is_written(place: tuple[Path, Path, Path]) -> None:
    folder, outputs, tmp_path = place
    ids = [row_id(text) for text in TEXTS]
    file = tmp_path / "open.csv"
    lines = [
        "id,text,label",
        f'{ids[1]},"two',
        'lines",weather',
        f"{ids[0]},,wether",
        f"{ids[0]},,music",
        f"{ids[0]},,table",
        "0123456789abcdef,unknown,music",
        f"{ids[2]},music",
        ",text,music",
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        import_review(str(folder), file, outputs)
    assert [(problem.line, problem.message) for problem in caught.value.problems] == [
        (4, "label 'wether' is not one of weather, music, table; nearest: 'weather'"),
        (6, f"row {ids[0]} is given twice, first in line 5"),
        (7, "no exported row has the id '0123456789abcdef', and it is not that of the text in this line"),
        (8, "expected 3 cells, got 2"),
        (9, "`id` must be the id of an exported row, got ''"),
    ]
    assert not (folder / "reviewed.jsonl").exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff\xfe", "not UTF-8: byte 0xFF"),
        (b"", "no column id and no column label"),
        (b"text,labels\na,b\n", "the first line must name the columns"),
        (b'id,label\n"abc,music\n', "not CSV: unexpected end of data"),
        (b"id,label,label\na,b,c\n", r"open\.csv:1: two columns are called label"),
    ],
)
def test_what_is_no_table_is_said_to_be_none(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "open.csv").write_bytes(content)
    with pytest.raises(SpecError, match=why):
        read_returned(tmp_path / "open.csv", Known(NAMES, {}))


def test_lines_that_are_no_objects_are_named(tmp_path: Path) -> None:
    (tmp_path / "open.jsonl").write_text('{"id": "a", "label": 3}\nnope\n{"label": "music"}\n', encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        read_returned(tmp_path / "open.jsonl", Known(NAMES, {}))
    assert [problem.line for problem in caught.value.problems] == [1, 2, 3]


def test_a_missing_file_and_an_unknown_format_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="No such file"):
        read_returned(tmp_path / "open.csv", Known(NAMES, {}))
    with pytest.raises(FactoryError, match=r"expected a file called \.csv, \.jsonl or \.json"):
        read_returned(tmp_path / "open.xlsx", Known(NAMES, {}))


def test_somebodys_work_is_not_overwritten(place: tuple[Path, Path, Path]) -> None:
    folder, outputs, tmp_path = place
    export_review(str(folder), tmp_path / "open.csv", outputs)
    fill_in(tmp_path / "open.csv", ["music"] * 4)
    with pytest.raises(FactoryError, match="exists already"):
        export_review(str(folder), tmp_path / "open.csv", outputs)


def test_a_second_opinion_replaces_the_first_and_the_file_keeps_both(place: tuple[Path, Path, Path]) -> None:
    folder, outputs, tmp_path = place
    ids = [row_id(text) for text in TEXTS]
    for number, label in enumerate(("music", "table")):
        file = tmp_path / f"{number}.csv"
        file.write_text(f"id,label\n{ids[0]},{label}\n{ids[3]},music\n", encoding="utf-8")
        done = import_review(str(folder), file, outputs, by="Ada")
    assert done.n_rows == 2
    settled, people = open_review(str(folder)).said()
    assert [(row, decision.label) for row, decision in settled.standing.items()] == [
        (ids[0], "table"), (ids[3], "music"),
    ]  # fmt: skip
    assert people == {"Ada": 2}
    assert len((folder / "reviewed.jsonl").read_text(encoding="utf-8").splitlines()) == 4


def test_a_file_that_is_imported_twice_counts_once(place: tuple[Path, Path, Path]) -> None:
    folder, outputs, tmp_path = place
    file = tmp_path / "open.csv"
    file.write_text(f"id,label\n{row_id(TEXTS[0])},music\n", encoding="utf-8")
    assert [import_review(str(folder), file, outputs).n_new for _ in range(2)] == [1, 0]


def test_a_file_of_the_task_that_is_broken_stays_as_it_is(place: tuple[Path, Path, Path]) -> None:
    folder, outputs, tmp_path = place
    export_review(str(folder), tmp_path / "open.jsonl", outputs)
    fill_in(tmp_path / "open.jsonl", ["music"] * 4)
    (folder / "reviewed.jsonl").write_text('{"text": "a", "label": "gone"}\n', encoding="utf-8")
    with pytest.raises(SpecError, match="gone"):
        import_review(str(folder), tmp_path / "open.jsonl", outputs)
    assert (folder / "reviewed.jsonl").read_text(encoding="utf-8") == '{"text": "a", "label": "gone"}\n'


def test_the_next_build_trains_on_what_came_back(place: tuple[Path, Path, Path]) -> None:
    folder, outputs, tmp_path = place
    export_review(str(folder), tmp_path / "open.csv", outputs, order=Order.BUILT)
    fill_in(tmp_path / "open.csv", ["weather", "music", "", "table"])
    before = check_task(folder)
    import_review(str(folder), tmp_path / "open.csv", outputs)
    task = check_task(folder)
    assert (regime(before), regime(task)) == (Regime.Z0, Regime.FS)
    run = Plain(outputs / "scripted")
    teacher = open_teacher(task.spec.teacher, folder=folder, outputs=outputs)
    try:
        files = read_files(task, run)
        rows = write_rows(task, files, gather_real(task, files, run), teacher, run).rows.load()
    finally:
        teacher.close()
    gold = [(row["text"], row["label"]) for row in rows.kept if row["origin"] == "gold"]
    assert gold == [(TEXTS[0], "weather"), (TEXTS[1], "music"), (TEXTS[3], "table")]


def test_what_a_person_said_outlives_a_written_text_that_says_otherwise(tmp_path: Path) -> None:
    text = texts_of("music")[0]  # the teacher writes it for music
    folder = make_task(tmp_path / "task", data={"reviewed": "mine.jsonl"}, curation=["dedup", "leakage"])
    (folder / "mine.jsonl").write_text(json.dumps({"text": text, "label": "weather"}) + "\n", encoding="utf-8")
    task = check_task(folder)
    run = Plain(tmp_path / "outputs")
    teacher = open_teacher(task.spec.teacher, folder=folder, outputs=tmp_path / "outputs")
    try:
        files = read_files(task, run)
        rows = write_rows(task, files, gather_real(task, files, run), teacher, run).rows.load()
    finally:
        teacher.close()
    assert [(row["label"], row["origin"]) for row in rows.kept if row["text"] == text] == [("weather", "gold")]
    assert not {one for one in run.artifacts if "paraphrase" in one}  # reviewed rows alone are no reason to vary them


def test_the_commands_work_and_say_what_they_did(place: tuple[Path, Path, Path], factory: Factory) -> None:
    folder, outputs, tmp_path = place
    file = tmp_path / "open.csv"
    done = factory("review", folder, "export", "--out", file, "--order", "built", "--outputs", outputs)
    assert (done.code, done.out) == (
        0,
        f"{file}: 4 rows to label; fill in `label`, then: factory review {folder} import {file}\n",
    )
    fill_in(file, ["weather", "music", "", "table"])
    done = factory("review", folder, "import", file, "--outputs", outputs)
    said = f"{folder / 'reviewed.jsonl'}: 3 labels taken over, 1 left without a label; 3 reviewed rows in all\n"
    assert (done.code, done.out) == (0, said)
    assert factory("review", folder, "export", file, "--outputs", outputs).code == 2
    assert factory("review", folder, "import", "--outputs", outputs).code == 2
    nobody = factory("review", "nobody", "import", file, "--outputs", outputs)
    assert (nobody.code, "give the folder that holds spec.yaml" in nobody.err) == (1, True)


def test_a_task_without_a_build_is_told_what_to_do(tmp_path: Path, factory: Factory) -> None:
    make_task(tmp_path / "task")
    BuildNote(tmp_path / "outputs" / "scripted")
    done = factory(
        "review", tmp_path / "task", "export", "--out", tmp_path / "a.csv", "--outputs", tmp_path / "outputs"
    )
    assert done.code == 1
    assert "no build has rows to review" in done.err
    assert not (tmp_path / "a.csv").exists()


def test_no_text_of_todays_holdout_goes_out_or_comes_back(place: tuple[Path, Path, Path]) -> None:
    folder, outputs, tmp_path = place
    export_review(str(folder), tmp_path / "before.csv", outputs, order=Order.BUILT)
    with (folder / "spec.yaml").open("a", encoding="utf-8") as spec:
        spec.write("data: {holdout: holdout.jsonl}\n")
    rows = [{"text": "Ordinary words!", "label": "music"}, {"text": TEXTS[3], "label": "table"}]
    (folder / "holdout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert export_review(str(folder), tmp_path / "after.jsonl", outputs) == 2
    out = (tmp_path / "after.jsonl").read_text(encoding="utf-8")
    assert "rdinary" not in out and TEXTS[3] not in out
    fill_in(tmp_path / "before.csv", ["", "", "music", ""])
    with pytest.raises(SpecError, match=r"before\.csv:5: the text is one of those the model is measured on"):
        import_review(str(folder), tmp_path / "before.csv", outputs)
    assert {row["text"] for row in make_desk(open_review(str(folder)), outputs, by="Ada").window(
        Order.BEST, after=-1, n=9, is_open=True)["rows"]} == set(TEXTS[:2])  # fmt: skip


def test_what_was_decided_is_not_exported_again(place: tuple[Path, Path, Path]) -> None:
    folder, outputs, tmp_path = place
    (tmp_path / "said.csv").write_text(f"id,label,reject\n{row_id(TEXTS[0])},,x\n", encoding="utf-8")
    import_review(str(folder), tmp_path / "said.csv", outputs)
    assert export_review(str(folder), tmp_path / "open.csv", outputs) == 3
    assert export_review(str(folder), tmp_path / "two.csv", outputs, limit=2) == 2


def test_decisions_that_no_build_would_read_are_refused(place: tuple[Path, Path, Path]) -> None:
    folder, _, _ = place
    with (folder / "spec.yaml").open("a", encoding="utf-8") as spec:
        spec.write("data: {reviewed: null}\n")
    with pytest.raises(FactoryError, match=r"data\.reviewed is null"):
        open_review(str(folder))


def test_an_import_may_not_write_outside_the_task_folder(place: tuple[Path, Path, Path]) -> None:
    folder, outputs, tmp_path = place
    export_review(str(folder), tmp_path / "open.jsonl", outputs)
    with (folder / "spec.yaml").open("a", encoding="utf-8") as spec:
        spec.write("data: {reviewed: ../elsewhere.jsonl}\n")
    with pytest.raises(FactoryError, match="leads out of the task folder"):
        import_review(str(folder), tmp_path / "open.jsonl", outputs)


TORN = '{"text": "my carefully typed row", "label": "weather"'


def test_a_last_line_without_its_brace_is_never_lost(place: tuple[Path, Path, Path], factory: Factory) -> None:
    folder, outputs, tmp_path = place
    journal = folder / "reviewed.jsonl"
    journal.write_text(TORN, encoding="utf-8")
    done = factory("review", folder, "export", "--out", tmp_path / "open.csv", "--outputs", outputs)
    assert (done.code, "reviewed.jsonl:1" in done.err) == (2, True)
    assert journal.read_text(encoding="utf-8") == TORN
    (tmp_path / "said.csv").write_text(f"id,label\n{row_id(TEXTS[0])},music\n", encoding="utf-8")
    done = factory("review", folder, "import", tmp_path / "said.csv", "--outputs", outputs)
    kept = folder / "reviewed.jsonl.torn-1"
    assert (done.code, f"it is in {kept} now" in done.err) == (0, True)
    assert kept.read_text(encoding="utf-8") == TORN
    assert [json.loads(line)["label"] for line in journal.read_text(encoding="utf-8").splitlines()] == ["music"]


def test_a_csv_of_a_person_is_not_taken_for_our_journal(place: tuple[Path, Path, Path]) -> None:
    folder, outputs, tmp_path = place
    with (folder / "spec.yaml").open("a", encoding="utf-8") as spec:
        spec.write("data: {reviewed: reviewed.csv}\n")
    (folder / "reviewed.csv").write_text("text,label\nlast row,music", encoding="utf-8")
    with pytest.raises(FactoryError, match=r"data\.reviewed is 'reviewed\.csv', expected a \.jsonl file"):
        export_review(str(folder), tmp_path / "open.csv", outputs)
    assert (folder / "reviewed.csv").read_text(encoding="utf-8") == "text,label\nlast row,music"


@pytest.mark.parametrize("name", ["A" * 300, "Ada\nLovelace", "\udcff"])
def test_a_name_that_could_not_be_read_again_is_refused(
    place: tuple[Path, Path, Path], factory: Factory, name: str
) -> None:
    folder, outputs, tmp_path = place
    (tmp_path / "said.csv").write_text(f"id,label\n{row_id(TEXTS[0])},music\n", encoding="utf-8")
    for action in (["import", tmp_path / "said.csv"], []):
        done = factory("review", folder, *action, "--name", name, "--outputs", outputs, "--port", "0")
        assert (done.code, "who reviews: `name`" in done.err) == (1, True)
    with pytest.raises(SpecError, match=r"said\.csv:2: `by`"):
        import_review(str(folder), tmp_path / "said.csv", outputs, by=name)
    row = json.dumps({"id": row_id(TEXTS[0]), "label": "music", "by": name})
    (tmp_path / "said.jsonl").write_text(row + "\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"said\.jsonl:1: `by`"):
        import_review(str(folder), tmp_path / "said.jsonl", outputs)
    assert not (folder / "reviewed.jsonl").exists()


def test_the_hint_after_an_export_is_that_of_the_tool(place: tuple[Path, Path, Path], factory: Factory) -> None:
    folder, outputs, tmp_path = place
    file, interface = tmp_path / "tasks.json", tmp_path / "tasks.labels.xml"
    interface.write_text("somebody's", encoding="utf-8")
    args = ("review", folder, "export", "--out", file, "--format", "label-studio", "--outputs", outputs)
    assert factory(*args).code == 1
    assert not file.exists()
    interface.unlink()
    done = factory(*args)
    assert (done.code, str(interface) in done.out, "fill in" in done.out) == (0, True, False)
    assert interface.exists()
    args = ("review", folder, "export", "--out", tmp_path / "a.json", "--format", "argilla", "--outputs", outputs)
    assert "dataset.records.to_json" in factory(*args).out
