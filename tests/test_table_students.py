"""The contract of students of tables; each entry of `TABLE_STUDENTS` takes the same tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from factory.errors import FactoryError, NotFitted
from factory.records import Origin, column_of
from factory.records_table import cells_of, table_dataset
from factory.spec_table import Column, ColumnKind, Table, Target
from factory.students import TABLE_STUDENTS, make_table_student
from factory.students.tables.encoding import Encoding
from factory.students.tables.features import choose_features
from factory.students.tables.folds import fold_numbers
from factory.students.tables.search import search
from tests.tables import COLUMNS, LABELS, NUMBERS, THREE, dataset

QUICK: dict[str, dict[str, Any]] = {"ebm": {"outer_bags": 2, "interactions": 2}}
TABLES = {"labels": LABELS, "three": THREE, "numbers": NUMBERS}


@pytest.fixture(scope="module", params=TABLE_STUDENTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=TABLES)
def table(request: pytest.FixtureRequest) -> Table:
    return TABLES[request.param]


@pytest.fixture(scope="module")
def fitted(name: str, table: Table) -> Any:
    return make_table_student(name, QUICK.get(name, {})).fit(dataset(table, 300), table, seed=0)


def test_it_learns_what_the_cells_decide(fitted: Any, table: Table) -> None:
    rows = dataset(table, 200, seed=1)
    answers = fitted.predict_proba(rows)
    if not table.labels:
        gold = np.array(rows["label"])
        assert answers.shape == (200, 1)
        assert 1 - ((answers[:, 0] - gold) ** 2).mean() / gold.var() > 0.6
        return
    assert answers.shape == (200, len(table.labels)) and np.allclose(answers.sum(axis=1), 1)
    right = np.mean(
        [table.label_names[at] == label for at, label in zip(answers.argmax(1), rows["label"], strict=True)]
    )
    assert right > (0.75 if len(table.labels) == 2 else 0.6)


def test_what_was_saved_answers_alike_and_so_does_the_graph(fitted: Any, table: Table, tmp_path: Path) -> None:
    import onnxruntime

    rows = dataset(table, 50, seed=2, missing=0.4)
    expected = fitted.predict_proba(rows)
    fitted.save(tmp_path)
    again = type(fitted).load(tmp_path)
    assert np.array_equal(again.predict_proba(rows), expected)
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".pkl", ".pickle", ".joblib")]
    assert fitted.to_onnx(tmp_path)["kind"] == "cells"
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (logits,) = session.run(["logits"], {"cells": fitted.encoding_.matrix(cells_of(rows))})
    if table.labels:
        logits = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(logits, expected, atol=1e-4)


def test_the_same_seed_gives_the_same_student(fitted: Any, name: str, table: Table) -> None:
    again = make_table_student(name, QUICK.get(name, {})).fit(dataset(table, 300), table, seed=0)
    rows = dataset(table, 20, seed=3)
    assert np.array_equal(again.predict_proba(rows), fitted.predict_proba(rows))


def test_it_refuses_what_it_cannot_do(name: str) -> None:
    student = make_table_student(name, {})
    with pytest.raises(NotFitted, match="has not been fitted"):
        student.predict_proba(dataset(LABELS, 2))
    with pytest.raises(ValidationError, match="n_layers"):
        make_table_student(name, {"n_layers": 3})
    rows = dataset(LABELS, 40)
    good = rows.select([at for at, label in enumerate(rows["label"]) if label == "yes"])
    with pytest.raises(FactoryError, match=r"all .* rows have the same answer"):
        student.fit(good, LABELS, seed=0)


def test_a_label_without_rows_is_all_but_impossible(name: str) -> None:
    table = LABELS.model_copy(update={"labels": THREE.labels})
    student = make_table_student(name, QUICK.get(name, {})).fit(dataset(LABELS, 100), table, seed=0)
    assert student.predict_proba(dataset(LABELS, 20, seed=1))[:, 2].max() < 1e-3


@pytest.mark.parametrize("way", ["increasing", "decreasing"])
def test_the_answer_goes_the_way_the_spec_says(name: str, way: str) -> None:
    columns = tuple(one.model_copy(update={"monotone": way} if one.name == "pay" else {}) for one in COLUMNS)
    table = LABELS.model_copy(update={"columns": columns})
    student = make_table_student(name, QUICK.get(name, {}))
    if name == "scorecard":
        with pytest.raises(FactoryError, match="cannot keep to `monotone`, which the spec wants of pay"):
            student.fit(dataset(table, 200), table, seed=0)
        return
    student.fit(dataset(table, 200), table, seed=0)
    row = dataset(table, 1, seed=5, missing=0)
    pays = np.linspace(500, 4000, 60)
    cells = {key: pa.concat_arrays([cell] * len(pays)) for key, cell in cells_of(row).items()} | {"pay": pa.array(pays)}
    label = pa.concat_arrays([column_of(row, "label")] * len(pays))
    probs = student.predict_proba(table_dataset(cells, label, origin=Origin.GOLD))[:, 1]
    steps = np.diff(probs) * (1 if way == "increasing" else -1)
    assert steps.min() >= -1e-6


def test_a_column_without_values_and_ten_thousand_categories_are_survived(name: str) -> None:
    columns = (
        Column(name="none", kind=ColumnKind.NUMERIC),
        Column(name="many", kind=ColumnKind.CATEGORY),
        Column(name="x", kind=ColumnKind.NUMERIC),
    )
    table = Table(columns=columns, target=Target(column="y"), labels=LABELS.labels)
    n = 10_000 if name != "ebm" else 1_500
    x = np.random.default_rng(0).normal(size=n)
    cells = {
        "none": pa.nulls(n, pa.float64()),
        "many": pa.array([f"kind {at}" for at in range(n)]),
        "x": pa.array(x),
    }
    label = pa.array(np.where(x > 0, "yes", "no").tolist())
    rows = table_dataset(cells, label, origin=Origin.GOLD)
    student = make_table_student(name, QUICK.get(name, {})).fit(rows, table, seed=0)
    assert (student.predict_proba(rows).argmax(axis=1) == (x > 0)).mean() > 0.95


def test_a_new_category_counts_as_missing() -> None:
    column = Column(name="c", kind=ColumnKind.CATEGORY)
    encoding = Encoding.fit({"c": pa.array(["a", "a", "b", None])}, [column])
    found = encoding.matrix({"c": pa.array(["b", "new", None, "a"])})[:, 0]
    assert found.tolist()[0] == 1 and np.isnan(found[1:3]).all() and found[3] == 0


def test_two_values_need_one_feature() -> None:
    encoding = Encoding.fit({"c": pa.array(["a", "b", "a", "b"])}, [Column(name="c", kind=ColumnKind.CATEGORY)])
    matrix = encoding.matrix({"c": pa.array(["a", "b", "a", "b"])})
    assert len(choose_features(matrix, encoding.inputs, missing=True)) == 1


def test_folds_keep_equal_rows_together_and_labels_apart() -> None:
    rows = dataset(LABELS, 60)
    from datasets import concatenate_datasets

    both = concatenate_datasets([rows, rows])
    folds = fold_numbers(both, 5, seed=0)
    assert (folds[:60] == folds[60:]).all() and np.bincount(folds).tolist() == [24] * 5
    yes = np.array(both["label"]) == "yes"
    assert max(np.bincount(folds[yes])) - min(np.bincount(folds[yes])) <= 2


def test_a_search_is_never_worse_than_the_defaults_and_the_same_twice() -> None:
    rows = dataset(LABELS, 120)
    found, again = (search(TABLE_STUDENTS["lightgbm"], {"trials": 3, "leaves": 4}, rows, LABELS, seed=0) for _ in "ab")
    assert found == again and found.n_trials == 3 and found.loss <= found.default_loss
    assert "leaves" not in found.params and isinstance(found.params["rounds"], int)
    assert search(TABLE_STUDENTS["linear"], {}, rows, LABELS, seed=0).n_trials == 0


def test_of_more_rows_than_needed_a_linear_student_draws_some() -> None:
    rows = dataset(LABELS, 400)
    some, all_ = (make_table_student("linear", {"most_rows": n}).fit(rows, LABELS, seed=0) for n in (200, 400))
    asked = dataset(LABELS, 100, seed=1)
    difference = np.abs(some.predict_proba(asked) - all_.predict_proba(asked)).mean()
    assert 0 < difference < 0.1
