"""What each column added to an answer: against brute force, against LightGBM, and in words."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.errors import ArtifactError as Mismatch
from factory.records import all_kept
from factory.records_table import cells_of
from factory.release.export_table import ExportTableParams, as_json_rows, export_table
from factory.release.predict import ArtifactError, Predictor
from factory.release.table_explain import Explainer, _Trees
from factory.students import TABLE_STUDENTS, make_table_student
from factory.students.tables.explained import of_trees
from factory.students.tables.features import Feature
from factory.students.tables.lightgbm import _read
from factory.students.tables.trees import AT_MOST, IS_CODE, Leaf, Node, Split, Trees
from factory.students.training import FittedStudent
from tests.tables import LABELS, NUMBERS, THREE, dataset

QUICK: dict[str, dict[str, Any]] = {
    "ebm": {"outer_bags": 1, "interactions": 2, "bins": 16},
    "lightgbm": {"rounds": 30},
    "hist-gradient-boosting": {"rounds": 20},
}
TABLES = {"labels": LABELS, "three": THREE, "numbers": NUMBERS}


def random_node(rng: np.random.Generator, depth: int, n_targets: int) -> Node:
    """Return a tree over four inputs, of which the last has codes."""
    if depth == 0 or rng.random() < 0.15:
        targets = sorted(set(rng.integers(0, n_targets, size=2).tolist()))
        return Leaf(tuple((target, float(rng.normal())) for target in targets))
    position = int(rng.integers(0, 4))
    value = float(rng.integers(0, 3)) if position == 3 else float(np.float32(rng.normal()))
    sides = (random_node(rng, depth - 1, n_targets) for _ in "ab")
    return Split(position, IS_CODE if position == 3 else AT_MOST, value, *sides, missing_yes=bool(rng.integers(2)))


def random_rows(rng: np.random.Generator, n: int) -> Any:
    matrix = rng.normal(size=(n, 4)).astype(np.float32)
    matrix[:, 3] = rng.integers(0, 3, n)
    matrix[rng.random((n, 4)) < 0.2] = np.nan
    return matrix


def expected_score(root: Node, row: Any, known: set[int], columns: Any, rows: Any) -> Any:
    """Follow a tree by the row where its column is known, else both ways by the share of training rows."""
    if isinstance(root, Leaf):
        return np.array([dict(root.weights).get(target, 0.0) for target in range(2)])
    goes = [_is_yes(root, one) for one in rows]
    sides = [[one for one, yes in zip(rows, goes, strict=True) if yes is side] for side in (True, False)]
    if columns[root.input] in known:
        side = _is_yes(root, row)
        return expected_score(root.yes if side else root.no, row, known, columns, sides[0 if side else 1])
    share = len(sides[0]) / len(rows) if rows else 0.5
    found = [
        expected_score(side, row, known, columns, its) for side, its in zip((root.yes, root.no), sides, strict=True)
    ]
    return share * found[0] + (1 - share) * found[1]


def _is_yes(split: Split, row: Any) -> bool:
    cell = row[split.input]
    if math.isnan(cell):
        return split.missing_yes
    return bool(cell == split.value if split.mode == IS_CODE else cell <= split.value)


@pytest.mark.parametrize("seed", range(8))
def test_shares_of_trees_are_shapley_values_of_columns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = np.array([0, 1, 1, 2])  # the second column is two inputs, as a date is three
    roots = [random_node(rng, 5, 2) for _ in range(3)]
    matrix = random_rows(rng, 60)
    trees = Trees.of(roots, np.array([0.3, -0.2]), 4)
    model = _Trees(of_trees(trees, matrix), columns)
    for row in random_rows(rng, 3):
        games = {
            known: sum(expected_score(root, row, set(known), columns, list(matrix)) for root in roots)
            for size in range(4)
            for known in itertools.combinations(range(3), size)
        }
        expected = np.zeros((3, 2))
        for player in range(3):
            for known, value in games.items():
                if player not in known:
                    share = math.factorial(len(known)) * math.factorial(2 - len(known)) / math.factorial(3)
                    expected[player] += share * (games[tuple(sorted((*known, player)))] - value)
        found = model.shares(row)
        assert np.allclose(found, expected, atol=1e-5)
        assert np.allclose(model.base + found.sum(axis=0), trees.scores(row[None])[0], atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_shares_are_those_of_lightgbm(seed: int) -> None:
    import lightgbm

    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(400, 5)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.15] = np.nan
    filled = np.nan_to_num(matrix)
    answer = filled[:, 0] * filled[:, 1] + np.abs(filled[:, 2]) + rng.normal(0, 0.1, 400)
    params = {"objective": "regression", "num_leaves": 12, "verbosity": -1, "num_threads": 1, "seed": seed}
    booster = lightgbm.train(params, lightgbm.Dataset(matrix, answer, params={"verbosity": -1}), 25)
    features = [Feature(position) for position in range(5)]
    trees = _read(booster.dump_model(), features, np.array([]), 0, 5)
    model = _Trees(of_trees(trees, matrix), np.arange(5))
    expected = np.asarray(booster.predict(matrix[:20], pred_contrib=True))
    found = np.stack([model.shares(row)[:, 0] for row in matrix[:20]])
    assert np.allclose(found, expected[:, :-1], atol=1e-5)
    assert np.allclose(model.base, expected[0, -1], atol=1e-5)


@pytest.fixture(scope="module", params=TABLE_STUDENTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=TABLES)
def released(request: pytest.FixtureRequest, name: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a released folder and the student in it."""
    table = TABLES[request.param]
    if name == "scorecard" and not table.labels:
        pytest.skip("for classifications only")
    rows = dataset(table, 200)
    student = make_table_student(name, QUICK.get(name, {})).fit(rows, table, seed=0)
    params = ExportTableParams(name="loans", table=table, calibration_temperature=1.5)
    exported = export_table(params, fitted=FittedStudent(name, student, 200), rows=all_kept(rows))
    folder = tmp_path_factory.mktemp("released")
    exported.save(folder)
    return folder, student


def test_shares_of_a_release_add_up_to_its_score(released: Any) -> None:
    folder, student = released
    rows = dataset(LABELS if student.labels_ else NUMBERS, 20, seed=7, missing=0.3)
    predictor = Predictor(folder)
    asked = as_json_rows(rows)
    logits = predictor.predict_logits(asked)
    for row, found in zip(logits, predictor.explain(asked), strict=True):
        total = found["base"] + sum(one["share"] for one in found["shares"])
        assert found["score"] == pytest.approx(total)
        at = predictor.labels.index(found["label"]) if predictor.labels else 0
        score = row[at] - np.delete(row, at).mean() if predictor.labels else row[0]
        assert found["score"] == pytest.approx(score, rel=1e-3, abs=1e-3)
        if len(predictor.labels) == 2:
            assert found["probability"] == pytest.approx(1 / (1 + math.exp(-found["score"])), abs=1e-3)


def test_shares_of_an_additive_student_are_the_parts_of_its_sum(released: Any, name: str) -> None:
    if name not in ("linear", "scorecard"):
        pytest.skip("trees")
    folder, student = released
    rows = dataset(LABELS, 30, seed=5)
    matrix = student.encoding_.matrix(cells_of(rows))
    explainer = Explainer(folder, Predictor(folder).config)
    shares = explainer.shares(matrix)
    changed = matrix.copy()
    changed[:, 0] = 60.0  # the first column alone
    moved = student.fitted_.scores(changed) - student.fitted_.scores(matrix)
    assert np.allclose(explainer.shares(changed)[:, 0] - shares[:, 0], moved, atol=1e-4)
    assert np.allclose(explainer.shares(changed)[:, 1:], shares[:, 1:])


def test_a_folder_whose_shares_do_not_add_up_is_not_released() -> None:
    rows = all_kept(dataset(LABELS, 80))
    student = make_table_student("linear", {}).fit(rows.kept, LABELS, seed=0)

    class Liar:
        labels_, to_onnx, predict_proba = student.labels_, student.to_onnx, student.predict_proba

        def explanation(self, asked: Any) -> Any:
            arrays = student.explanation(asked)
            return {**arrays, "weights": arrays["weights"] * 1.1}

    with pytest.raises(Mismatch, match="linear: shares add up to"):
        export_table(
            ExportTableParams(name="loans", table=LABELS), fitted=FittedStudent("linear", Liar(), 80), rows=rows
        )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Return a release whose columns have descriptions and units."""
    told = {
        "age": {"description": "age of the applicant; in full years", "unit": "years"},
        "owns": {"description": "owns a home"},
    }
    columns = tuple(one.model_copy(update=told.get(one.name, {})) for one in LABELS.columns)
    table = LABELS.model_copy(update={"columns": columns})
    rows = dataset(table, 300)
    student = make_table_student("linear", {}).fit(rows, table, seed=0)
    exported = export_table(
        ExportTableParams(name="loans", table=table), fitted=FittedStudent("linear", student, 300), rows=all_kept(rows)
    )
    folder = tmp_path_factory.mktemp("clerk")
    exported.save(folder)
    return Predictor(folder)


ROW = {"age": 88, "pay": 1200.0, "owns": True, "job": "cook", "school": "none", "since": None, "note": "paid early"}


def test_an_explanation_names_columns_with_their_values_and_units(clerk: Predictor) -> None:
    (found,) = clerk.explain([ROW])
    assert found["label"] == found["explained"] == "no" and found["probability"] > 0.5
    assert [one["column"] for one in found["shares"][:2]] == ["pay", "job"]
    words = {one["column"]: one["words"] for one in found["shares"]}
    assert words["age"] == "age of the applicant (88 years)" and words["owns"] == "owns a home (yes)"
    assert words["since"] == "since (not known)" and words["pay"] == "pay (1200.0)"
    assert (
        found["summary"].startswith("no, ") and " %: pay (1200.0) raised it most, then job (cook)" in found["summary"]
    )
    assert "age of the applicant (88 years) lowered it most" in found["summary"]
    (other,) = clerk.explain([{"features": ROW}], label="yes")
    assert other["shares"][0]["share"] == pytest.approx(-found["shares"][0]["share"])
    (new,) = clerk.explain([{**ROW, "job": "astronaut"}])
    assert "job (astronaut, which no training row had)" in {one["words"] for one in new["shares"]}


def test_what_cannot_be_explained_is_said(clerk: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="'maybe' is no label of no, yes"):
        clerk.explain([ROW], label="maybe")
    with pytest.raises(ArtifactError, match="row 1: no key 'pay'"):
        clerk.explain([{"age": 1}])
    for path in clerk.folder.iterdir():
        if path.name != "explain.npz":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ArtifactError, match=r"holds no explain\.npz"):
        Predictor(tmp_path).explain([ROW])


def test_the_folder_alone_explains(clerk: Predictor, tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, str(clerk.folder / "predict.py"), "--explain", json.dumps(ROW)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env={"PATH": ""})
    assert done.stdout.strip() == clerk.explain([ROW])[0]["summary"]
    whole = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, env={"PATH": ""})
    assert json.loads(whole.stdout) == clerk.explain([ROW])[0]


def test_a_category_of_many_values_is_explained_without_delay() -> None:
    """A chain of 1,000 questions, as an EBM asks about a category, is one column's and one level each."""
    root: Node = Leaf(((0, 0.0),))
    for code in range(1_000):
        root = Split(0, IS_CODE, float(code), Leaf(((0, float(code)),)), root, missing_yes=False)
    trees = Trees.of([root], np.zeros(1), 1)
    matrix = np.arange(1_000, dtype=np.float32)[:, None]
    model = _Trees(of_trees(trees, matrix), np.array([0]))
    assert model.base[0] == pytest.approx(499.5, abs=1e-2)
    assert model.shares(matrix[700])[0, 0] == pytest.approx(700 - 499.5, abs=1e-2)
