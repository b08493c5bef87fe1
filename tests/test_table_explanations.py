"""Over many rows: which columns a student leans on, how, and how it treats groups of people."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from factory.errors import FactoryError
from factory.evaluation.explanations import NOT_KNOWN, ExplainParams, Explanations, explain
from factory.evaluation.fairness import measure_groups
from factory.evaluation.table_verdict import EvaluateTableParams, evaluate_numbers, evaluate_table
from factory.evaluation.telling import groups_of, groups_sentence
from factory.records import Origin, Predictions, all_kept
from factory.records_table import table_dataset
from factory.spec_table import Column, ColumnKind, Table, Target
from factory.students import make_table_student
from factory.students.training import FittedStudent
from tests.tables import COLUMNS, LABELS, NUMBERS, dataset

SEX = Column(name="sex", kind=ColumnKind.CATEGORY, protected=True)
AGE = Column(name="age", kind=ColumnKind.INTEGER, unit="years", protected=True)
PEOPLE = Table(columns=(SEX, AGE), target=Target(column="good"), labels=LABELS.labels)


def people(sexes: list[str | None], ages: list[int | None], labels: list[str]) -> Any:
    cells = {"sex": pa.array(sexes, pa.string()), "age": pa.array(ages, pa.int64())}
    return table_dataset(cells, pa.array(labels), origin=Origin.GOLD)


def certain(answers: list[str]) -> Any:
    return np.array([[0.2, 0.8] if one == "yes" else [0.9, 0.1] for one in answers])


def test_rates_are_those_of_each_group() -> None:
    # Of 40 women 10 of 20 good ones are left out; of 40 men 4 of 30 bad ones are selected; 5 people are too few.
    gold = ["yes"] * 20 + ["no"] * 20 + ["yes"] * 10 + ["no"] * 30 + ["yes"] * 5
    told = ["yes"] * 10 + ["no"] * 30 + ["yes"] * 10 + ["yes"] * 4 + ["no"] * 26 + ["yes"] * 5
    sexes: list[str | None] = [*["woman"] * 40, *["man"] * 40, *["else"] * 5]
    rows = people(sexes, [30] * 85, gold)
    found = measure_groups(PEOPLE, rows, certain(told), np.array([one == "yes" for one in gold], float), seed=0)
    by = {one.group: one for one in found if one.column == "sex"}
    woman, man, other = by["woman"], by["man"], by["else"]
    assert (woman.n, woman.n_positive, woman.selected and woman.selected.value) == (40, 20, 0.25)
    assert woman.false_negative and woman.false_negative.value == 0.5
    assert woman.false_negative.low < 0.3 and woman.false_negative.high > 0.7
    assert woman.false_positive and woman.false_positive.value == 0
    assert man.false_positive and man.false_positive.value == pytest.approx(4 / 30, abs=1e-6)
    assert man.auc and man.auc.value == pytest.approx(1 - 4 / 30 / 2, abs=1e-6)
    assert other.is_too_small and other.n == 5 and other.selected is None
    assert [one.group for one in found if one.column == "age"] == ["30 years"]


def test_an_error_rate_needs_rows_of_its_kind() -> None:
    gold = ["yes"] * 36 + ["no"] * 4
    rows = people(["woman"] * 40, [30] * 40, gold)
    found = measure_groups(PEOPLE, rows, certain(gold), np.array([one == "yes" for one in gold], float), seed=0)
    assert found[0].false_negative is not None and found[0].false_positive is None and found[0].auc is None


def test_numbers_are_cut_into_groups_of_about_as_many_rows_and_missing_ones_are_one() -> None:
    ages: list[int | None] = [*range(20, 60), *range(20, 60), *[None] * 6]
    table = PEOPLE.model_copy(update={"columns": (AGE,), "labels": ()})
    rows = table_dataset({"age": pa.array(ages, pa.int64())}, pa.array([1.0] * 86), origin=Origin.GOLD)
    found = measure_groups(table, rows, np.full((86, 1), 3.0), np.ones(86), seed=0)
    assert [one.group for one in found] == [
        "20 to 29 years", "30 to 39 years", "40 to 49 years", "50 to 59 years", NOT_KNOWN,
    ]  # fmt: skip
    assert [one.n for one in found] == [20, 20, 20, 20, 6] and all(one.is_too_small for one in found)
    (whole,) = measure_groups(
        table, rows.select(range(40)).select([0] * 40), np.full((40, 1), 3.0), np.ones(40), seed=0
    )
    assert whole.mean_error and whole.mean_error.value == 2 and whole.mae and whole.mae.value == 2


def test_the_verdict_has_the_groups_and_says_which_are_too_small() -> None:
    columns = tuple(one.model_copy(update={"protected": one.name == "job"}) for one in COLUMNS)
    for table, evaluate in ((LABELS, evaluate_table), (NUMBERS, evaluate_numbers)):
        table = table.model_copy(update={"columns": columns})
        rows = dataset(table, 110)
        student = make_table_student("linear", {}).fit(rows, table, seed=0)
        told = Predictions(table.label_names, tuple(rows["id"]), student.predict_proba(rows))
        params = EvaluateTableParams(table=table, champion="linear")
        verdict = evaluate(params, holdout=all_kept(rows), student=told)  # type: ignore[operator]
        assert type(verdict).model_validate_json(verdict.model_dump_json()) == verdict
        headings, lines = groups_of(verdict)
        assert [line[1] for line in lines] == ["cook", "nurse", "smith", NOT_KNOWN]
        assert all(len(line) == len(headings) for line in lines) and lines[-1][3] == "too few rows"
        assert "job (not known)" in groups_sentence(verdict)


def test_without_a_holdout_only_the_rows_that_were_answered_count() -> None:
    """Of a large table one part is answered out of fold."""
    rows = dataset(LABELS, 120)
    some = rows.select(range(60, 120))
    probs = make_table_student("linear", {}).fit(rows, LABELS, seed=0).predict_proba(some)
    told = Predictions(LABELS.label_names, tuple(some["id"]), probs)
    params = EvaluateTableParams(table=LABELS, champion="linear")
    assert evaluate_table(params, rows=all_kept(rows), student=told).n_rows == 60
    strange = Predictions(LABELS.label_names, ("nobody", *told.ids[1:]), probs)
    with pytest.raises(FactoryError, match="1 of 60 answered rows are not among the rows"):
        evaluate_table(params, rows=all_kept(rows), student=strange)


@pytest.fixture(scope="module", params=["labels", "numbers"])
def explained(request: pytest.FixtureRequest) -> Explanations:
    table = LABELS if request.param == "labels" else NUMBERS
    rows = dataset(table, 400)
    student = make_table_student("linear", {}).fit(rows, table, seed=0)
    params = ExplainParams(table=table, is_gold=True)
    return explain(params, fitted=FittedStudent("linear", student, 400), rows=all_kept(dataset(table, 300, seed=1)))


def test_a_column_that_decides_matters_and_one_that_says_nothing_does_not(explained: Explanations) -> None:
    by = {one.column: one.loss for one in explained.importances}
    assert set(list(by)[:2]) == {"pay", "job"} and by["pay"].low > 0.05
    assert abs(by["owns"].value) < 0.02 and by["owns"].low <= 0.01
    assert explained.summary.startswith(("leans most on pay, job", "leans most on job, pay"))


def test_a_curve_shows_how_the_answer_goes_with_a_column(explained: Explanations, tmp_path: Path) -> None:
    curves = {one.column: one for one in explained.curves}
    assert "note" not in curves  # free text has no line of points
    *numbers, unknown = curves["pay"].points
    assert unknown.value == NOT_KNOWN and all(isinstance(one.value, float) for one in numbers)
    means = [one.mean for one in numbers]
    assert means == sorted(means) and means[-1] - means[0] > 0.3
    assert all(one.low <= one.high for one in numbers)
    assert [one.value for one in curves["school"].points][:3] == ["none", "first", "second"]
    assert {one.value for one in curves["job"].points} == {"cook", "smith", "nurse", NOT_KNOWN}
    explained.save(tmp_path)
    assert Explanations.load(tmp_path) == explained


def test_a_column_that_is_always_missing_has_one_point() -> None:
    table = LABELS.model_copy(update={"columns": (*COLUMNS[:2], Column(name="none", kind=ColumnKind.NUMERIC))})
    rows = dataset(LABELS, 100)
    from factory.records import column_of
    from factory.records_table import cells_of

    cells = {**{name: cells_of(rows)[name] for name in ("age", "pay")}, "none": pa.nulls(100, pa.float64())}
    rows = table_dataset(cells, column_of(rows, "label"), origin=Origin.GOLD)
    student = make_table_student("linear", {}).fit(rows, table, seed=0)
    params = ExplainParams(table=table, is_gold=False)
    found = explain(params, fitted=FittedStudent("linear", student, 100), rows=all_kept(rows))
    (point,) = next(one for one in found.curves if one.column == "none").points
    assert point.value == NOT_KNOWN and {one.column: one.loss.value for one in found.importances}["none"] == 0


def test_the_report_shows_importance_curves_and_groups(explained: Explanations) -> None:
    from factory.evaluation.explanation_panels import explanation_panels
    from factory.evaluation.plots import draw

    table = NUMBERS if explained.is_number else LABELS
    columns = tuple(one.model_copy(update={"protected": one.name == "job"}) for one in COLUMNS)
    table = table.model_copy(update={"columns": columns})
    rows = dataset(table, 110)
    student = make_table_student("linear", {}).fit(rows, table, seed=0)
    told = Predictions(table.label_names, tuple(rows["id"]), student.predict_proba(rows))
    evaluate: Any = evaluate_numbers if explained.is_number else evaluate_table
    verdict = evaluate(EvaluateTableParams(table=table, champion="linear"), holdout=all_kept(rows), student=told)
    importance, *curves, groups = explanation_panels(table, verdict, explained)
    assert importance.rows[0][0] in ("pay", "job") and "300 gold rows" in importance.note
    assert {"pay", "job"} <= {one.title for one in curves} and len(curves) == len(explained.curves)
    assert "Where it is not known" in next(one for one in curves if one.title == "pay").note
    assert [row[1] for row in groups.rows] == ["cook", "nurse", "smith", NOT_KNOWN]
    for panel in (importance, *curves, groups):
        assert panel.spec is not None and "<svg" in draw(panel.spec, panel.title)
    assert explanation_panels(None, verdict, None) == ()
