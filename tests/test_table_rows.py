"""Rows of tables that a teacher writes: asked label by label, checked, and curated before anything learns from them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.check import check_task
from factory.errors import FactoryError, SpecError
from factory.records import Origin, Rows, all_kept
from factory.records_table import cells_of, table_dataset
from factory.spec import Budget
from factory.students.tables.curate import CURATE_ROWS, CurateRowsParams, curate_rows
from factory.students.tables.training import CrossPredictTableParams, cross_predict_table
from factory.synthesis.rows import WRITE_ROWS, RowsOptions, WriteRowsParams, forecast_rows_written, write_rows
from factory.teacher.budget import Spending
from factory.teacher.protocol import Request
from factory.teacher.scripted import ScriptedTeacher
from flows.plan import make_plan
from flows.recipe import recipe
from tests.golden_file import check_golden
from tests.plain_runner import Plain
from tests.tables import LABELS, NUMBERS, dataset, make_task

TABLE = LABELS.model_copy(update={"rules": ("pay < 4000",)})
PARAMS = WriteRowsParams(
    description="Loans.", table=TABLE, seed=0, options=RowsOptions(per_label=6, per_prompt=2, given=2)
)
REAL = all_kept(dataset(TABLE, 60, missing=0.0))
FREE = {"integer": 30, "number": 2000.5, "boolean": True}


def written(request: Request, **changes: Any) -> str:
    """Answer as the schema wants it; `changes` replace cells of every row."""
    cases = request.schema["properties"]  # type: ignore[index]
    rows = {}
    for case, shape in cases.items():
        row = {
            name: one["enum"][0] if "enum" in one else FREE.get(one["type"], "2010-05-01")
            for name, one in shape["properties"].items()
        }
        rows[case] = {**row, **changes}
    return json.dumps(rows)


def test_each_label_gets_its_prompts_with_real_rows_of_it_and_cells_drawn_beforehand() -> None:
    asked: list[Request] = []

    def hear(request: Request) -> str:
        asked.append(request)
        return written(request)

    rows = write_rows(PARAMS, real=REAL, teacher=ScriptedTeacher(hear))
    assert len(asked) == 2 * 3
    assert (
        [label for label in rows.kept["label"]].count("yes") == [label for label in rows.kept["label"]].count("no") == 6
    )
    assert set(rows.kept["origin"]) == {"synthetic"} and set(rows.kept["weight"]) == {0.5}
    of_label = dict(zip(REAL.kept["id"], REAL.kept["label"], strict=True))
    for label, parents, replies in zip(rows.kept["label"], rows.kept["parents"], rows.kept["replies"], strict=True):
        assert len(parents) == 3 and {of_label[one] for one in parents} == {label} and replies
    given_cells = [
        tuple(name for name, one in case["properties"].items() if len(one.get("enum", ())) == 1)
        for request in asked
        for case in request.schema["properties"].values()  # type: ignore[index]
    ]
    assert all(len(names) >= 2 for names in given_cells) and len(set(given_cells)) > 3
    assert len({request.messages[1].content for request in asked}) == len(asked)


def test_drawn_numbers_do_not_collapse() -> None:
    options = RowsOptions(per_label=40, per_prompt=4, given=7)
    rows = write_rows(PARAMS.model_copy(update={"options": options}), real=REAL, teacher=ScriptedTeacher(written))
    assert len(set(cells_of(rows.kept)["age"].to_pylist())) > 25


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"age": 500}, "wrong-cell: age"),
        ({"school": "university"}, "wrong-cell: school"),
        ({"pay": "much"}, "wrong-cell: pay"),
        ({"since": "soon"}, "wrong-cell: since"),
        ({"pay": 9000}, "breaks-rule: pay < 4000"),
        ({"pay": [1]}, "wrong-cell: pay"),
    ],
)
def test_what_the_spec_excludes_is_rejected_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    rows = write_rows(PARAMS, real=REAL, teacher=ScriptedTeacher(lambda request: written(request, **changes)))
    assert not len(rows.kept) and set(rows.rejected["reason"]) == {reason}
    assert len(rows.rejected) == 12


@given(
    st.text(max_size=30)
    | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps)
    | st.dictionaries(
        st.text(),
        st.dictionaries(
            st.sampled_from(["age", "pay", "note", "x"]),
            st.none() | st.integers() | st.text() | st.lists(st.integers()),
        ),
        max_size=3,
    ).map(json.dumps)
)
@settings(max_examples=40, deadline=None)
def test_no_reply_breaks_it_and_none_disappears(raw: str) -> None:
    rows = write_rows(PARAMS, real=REAL, teacher=ScriptedTeacher(lambda _request: raw))
    assert len(rows.kept) + len(rows.rejected) >= 6
    assert all(rows.rejected["reason"])


def test_a_budget_that_ends_leaves_the_stage_open() -> None:
    teacher = ScriptedTeacher(written, spending=Spending(Budget(calls=2)))
    rows = write_rows(PARAMS, real=REAL, teacher=teacher)
    assert not rows.is_complete and len(rows.kept) == 4 and rows.report["stopped"] == "budget"


def test_a_regression_and_a_label_without_rows_are_refused() -> None:
    with pytest.raises(FactoryError, match="expected a classification, got a regression"):
        write_rows(
            PARAMS.model_copy(update={"table": NUMBERS}),
            real=all_kept(dataset(NUMBERS, 20)),
            teacher=ScriptedTeacher(written),
        )
    one = REAL.kept.filter(lambda row: row["label"] == "no")
    with pytest.raises(FactoryError, match="at least 2 rows of each label to show, got 0 of 'yes'"):
        write_rows(PARAMS, real=all_kept(one), teacher=ScriptedTeacher(written))


def test_golden_rows() -> None:
    rows = write_rows(PARAMS, real=REAL, teacher=ScriptedTeacher(lambda request: written(request, note="paid early")))
    shown = [[row["label"], {name: str(cell) for name, cell in row["features"].items()}] for row in rows.kept]
    check_golden(WRITE_ROWS, shown)


def test_golden_curated_rows() -> None:
    new = dataset(TABLE, 30, seed=9, missing=0.0)
    found = curate_rows(CURATE, rows=as_written(new, flipped=True), real=REAL)
    check_golden(CURATE_ROWS, [[row["id"], row["reason"]] for row in found.rejected])


def test_what_writing_asks_is_foretold() -> None:
    assert forecast_rows_written(PARAMS, REAL).calls == forecast_rows_written(PARAMS, None).calls == 6


def as_written(rows: Any, *, flipped: bool = False) -> Rows:
    """Return rows as if a teacher had written them, perhaps for the other label."""
    labels = [("no" if one == "yes" else "yes") if flipped else one for one in rows["label"]]
    made = table_dataset(cells_of(rows), pa.array(labels), origin=Origin.SYNTHETIC, strategy="rows", weight=0.5)
    return all_kept(made)


CURATE = CurateRowsParams(table=TABLE)


def test_a_row_that_copies_a_real_one_is_rejected() -> None:
    copied = curate_rows(CURATE, rows=as_written(REAL.kept.select(range(5))), real=REAL)
    assert not len(copied.kept) and set(copied.rejected["reason"]) == {"copies-real"}
    assert set(copied.rejected["score"]) == {0.0}
    near = REAL.kept.select(range(5))
    cells = {**cells_of(near), "age": pa.array([one + 1 for one in cells_of(near)["age"].to_pylist()], pa.int64())}
    made = table_dataset(cells, pa.array(near["label"]), origin=Origin.SYNTHETIC)
    moved = curate_rows(CURATE, rows=all_kept(made), real=REAL)
    assert set(moved.rejected["reason"]) == {"copies-real"} and min(moved.rejected["score"]) > 0


def test_rows_that_contradict_the_real_ones_are_rejected_and_others_stay() -> None:
    real, new = all_kept(dataset(TABLE, 150, missing=0.0)), dataset(TABLE, 80, seed=9, missing=0.0)
    right = curate_rows(CURATE, rows=as_written(new), real=real)
    wrong = curate_rows(CURATE, rows=as_written(new, flipped=True), real=real)
    assert len(right.kept) > 65
    assert len(wrong.rejected) > len(right.rejected) + 10
    assert "contradicts-real" in set(wrong.rejected["reason"])


def test_rows_of_the_holdout_and_repeated_ones_are_rejected() -> None:
    new = dataset(TABLE, 20, seed=9, missing=0.0)
    holdout = all_kept(new.select(range(3)))
    twice = as_written(new.select([0, 1, 2, 10, 10]))
    found = curate_rows(CURATE, rows=twice, real=REAL, holdout=holdout)
    assert found.report["rejected_by_reason"]["leakage"] == 3
    assert found.report["rejected_by_reason"]["repeated"] == 1


def test_nothing_written_gives_nothing() -> None:
    assert len(curate_rows(CURATE, rows=as_written(REAL.kept.select([])), real=REAL).kept) == 0


def test_students_are_judged_out_of_fold_on_real_rows_only() -> None:
    from datasets import concatenate_datasets

    rows = all_kept(concatenate_datasets([REAL.kept, as_written(dataset(TABLE, 20, seed=9, missing=0.0)).kept]))
    params = CrossPredictTableParams(student="linear", table=TABLE, seed=0)
    assert list(cross_predict_table(params, rows=rows).ids) == REAL.kept["id"][:]


def test_a_build_learns_from_real_and_written_rows_and_compares_both(tmp_path: Path) -> None:
    strategies = [{"name": "rows", "params": {"per_label": 4, "given": 7}}]
    folder = make_task(tmp_path / "loans", students=["linear"], synthesis={"strategies": strategies})
    task = check_task(folder)
    assert {one.name: one.cost.calls for one in make_plan(task, tmp_path / "out").stages}["rows"] == 4
    run = Plain(tmp_path / "out" / "loans")
    products = recipe(task, ScriptedTeacher(written), run)
    assert "real-rows" in {one.name for one in products.evaluation.load().contenders}
    origins = products.rows.load().kept["origin"]
    assert origins.count("synthetic") == len(run.artifacts["curate-rows"].load().kept) > 0
    assert np.array_equal(
        run.artifacts["cross-predict-linear"].load().ids, run.artifacts["read-train"].load().kept["id"]
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"table": NUMBERS}, "not for tables: leave it out"),
        ({"data": {"holdout": "holdout.csv"}}, "rows are written like real ones: name some under data.train"),
    ],
)
def test_a_spec_that_cannot_have_written_rows_is_refused(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    folder = make_task(tmp_path / "loans", synthesis={"strategies": ["rows"]}, **changes)
    with pytest.raises(SpecError, match=why):
        check_task(folder)
