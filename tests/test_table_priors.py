"""Builds of tables that ask the teacher about columns: without labelled rows, with few, and not at all."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from factory.check import check_task
from factory.errors import FactoryError
from factory.tables.priors import Priors
from factory.teacher.protocol import Reply, Request, TokenLogprob
from factory.teacher.scripted import ScriptedTeacher
from flows.build import Wishes
from flows.build import build as build_flow
from flows.outcome import Outcome, release
from flows.plan import make_plan
from flows.recipe import recipe
from flows.table_priors import wants_priors
from tests.plain_runner import Plain
from tests.tables import COLUMNS, LABELS, NUMBERS, make_task, raw_rows

CHANCES = {"cook": 0.2, "nurse": 0.8, "second": 0.7, "400": 0.1, "3600": 0.9}
"""Of `yes`, by the cell that is asked about; of a pay above 2000 too."""


def knowing(request: Request) -> Reply:
    """Answer questions about single cells, and about whole rows by their pay."""
    lines = request.messages[-1].content.split("\n")
    cell = lines[1].rpartition(": ")[2]
    pay = next((line.rpartition(": ")[2] for line in lines[:-1] if line.startswith("pay") and len(lines) > 3), "")
    chance = (0.8 if float(pay) > 2000 else 0.2) if pay else CHANCES.get(cell, 0.5)
    yes, no = request.schema["enum"][1], request.schema["enum"][0]  # type: ignore[index]
    options = ((yes, math.log(chance)), (no, math.log(1 - chance)))
    word, logprob = max(options, key=lambda one: one[1])
    quote = TokenLogprob('"', 0.0, (('"', 0.0),))
    return Reply(f'"{word}', "length", 10, 2, (quote, TokenLogprob(word, logprob, options)))


def short_task(folder: Path, n_rows: int, **changes: Any) -> Path:
    """Write a task whose training file has so many rows, none with 0, and a pool."""
    make_task(folder, students=["linear"], **changes)
    head, *lines = (folder / "train.csv").read_text(encoding="utf-8").splitlines()
    (folder / "train.csv").write_text("\n".join([head, *(lines * 2)[:n_rows]]) + "\n", encoding="utf-8")
    pool, _ = raw_rows(40, seed=5)
    (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pool), encoding="utf-8")
    return folder


def build(folder: Path, teacher: Any) -> tuple[Outcome, Plain]:
    task = check_task(folder)
    run = Plain(folder.parent / "out" / "loans")
    products = recipe(task, teacher, run)
    return release(task, products, list(run.artifacts.values()), folder.parent / "out", run), run


@pytest.fixture(scope="module")
def untaught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Plain]:
    """Return a build with nothing but a holdout."""
    folder = tmp_path_factory.mktemp("table") / "loans"
    known = {"pay": {"range": (0, 4000)}, "job": {"values": ("cook", "smith", "nurse")}}
    columns = tuple(one.model_copy(update=known.get(one.name, {})) for one in COLUMNS)
    table = LABELS.model_copy(update={"columns": columns})
    changes = {"data": {"holdout": "holdout.csv"}, "labelling": {"ask_directly": 20}}
    return build(short_task(folder, 0, table=table, **changes), ScriptedTeacher(knowing))


def test_without_labelled_rows_a_scorecard_is_made_of_what_the_teacher_believes(
    untaught: tuple[Outcome, Plain],
) -> None:
    outcome, run = untaught
    auc = {one.contender: one.estimate.value for one in outcome.evaluation.scores if one.figure == "auc"}
    assert auc["student"] > 0.7 and auc["majority"] == 0.5
    assert outcome.evaluation.regime.value == "Z0"
    assert len(run.artifacts["priors"].load().priors) == len(COLUMNS)
    assert not [name for name in run.artifacts if name.startswith(("tune", "cross-predict"))]
    assert "scorecard" in (outcome.folder / "card.md").read_text(encoding="utf-8")


def test_the_teacher_itself_answers_a_sample_of_the_gold_rows(untaught: tuple[Outcome, Plain]) -> None:
    contenders = {one.name: one for one in untaught[0].evaluation.contenders}
    assert contenders["teacher"].n == 20
    assert contenders["teacher"].accuracy.value > 0.5
    (auc,) = [one for one in untaught[0].evaluation.scores if (one.contender, one.figure) == ("teacher", "auc")]
    assert auc.estimate.value > 0.5 and auc.minus is not None


def test_labels_of_the_holdout_are_hidden_from_what_the_student_is_compared_on(
    untaught: tuple[Outcome, Plain],
) -> None:
    shown = untaught[1].artifacts["unlabel-shown"].load()
    assert len(shown.kept) == 60 and set(shown.kept["label"]) == {None}
    assert len(untaught[1].artifacts["unlabel-none"].load().kept) == 0


def test_a_model_that_no_row_can_judge_is_refused(tmp_path: Path) -> None:
    folder = short_task(tmp_path / "loans", 0, data={"pool": "pool.jsonl"})
    with pytest.raises(FactoryError, match="nobody could say how good a model without any labelled row is"):
        build(folder, ScriptedTeacher(knowing))


def test_a_number_cannot_be_predicted_without_rows(tmp_path: Path) -> None:
    folder = short_task(tmp_path / "loans", 0, table=NUMBERS, data={"holdout": "holdout.csv"})
    with pytest.raises(FactoryError, match="a table needs rows to train on"):
        build(folder, ScriptedTeacher(knowing))


@pytest.mark.parametrize("table", [LABELS, NUMBERS])
def test_few_rows_and_a_teacher_make_a_scorecard_one_of_the_students(table: Any, tmp_path: Path) -> None:
    folder = short_task(tmp_path / "loans", 30, table=table, teacher={"name": "embedded"})
    outcome, run = build(folder, ScriptedTeacher(knowing))
    assert "scorecard" in {one.name for one in outcome.evaluation.contenders}
    fitted = run.artifacts["fit-scorecard"].load().student
    assert Priors.from_json(fitted.priors) == run.artifacts["priors"].load()
    if outcome.evaluation.champion == "scorecard":
        assert "without-priors" in {one.name for one in outcome.evaluation.contenders}


@pytest.mark.parametrize(
    ("n_rows", "changes", "wants"),
    [
        (0, {"data": {"holdout": "holdout.csv"}}, True),
        (30, {}, False),
        (30, {"teacher": {"name": "embedded"}}, True),
        (30, {"teacher": {"name": "embedded"}, "priors": {"ask": "never"}}, False),
        (250, {"teacher": {"name": "embedded"}}, False),
        (250, {"priors": {"ask": "always"}}, True),
    ],
)
def test_the_teacher_is_asked_where_rows_are_few_or_the_spec_says_so(
    n_rows: int, changes: dict[str, Any], wants: bool, tmp_path: Path
) -> None:
    assert wants_priors(check_task(short_task(tmp_path / "loans", n_rows, **changes))) is wants


@pytest.mark.parametrize("wishes", [Wishes(), Wishes(most_calls=5)])
def test_what_a_run_wants_otherwise_names_no_teacher(wishes: Wishes, tmp_path: Path) -> None:
    task = check_task(short_task(tmp_path / "loans", 30))
    assert not wants_priors(wishes.applied_to(task))


@pytest.mark.slow
def test_a_build_asks_no_more_than_its_plan_counts(prefect_home: Path, tmp_path: Path) -> None:
    folder, outputs = short_task(tmp_path / "loans", 64), tmp_path / "out"
    plan = make_plan(check_task(folder), outputs)
    outcome = build_flow(folder, outputs)
    stages = {one["stage"] for one in json.loads((outcome.folder / "lineage.json").read_text("utf-8"))["stages"]}
    assert not plan.cost.calls and outcome.teacher is None
    assert {stage.name for stage in plan.stages} <= stages and "priors" not in stages
    assert "scorecard" not in {one.name for one in outcome.evaluation.contenders}


def test_the_plan_counts_the_questions(tmp_path: Path) -> None:
    task = check_task(short_task(tmp_path / "loans", 30, priors={"ask": "always"}, labelling={"ask_directly": 10}))
    stages = {stage.name: stage for stage in make_plan(task, tmp_path / "out").stages}
    # Two numbers of three points, a truth, three values, and four guessed for the jobs that only rows can tell.
    assert stages["priors"].cost.calls == 3 + 3 + 2 + 3 + 4
    assert stages["annotate-holdout"].cost.calls == 10
