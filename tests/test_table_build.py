"""From a task folder with a table to a release that answers JSON rows."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from factory.check import check_task
from factory.errors import ArtifactError as Mismatch
from factory.errors import SpecError
from factory.evaluation.decision import Choice, Decision, decide
from factory.evaluation.metrics import Estimate
from factory.records import Predictions, Rows, all_kept
from factory.release.bundles import export_bundle
from factory.release.export_table import ExportTableParams, as_json_rows, export_table
from factory.release.predict import ArtifactError, Predictor, answer_file
from factory.release.table_cells import Cells
from factory.spec import VerdictSpec
from factory.spec_table import Table
from factory.students import make_table_student
from factory.students.training import FittedStudent
from flows.licences import EMBEDDED, header_licence
from flows.outcome import print_outcome, release
from flows.recipe import recipe
from flows.verdict import print_verdict, read_verdict
from tests.plain_runner import Plain
from tests.tables import COLUMNS, LABELS, NUMBERS, dataset, make_task, raw_rows


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the outcome of a build that asks nobody: there is no teacher to ask."""
    place = tmp_path_factory.mktemp("table")
    task = check_task(make_task(place / "loans", gate={"auc": 0.6, "size_mb": 1}))
    run = Plain(place / "out" / "loans")
    products = recipe(task, None, run)  # type: ignore[arg-type]
    return release(task, products, list(run.artifacts.values()), place / "out", run)


def test_a_build_judges_all_students_on_gold_rows_and_keeps_the_gate(built: Any) -> None:
    verdict = built.evaluation
    assert verdict.gold and {one.name for one in verdict.contenders} == {"student", "lightgbm", "linear", "majority"}
    auc = {one.contender: one.estimate for one in verdict.scores if one.figure == "auc"}
    assert auc["student"].value > 0.75 and auc["majority"].value == 0.5
    assert auc["student"].low < auc["student"].value < auc["student"].high
    assert built.gate.passed and built.gate.lines[0].startswith("auc ")
    assert "has AUC" in built.sentence and built.version.metrics["auc"] == auc["student"].value


def test_the_folder_has_a_card_and_a_report_with_the_columns_and_the_figures(built: Any) -> None:
    card = (built.folder / "card.md").read_text(encoding="utf-8")
    assert "| pay | numeric | pay | yes |" in card and "AUC" in card and "tabular-classification" in card
    report = (built.folder / "report.html").read_text(encoding="utf-8")
    assert "average precision" in report and "What it confuses" in report


def test_what_a_table_is_told_about_speaks_of_rows_and_of_no_teacher(
    built: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    report = (built.folder / "report.html").read_text(encoding="utf-8")
    assert (
        "Trained on 150 labelled rows." in report and "Regime" not in report and "What the teacher wrote" not in report
    )
    print_outcome(built)
    printed = capsys.readouterr().out
    assert "audit" not in printed and " rows/s; " in report and "texts/s" not in report + printed
    (mapped,) = (built.folder.parents[1] / "data-map").glob("*/manifest.json")
    assert "150 of 150 rows, " in mapped.read_text(encoding="utf-8")
    assert re.fullmatch(r".* ms a row \(.*\), .* rows/s, .* MB", built.judged.speed.summary)


@pytest.mark.parametrize(
    ("stated", "header"),
    [
        ("CC BY 4.0 (Hofmann, UCI, doi 10.24432/C5NC77)", "cc-by-4.0"),
        ("CC BY-SA 4.0", "cc-by-sa-4.0"),
        ("CC0", "cc0-1.0"),
        ("CC BY 4.0 for train, all rights reserved for the rest", "other"),
        ("not CC BY 4.0 (really)", "other"),
        (None, "other"),
    ],
)
def test_a_model_of_rows_alone_has_their_licence(stated: str | None, header: str, tmp_path: Path) -> None:
    data = {"train": "train.csv", "holdout": "holdout.csv", **({"licence": stated} if stated else {})}
    task = check_task(make_task(tmp_path / "loans", data=data))
    assert header_licence(task, "linear", "") == header
    assert header_licence(task, "linear", EMBEDDED) == "other"


def test_the_shipped_table_explains_the_instalment_by_its_class() -> None:
    table = check_task(Path("tasks/german_credit")).spec.table
    (column,) = (one for one in table.columns if one.name == "installment_rate")  # type: ignore[union-attr]
    assert not column.unit and column.phrase.startswith("class of the instalment")


def test_its_report_has_a_map_and_its_rows_are_exported_with_a_card(built: Any, tmp_path: Path) -> None:
    report = (built.folder / "report.html").read_text(encoding="utf-8")
    assert "Placed by their cells" in report and 'id="map-points"' in report
    export_bundle(built.folder, "dataset", tmp_path / "rows")
    names = pq.read_schema(tmp_path / "rows" / "train.parquet").names
    assert {one.name for one in COLUMNS} | {"label", "origin"} <= set(names) and "features" not in names
    card = (tmp_path / "rows" / "README.md").read_text(encoding="utf-8")
    assert "has AUC" in card and "- tabular-classification" in card and "Code in this folder" not in card


def test_the_folder_answers_json_rows_alone(built: Any, tmp_path: Path) -> None:
    rows, _ = raw_rows(3, seed=9)
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({**row, "kept": 1}) + "\n" for row in rows), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(built.folder / "predict.py"), "--in", str(source)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PATH": ""},
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["kept"] for answer in answers] == [1, 1, 1]
    assert all(answer["label"] in ("no", "yes") and 0.5 <= answer["probability"] <= 1 for answer in answers)
    one = subprocess.run(
        [sys.executable, str(built.folder / "predict.py"), json.dumps({"features": rows[0]})],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": ""},
    )
    assert one.stdout.split() == [answers[0]["label"], f"{answers[0]['probability']:.3f}"]


GOOD = {
    "age": 40,
    "pay": 2000.0,
    "owns": True,
    "job": "cook",
    "school": "first",
    "since": "2010-05-01",
    "note": "paid early",
}


def test_what_a_row_says_in_another_form_is_answered_alike(built: Any) -> None:
    predictor = Predictor(built.folder)
    (expected,) = predictor.predict_proba([GOOD])
    for change in (
        {"age": "40", "pay": " 2e3 ", "owns": "yes"},
        {"age": 40.0, "pay": 2000, "owns": 1},
        {"since": "01.05.2010"},
        {"since": "2010-05-01T00:00:00Z", "extra": "passed over", "good": "yes"},
    ):
        assert np.allclose(predictor.predict_proba([{**GOOD, **change}])[0], expected), change
    backwards = dict(reversed(GOOD.items()))
    assert np.allclose(predictor.predict_proba([backwards])[0], expected)
    unknown, missing = predictor.predict_proba([{**GOOD, "job": "a new one"}, {**GOOD, "job": None}])
    assert np.array_equal(unknown, missing)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"pay": "much"}, 'pay: expected a number, got "much"'),
        ({"pay": "=1+1"}, 'pay: expected a number, got "=1\\+1"'),
        ({"pay": float("nan")}, "pay: NaN is no number"),
        ({"pay": float("inf")}, "pay: Infinity is no number"),
        ({"pay": True}, "pay: expected a number, got true"),
        ({"pay": [1]}, "pay: expected a number"),
        ({"age": 40.5}, "age: expected a whole number"),
        ({"owns": "perhaps"}, "owns: expected true or false"),
        ({"school": "third"}, "school: .* is none of none, first, second"),
        ({"since": "05/01/2010"}, "since: expected a date"),
        ({"since": "yesterday"}, "since: expected a date"),
        ({"job": {}}, "job: expected text"),
    ],
)
def test_a_cell_that_is_none_is_refused_with_its_row_and_column(built: Any, change: dict[str, Any], why: str) -> None:
    with pytest.raises(ArtifactError, match=f"row 2: {why}"):
        Predictor(built.folder).predict([GOOD, {**GOOD, **change}])


def test_a_missing_or_renamed_column_is_no_missing_value(built: Any, tmp_path: Path) -> None:
    renamed = {("Pay" if name == "pay" else name): cell for name, cell in GOOD.items()}
    with pytest.raises(ArtifactError, match=r"row 1: no key 'pay'; is 'Pay' meant\?; write null"):
        Predictor(built.folder).predict([renamed])
    with pytest.raises(ArtifactError, match="expected an object"):
        Predictor(built.folder).predict(["a text"])
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(GOOD) + "\n\n" + json.dumps(renamed) + "\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"rows.jsonl:3: no key 'pay'"):
        answer_file(Predictor(built.folder), source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_regression_is_judged_by_distance_and_answers_with_its_unit(tmp_path: Path) -> None:
    task = check_task(make_task(tmp_path / "loans", NUMBERS, students=["linear"]))
    run = Plain(tmp_path / "out")
    products = recipe(task, None, run)  # type: ignore[arg-type]
    verdict = products.evaluation.load()
    r2 = {one.contender: one.estimate.value for one in verdict.scores if one.figure == "r2"}
    assert r2["student"] > 0.5 and r2["mean"] <= 0
    with products.made.exported.load().on_disk() as folder:
        (answer,) = Predictor(folder).predict([GOOD])
    assert set(answer) == {"value", "unit"} and answer["unit"] == "EUR"


@pytest.mark.parametrize("table", [LABELS, NUMBERS], ids=["labels", "numbers"])
def test_a_folder_that_differs_from_its_student_is_not_released(table: Table) -> None:
    rows = all_kept(dataset(table, 80))
    fitted = FittedStudent("linear", make_table_student("linear", {}).fit(rows.kept, table, seed=0), 80)
    exported = export_table(ExportTableParams(name="loans", table=table), fitted=fitted, rows=rows)
    assert exported.parity.n_hostile == 3 and exported.parity.largest_difference < 1e-3

    class Liar:
        labels_ = fitted.student.labels_
        to_onnx = fitted.student.to_onnx
        explanation = fitted.student.explanation  # type: ignore[union-attr]  # of a table

        def predict_proba(self, asked: Any) -> Any:
            return fitted.student.predict_proba(asked)[:, ::-1] * 1.5

    with pytest.raises(Mismatch, match=r"linear: expected model\.onnx to give the student's"):
        export_table(
            ExportTableParams(name="loans", table=table), fitted=FittedStudent("linear", Liar(), 80), rows=rows
        )  # type: ignore[arg-type]


def test_what_a_table_cannot_have_is_said_before_anything_is_built(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "loans", rules=["pay > wage", "pay / 0 > 1"], students=["blend"], curation=["dedup"])
    with pytest.raises(SpecError, match="wage") as caught:
        check_task(folder)
    found = "\n".join(map(str, caught.value.problems))
    for part in ("'wage' is no column", "divides by zero", "'blend' is not one of linear", "'dedup' is not for tables"):
        assert part in found, found


def test_json_rows_are_what_the_artifact_reads() -> None:
    rows = dataset(LABELS, 30)
    found = as_json_rows(rows)
    assert json.loads(json.dumps(found)) == found and set(found[0]) == {column.name for column in COLUMNS}


def test_predictions_and_rows_of_a_table_survive_the_store(tmp_path: Path) -> None:
    rows = all_kept(dataset(NUMBERS, 5))
    rows.save(tmp_path)
    assert Rows.load(tmp_path).kept["label"][:] == rows.kept["label"][:]
    Predictions((), ("a",), np.array([[1.5]])).save(tmp_path)
    assert Predictions.load(tmp_path).probs.tolist() == [[1.5]]


@pytest.mark.parametrize("table", [LABELS, NUMBERS], ids=["labels", "numbers"])
def test_rows_that_all_have_one_answer_are_said_before_anything_is_built(tmp_path: Path, table: Table) -> None:
    folder = make_task(tmp_path / "loans", table)
    path = folder / "train.csv"
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    answer = "yes" if table.labels else "1.5"
    same = [",".join([*line.split(",")[:-1], answer]) for line in lines]
    path.write_text("\n".join([header, *same]) + "\n", encoding="utf-8")
    with pytest.raises(SpecError, match="train") as caught:
        check_task(folder)
    assert [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems] == [
        f"train.csv: all 150 rows to learn from have the answer '{answer}': there is nothing to learn; bring others"
    ]


@pytest.mark.parametrize(
    ("table", "said"),
    [(LABELS, "loans: ok, 2 labels, from 7 columns"), (NUMBERS, "loans: ok, a number, price in EUR, from 7 columns")],
    ids=["labels", "numbers"],
)
def test_check_says_what_is_asked_of_a_row(tmp_path: Path, table: Table, said: str) -> None:
    from typer.testing import CliRunner

    from factory.cli import app

    done = CliRunner().invoke(app, ["check", str(make_task(tmp_path / "loans", table))])
    assert done.exit_code == 0 and said in done.output


def test_the_verdict_on_a_table_can_be_read_again(built: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = read_verdict(built.folder.parents[2], "loans", None, VerdictSpec(), None)
    assert found.evaluation == built.evaluation and found.decision.choice.exit_code == 0
    print_verdict(found)
    printed = capsys.readouterr().out
    assert (
        found.decision.sentence in printed
        and "Keep the LLM" not in printed
        and "average precision" in printed
        and "one row: " in printed
    )


def test_build_report_and_verdict_of_a_table_without_a_teacher_say_the_same(
    built: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = read_verdict(built.folder.parents[2], "loans", None, VerdictSpec(), None).decision.sentence
    assert re.fullmatch(
        r"Use the model; no LLM answered these rows, so there is none to replace: on 60 gold rows its AUC less that of "
        r"no learning \(majority\) is \+0\.\d{3} \(.*\)\.",
        sentence,
    )
    print_outcome(built)
    assert sentence in capsys.readouterr().out and built.as_json()["decision"] == "use"
    assert sentence in (built.folder / "report.html").read_text(encoding="utf-8")


def test_a_table_is_judged_by_what_it_adds_to_no_learning(built: Any) -> None:
    def changed(contender: str, low: float, high: float, **changes: Any) -> Decision:
        minus = Estimate(value=(low + high) / 2, low=low, high=high)
        scores = [
            one.model_copy(update={"minus": minus}) if (one.contender, one.figure) == (contender, "auc") else one
            for one in built.evaluation.scores
        ]
        return decide(built.evaluation.model_copy(update={"champion": "lightgbm", "scores": scores, **changes}), None)

    assert changed("majority", 0.01, 0.2).choice is Choice.USE
    assert changed("linear", -0.1, 0.1).choice is Choice.USE
    unproven = changed("majority", -0.01, 0.2)
    assert unproven.choice is Choice.UNPROVEN and "+0.095 (-0.010 to +0.200)" in unproven.sentence
    assert changed("linear", -0.2, -0.1).choice is Choice.UNPROVEN
    assert "there are no gold rows" in changed("majority", 0.1, 0.2, gold=False).sentence


@pytest.mark.parametrize(("order", "day"), [("day-first", "01/05/2010"), ("month-first", "05/01/2010")])
def test_a_slashed_date_is_read_as_the_spec_says(order: str, day: str) -> None:
    inputs = {"columns": [{"name": "since", "kind": "date", "date_order": order}], "values": {}}
    found, expected = Cells(inputs).matrix([{"since": day}, {"since": "2010-05-01"}])
    assert np.array_equal(found, expected)
