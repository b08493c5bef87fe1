"""`factory plan`: what a build would do, found without doing any of it."""

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from factory.check import check_task
from factory.store import Artifact, Result, Stage, run_stage
from factory.teacher import Teacher, open_teacher
from factory.teacher.budget import Spending
from flows.plan import Plan, make_plan, print_plan
from flows.recipe import recipe
from flows.spent import Spent
from tests.conftest import Factory
from tests.fault_server import FaultServer
from tests.plain_runner import Plain
from tests.scripted_task import LABELS, make_task
from tests.test_build import QUICK, Walk, described, walk

R = TypeVar("R", bound=Result)


def plan(folder: Path, outputs: Path) -> Plan:
    return make_plan(check_task(folder), outputs)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return make_task(tmp_path / "task", **QUICK)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plan")


@pytest.fixture(scope="module")
def built(place: Path) -> Walk:
    return walk(make_task(place / "task", **QUICK), place / "outputs")


def test_a_plan_lists_the_stages_and_leaves_nothing_behind(task: Path, tmp_path: Path) -> None:
    planned = plan(task, tmp_path / "outputs")
    names = [stage.name for stage in planned.stages]
    assert names[:3] == ["attributes-1", "verify-attributes-1", "gather-1"]
    assert names[-3:] == ["export", "evaluate", "measure"]
    assert not any(stage.is_cached for stage in planned.stages)
    assert planned.stages[0].because == "never run"
    assert {stage.because for stage in planned.stages[1:]} == {"waits for attributes-1"}
    assert not (tmp_path / "outputs").exists()


def test_a_plan_asks_the_teacher_nothing(tmp_path: Path) -> None:
    with FaultServer() as server:
        teacher = {"name": "openai", "model": "stub", "base_url": f"{server.url}/v1"}
        planned = plan(make_task(tmp_path / "task", teacher=teacher), tmp_path / "outputs")
        assert planned.cost.calls > 0
        assert server.bodies == []


def test_only_stages_that_ask_the_teacher_cost_something(tmp_path: Path) -> None:
    planned = plan(make_task(tmp_path / "task"), tmp_path / "outputs")
    asking = {stage.name for stage in planned.stages if stage.cost.calls}
    assert asking == {"attributes-1", "verify-attributes-1", "annotate-holdout"}


def test_the_forecast_is_near_what_the_build_asks(place: Path, built: Walk, tmp_path: Path) -> None:
    planned = plan(place / "task", tmp_path / "nothing-yet")
    assert planned.cost.calls == pytest.approx(len(built.asked), rel=0.5)


@dataclass
class Counting(Plain):
    """Notes what each stage spent, as `flows.build` does."""

    teacher: Teacher | None = None

    def __call__(self, stage: Stage[R], params: BaseModel, **more: Any) -> Artifact[R]:
        assert self.teacher is not None
        measured = Spent(self.teacher.spending).as_manifest
        artifact: Artifact[R] = run_stage(self.root, stage, params, measured=measured, **more)
        return artifact


def spent_by(folder: Path, outputs: Path) -> Spending:
    task = check_task(folder)
    with closing(open_teacher(task.spec.teacher, folder=folder, outputs=outputs)) as teacher:
        recipe(task, teacher, Counting(outputs / task.spec.name, teacher=teacher))
        return teacher.spending


def test_after_one_build_the_forecast_of_the_next_is_within_a_quarter(tmp_path: Path) -> None:
    more = {**QUICK, "synthesis": {"per_label": 14, "max_rounds": 1}}
    spent_by(make_task(tmp_path / "one", **{**more, "seed": 1}), tmp_path / "outputs")
    other = make_task(tmp_path / "two", **{**more, "seed": 2})
    planned = plan(other, tmp_path / "outputs").cost
    spent = spent_by(other, tmp_path / "elsewhere")
    assert planned.calls == pytest.approx(spent.calls, rel=0.25)
    assert planned.prompt_tokens == pytest.approx(spent.usage.prompt_tokens, rel=0.25)
    assert planned.completion_tokens == pytest.approx(spent.usage.completion_tokens, rel=0.25)


def test_after_a_build_everything_is_cached_and_free(place: Path, built: Walk) -> None:
    planned = plan(place / "task", place / "outputs")
    assert [stage.name for stage in planned.stages] == list(built.artifacts)
    assert all(stage.is_cached for stage in planned.stages)
    assert planned.cost.calls == 0


def test_a_change_is_named_and_what_does_not_depend_on_it_stays(place: Path, built: Walk, tmp_path: Path) -> None:
    students = [{"name": "tfidf-linear", "params": {"strength": 3.0}}]
    planned = plan(make_task(tmp_path / "task", **{**QUICK, "students": students}), place / "outputs")
    because = {stage.name: stage.because for stage in planned.stages}
    assert because["verify-attributes-1"] == ""
    assert because["fit-tfidf-linear"] == "params.params.strength changed"
    assert planned.cost.calls == 0

    labels = described(music=f"{LABELS['music']} again")
    planned = plan(make_task(tmp_path / "other", **{**QUICK, "labels": labels}), place / "outputs")
    because = {stage.name: stage.because for stage in planned.stages}
    assert because["attributes-1"] == "params.labels[1].description changed"
    assert because["export"] == "waits for attributes-1"
    assert planned.cost.calls > 0


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ({"name": "embedded"}, "about 1 minutes"),
        ({"name": "openai", "model": "m"}, "time unknown, price unknown (set teacher.prices)"),
        (
            {"name": "openai", "model": "m", "prices": {"input_usd_per_million": 1e4, "output_usd_per_million": 1e4}},
            "time unknown, $",
        ),
    ],
    ids=["embedded", "openai", "openai with prices"],
)
def test_time_and_money_are_said_where_they_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], teacher: dict[str, object], said: str
) -> None:
    planned = plan(make_task(tmp_path / "task", **{**QUICK, "teacher": teacher}), tmp_path / "outputs")
    assert (planned.usd or 0) >= 0
    print_plan(planned)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("scripted: about ")
    if teacher["name"] == "embedded":
        assert planned.minutes is not None
        said = f"about {planned.minutes:.0f} minutes, $0.00"
    assert said in last


def test_plan_json_has_every_stage(factory: Factory, place: Path, built: Walk) -> None:
    done = factory("plan", place / "task", "--out", place / "outputs", "--json")
    found = json.loads(done.out)
    assert [stage["name"] for stage in found["stages"]] == list(built.artifacts)
    assert found["task"] == "scripted"
    assert set(found["cost"].values()) == {0}
    assert (done.code, done.err) == (0, "")
