"""The scorecard: priors alone without rows, priors moved by rows with some, answers that can be read off."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.errors import FactoryError
from factory.records import Origin
from factory.records_table import cells_of, table_dataset
from factory.spec import Label
from factory.spec_table import Column, ColumnKind, Table, Target
from factory.students.tables.believing import Expected, believed_as_far_as_rows_say, most_probable
from factory.students.tables.scorecard import Scorecard
from factory.students.tables.targets import Answers
from factory.students.tables.trees import open_graph
from factory.tables.cells import arrow_type
from factory.tables.priors import LOWER_HIGHER, Prior, Priors

COLUMNS = (
    Column(name="income", kind=ColumnKind.NUMERIC),
    Column(name="home", kind=ColumnKind.CATEGORY),
    Column(name="level", kind=ColumnKind.ORDINAL, values=("low", "middle", "high")),
    Column(name="phone", kind=ColumnKind.BOOLEAN),
    Column(name="shoe", kind=ColumnKind.NUMERIC),
)
NAMES = ("bad", "good")
TABLE = Table(columns=COLUMNS, target=Target(column="risk"), labels=tuple(Label(name=name) for name in NAMES))
NUMBER = TABLE.model_copy(update={"labels": ()})
FLAT = Prior("shoe", (), (), 0.0, 0.0, "the teacher sees no difference")


def prior(column: str, points: tuple[Any, ...], *good: float) -> Prior:
    return Prior(column, points, tuple((-one, one) for one in good), 1.0, 0.0)


PRIORS = Priors(
    NAMES,
    (
        prior("income", (100.0, 500.0, 900.0), -1.0, 0.0, 1.0),
        prior("home", ("own", "rent"), 0.5, -0.5),
        prior("level", ("low", "middle", "high"), -0.2, -0.2, 0.4),
        prior("phone", ("no", "yes"), -0.1, 0.1),
        Prior("shoe", (), (), 0.0, 0.0, "the teacher sees no difference"),
    ),
)


def rows_of(n: int, *, seed: int = 0, **fixed: list[Any]) -> Any:
    """Return rows whose risk follows income and home, and whose other columns are noise with holes."""
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    income = rng.uniform(0, 1000, n)
    home = rng.choice(["own", "rent"], n)
    good = rng.random(n) < 1 / (1 + np.exp(-(income - 500) / 150 - (home == "own")))
    drawn: dict[str, list[Any]] = {
        "income": [None if hole else float(one) for one, hole in zip(income, rng.random(n) < 0.05, strict=True)],
        "home": list(home),
        "level": list(rng.choice(["low", "middle", "high"], n)),
        "phone": [bool(one) for one in rng.integers(0, 2, n)],
        "shoe": [float(one) for one in rng.normal(42, 2, n)],
        **fixed,
    }
    cells = {one.name: pa.array(drawn[one.name], arrow_type(one.kind)) for one in COLUMNS}
    return table_dataset(cells, pa.array([NAMES[int(one)] for one in good], pa.string()), origin=Origin.GOLD)


def good_of(rows: Any) -> np.ndarray[Any, Any]:
    return np.array([label == "good" for label in rows["label"]])


def auc(scores: np.ndarray[Any, Any], good: np.ndarray[Any, Any]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(good, scores))


def untaught() -> Scorecard:
    return Scorecard(priors=PRIORS.as_json()).fit(rows_of(0), TABLE, seed=0)


def test_without_rows_the_card_is_the_priors() -> None:
    rows = rows_of(400, seed=1)
    assert auc(untaught().predict_proba(rows)[:, 1], good_of(rows)) > 0.75


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("income", 100.0, -1.0),
        ("income", 700.0, 0.5),
        ("income", 5_000.0, 1.0),
        ("income", -5.0, -1.0),
        ("income", None, 0.0),
        ("home", "own", 0.5),
        ("home", "boat", 0.0),
        ("home", None, 0.0),
        ("level", "high", 0.4),
        ("phone", True, 0.1),
        ("shoe", 40.0, 0.0),
    ],
)
def test_a_cell_adds_what_its_prior_says_there(column: str, value: Any, expected: float) -> None:
    nothing: dict[str, list[Any]] = {one.name: [None] for one in COLUMNS}
    card = Scorecard(priors=PRIORS.as_json()).fit(rows_of(0), TABLE, seed=0)
    logits = np.log(card.predict_proba(rows_of(1, **{**nothing, column: [value]}))[0])
    assert (logits[1] - logits[0]) / 2 == pytest.approx(expected / math.sqrt(4), abs=1e-6)  # of four columns


def test_numbers_speak_as_loud_as_words_where_the_teacher_hears_digits_badly() -> None:
    faint = Priors(NAMES, (prior("income", (100.0, 900.0), -0.01, 0.01), prior("home", ("own", "rent"), 0.5, -0.5)))
    student = Scorecard(priors=faint.as_json()).fit(rows_of(0), TABLE, seed=0)
    shares = student.fitted_.shares(student.encoding_.matrix(cells_of(rows_of(500))))[:, :, 1]
    assert np.ptp(shares[:, 0]) == pytest.approx(np.ptp(shares[:, 1]), rel=0.01)


def test_a_few_rows_beat_the_same_student_without_priors() -> None:
    test, found = rows_of(500, seed=99), {True: [], False: []}
    for seed in range(8):
        rows = rows_of(16, seed=seed)
        for has_priors in (True, False):
            student = Scorecard(priors=PRIORS.as_json() if has_priors else {}).fit(rows, TABLE, seed=0)
            found[has_priors].append(auc(student.predict_proba(test)[:, 1], good_of(test)))
    assert np.mean(found[True]) > np.mean(found[False]) + 0.02


def test_many_rows_overrule_priors_that_are_wrong() -> None:
    wrong = Priors(NAMES, (prior("income", (100.0, 900.0), 1.0, -1.0),))
    rows, test = rows_of(1_000), rows_of(500, seed=99)
    student = Scorecard(priors=wrong.as_json()).fit(rows, TABLE, seed=0)
    assert auc(student.predict_proba(test)[:, 1], good_of(test)) > 0.85


@pytest.mark.parametrize("n_rows", [0, 60])
def test_the_shares_of_the_columns_add_up_to_the_answer(n_rows: int) -> None:
    student = Scorecard(priors=PRIORS.as_json()).fit(rows_of(n_rows), TABLE, seed=0)
    matrix = student.encoding_.matrix(cells_of(rows_of(50, seed=5)))
    summed = student.fitted_.shares(matrix).sum(axis=1) + student.fitted_.base
    np.testing.assert_allclose(summed, student.fitted_.scores(matrix), atol=1e-9)


@pytest.mark.parametrize("n_rows", [0, 60])
def test_the_graph_says_the_same(n_rows: int, tmp_path: Path) -> None:
    student = Scorecard(priors=PRIORS.as_json()).fit(rows_of(n_rows), TABLE, seed=0)
    matrix = student.encoding_.matrix(cells_of(rows_of(80, seed=5)))
    logits = open_graph(student.fitted_.model()).run(["logits"], {"cells": matrix})[0]
    np.testing.assert_allclose(logits, student.fitted_.scores(matrix), atol=1e-4)
    student.save(tmp_path)
    np.testing.assert_array_equal(Scorecard.load(tmp_path).fitted_.scores(matrix), student.fitted_.scores(matrix))


def test_neither_rows_nor_priors_is_an_error() -> None:
    with pytest.raises(FactoryError, match="nothing to learn"):
        Scorecard().fit(rows_of(0), TABLE, seed=0)


def test_priors_of_other_labels_are_refused() -> None:
    swapped = TABLE.model_copy(update={"labels": TABLE.labels[::-1]})
    with pytest.raises(FactoryError, match="about the labels bad, good, expected good, bad"):
        Scorecard(priors=PRIORS.as_json()).fit(rows_of(20), swapped, seed=0)
    with pytest.raises(FactoryError, match="about the labels bad, good, expected lower, higher"):
        Scorecard(priors=PRIORS.as_json()).fit(rows_of(20), NUMBER, seed=0)


def priced(n: int, *, seed: int = 0) -> Any:
    """Return rows whose number follows the level, as `PRIORS` has it, with more noise than a few rows can average."""
    import pyarrow as pa

    cells = cells_of(rows_of(n, seed=seed))
    worth = {"low": -0.2, "middle": -0.2, "high": 0.4}
    drawn = np.random.default_rng(seed).normal(0, 0.4, n)
    numbers = [
        1000 + 500 * (worth[level] + noise) for level, noise in zip(cells["level"].to_pylist(), drawn, strict=True)
    ]
    return table_dataset(cells, pa.array(numbers), origin=Origin.GOLD)


def test_what_the_teacher_believes_of_a_number_helps_where_rows_are_few() -> None:
    told = Priors(LOWER_HIGHER, tuple(one if one.column == "level" else FLAT for one in PRIORS.priors))
    test = priced(500, seed=99)
    gold = np.array(test["label"])
    errors = [
        [
            float(
                np.mean(
                    (
                        Scorecard(priors=priors).fit(priced(12, seed=seed), NUMBER, seed=0).predict_proba(test)[:, 0]
                        - gold
                    )
                    ** 2
                )
            )
            for priors in (told.as_json(), {})
        ]
        for seed in range(5)
    ]
    with_priors, without = np.mean(errors, axis=0)
    assert with_priors < 0.95 * without


def test_a_number_needs_rows() -> None:
    told = Priors(LOWER_HIGHER, PRIORS.priors)
    with pytest.raises(FactoryError, match="all 0 rows have the same answer"):
        Scorecard(priors=told.as_json()).fit(priced(0), NUMBER, seed=0)


def test_a_belief_that_many_rows_contradict_is_overruled() -> None:
    wrong = Priors(NAMES, tuple(replace(one, effects=tuple((b, a) for a, b in one.effects)) for one in PRIORS.priors))
    test = rows_of(500, seed=99)
    student = Scorecard(priors=wrong.as_json())
    few, many = (
        auc(student.fit(rows_of(n, seed=1), TABLE, seed=0).predict_proba(test)[:, 1], good_of(test)) for n in (0, 400)
    )
    assert few < 0.3 and many > 0.85


def test_columns_that_never_vary_and_no_priors_still_give_a_student() -> None:
    same: dict[str, list[Any]] = {
        "income": [1.0] * 30, "home": ["own"] * 30, "level": ["low"] * 30, "phone": [True] * 30, "shoe": [None] * 30,
    }  # fmt: skip
    student = Scorecard().fit(rows_of(30, **same), TABLE, seed=0)
    assert np.isfinite(student.predict_proba(rows_of(5))).all()


@pytest.mark.parametrize("n_labels", [0, 2])
def test_beliefs_count_as_far_as_they_foretell_rows_that_were_held_out(n_labels: int) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=60)
    values = truth + rng.normal(0, 0.5, 60)
    answers = Answers(np.arange(60), (values > 0).astype(float) if n_labels else values, np.ones(60))
    sides = np.array([-0.5, 0.5]) if n_labels else np.ones(1)
    firm = Expected(trust=2.0, doubt=0.05, column_doubt=0.05, strength=0.1)
    blank = np.zeros((60, 1))
    told = {}
    for name, believed in (("right", truth), ("wrong", -truth)):
        curves = believed[:, None, None] * sides
        found = believed_as_far_as_rows_say(curves, blank, answers, n_labels, firm, seed=0)
        told[name] = float(found.curves[0] / most_probable(curves, blank, answers, n_labels, firm).curves[0])
    assert told["right"] > 0.99 and told["wrong"] < 0.01
