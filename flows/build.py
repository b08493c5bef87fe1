"""`factory build` as a Prefect flow: each stage of the recipe is a Prefect task, the store is the cache."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from pydantic import BaseModel, ValidationError

from factory.check import Task, check_task
from factory.encoders import load_encoder
from factory.errors import FactoryError
from factory.events import TeacherUsed, Warned, emit, listening, used_together
from factory.labelling.voters import TEACHER
from factory.result_folder import sweep
from factory.spec import TeacherSpec
from factory.store import Artifact, Resource, Result, Stage, run_stage
from factory.students.training import resources_for
from factory.teacher import Teacher
from flows.builds import BuildNote
from flows.following import Following, followed, publish_outcome
from flows.outcome import Outcome, release
from flows.recipe import recipe
from flows.spent import Spent
from flows.teachers import opened
from flows.titles import title_of

R = TypeVar("R", bound=Result)
T = TypeVar("T")


RETRY_DELAYS_S = (5, 30)


def is_retryable(_task: object, task_run: TaskRun, state: State[Any]) -> bool:
    """Retry only what may succeed the next time, and say so: Prefect asks only while there are retries left."""
    try:
        state.result()
    except FactoryError as error:
        if error.retryable:
            wait_s = RETRY_DELAYS_S[min(max(task_run.run_count, 1), len(RETRY_DELAYS_S)) - 1]
            emit(Warned(task_run.name, f"teacher out of reach: {error}; trying the stage again in {wait_s} s"))
        return error.retryable
    except Exception:
        return False
    return False


@task(
    cache_policy=NO_CACHE,  # the store remembers; Prefect's keys miss changed files and helpers
    task_run_name="{title}",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=list(RETRY_DELAYS_S),
    retry_condition_fn=is_retryable,
)
def step(title: str, work: Callable[[], T]) -> T:
    """Do one piece of a build."""
    return work()


@dataclass
class Steps:
    """A runner that makes each stage a Prefect task, stores its result and remembers the artifact."""

    root: Path
    teacher: Teacher
    note: BuildNote
    shown: Following
    artifacts: list[Artifact[Any]] = field(default_factory=list)

    def __call__(
        self,
        stage: Stage[R],
        params: BaseModel,
        *,
        inputs: Mapping[str, Artifact[Any]] | None = None,
        resources: Mapping[str, Resource] | None = None,
    ) -> Artifact[R]:
        """Run a stage, or return what it gave before."""
        asked: Teacher = (resources or {}).get("teacher", self.teacher)  # type: ignore[assignment]  # by its name
        spent = Spent(asked.spending)
        work = partial(
            run_stage, self.root, stage, params, inputs=inputs, resources=resources, measured=spent.as_manifest
        )
        # A closure, because Prefect walks through every argument of a task and copies what it finds.
        artifact: Artifact[R] = step(title_of(stage.name), lambda: work())
        if artifact.was_cached:
            # The budget says what a build costs from scratch: what a stored stage cost counts, or a build that is
            # resumed again and again would spend the budget again and again.
            spent.charge(artifact.manifest["varying"])
        self.artifacts.append(artifact)
        self.note.used(artifact)
        self.shown.finished(artifact)
        return artifact

    def peek(self, artifact: Artifact[R]) -> R | None:
        """Return a result."""
        return artifact.load()


@dataclass(frozen=True)
class Wishes:
    """What the person who starts a run wants otherwise than the spec says; None: as it says."""

    most_calls: int | None = None
    most_usd: float | None = None
    promotion: Literal["gate", "ask"] | None = None

    def applied_to(self, checked: Task) -> Task:
        """Return a task with these wishes in its spec."""
        spec = checked.spec
        bounds = {"calls": self.most_calls, "usd": self.most_usd}
        budget = spec.teacher.budget.model_dump() | {unit: most for unit, most in bounds.items() if most is not None}
        try:
            teacher = TeacherSpec.model_validate({**spec.teacher.model_dump(), "budget": budget})
        except ValidationError as error:
            raise FactoryError(f"{spec.name}: teacher: {error.errors()[0]['msg']}") from error
        changed = {"teacher": teacher, "promotion": self.promotion or spec.promotion}
        return replace(checked, spec=spec.model_copy(update=changed))


AS_THE_SPEC_SAYS = Wishes()


@contextmanager
def running(task_: Task, outputs: Path, *, wanted: int | None = None) -> Iterator[tuple[Steps, Mapping[str, Teacher]]]:
    """Lend a runner whose stages Prefect shows, and all teachers; who uses it says when the run is finished.

    Args:
        task_: What is worked on.
        outputs: Where results go.
        wanted: Rows that are wanted in all; default: what the spec says.

    Yields:
        The runner and the teachers by name.
    """
    root = outputs / task_.spec.name
    sweep(root)
    with followed(task_.spec, wanted=wanted) as shown, opened(task_.spec, task_.folder, outputs) as teachers:
        teacher = teachers[TEACHER]
        others = {one.identity: one.spending.prices for one in teachers.values() if one is not teacher}
        note = BuildNote(root, prices=teacher.spending.prices, other_prices=others)
        yield Steps(root, teacher, note, shown), teachers


def run_build(folder: Path, outputs: Path, wishes: Wishes = AS_THE_SPEC_SAYS) -> Outcome:
    """Build, judge, package and register a small model; inside of any flow.

    Args:
        folder: Task folder with a `spec.yaml`.
        outputs: Where results and models go.
        wishes: What to do otherwise than the spec says.

    Returns:
        The verdict and where the model is.
    """
    started = time.monotonic()
    checked = wishes.applied_to(check_task(folder))
    # An encoder that cannot be had is said before the teacher is asked.
    if not checked.spec.kind.is_table:
        load_encoder(checked.spec.encoder)
    for plugin in checked.spec.students:
        resources_for(plugin.name, plugin.params)
    usage: dict[str, TeacherUsed] = {}
    with listening(lambda event: usage.update({event.teacher: event}) if isinstance(event, TeacherUsed) else None):
        with running(checked, outputs) as (run, teachers):
            products = recipe(checked, run.teacher, run, teachers)
        outcome: Outcome = step(title_of("register"), lambda: release(checked, products, run.artifacts, outputs, run))
    run.note.finished()
    outcome = replace(outcome, seconds=time.monotonic() - started, teacher=used_together(usage.values()))
    publish_outcome(outcome)
    return outcome


@flow(name="build", flow_run_name=lambda: f"build {Path(runtime.flow_run.parameters['folder']).name}")
def build(folder: Path, outputs: Path = Path("outputs")) -> Outcome:
    """Build, judge, package and register a small model.

    Args:
        folder: Task folder with a `spec.yaml`.
        outputs: Where results and models go.

    Returns:
        The verdict and where the model is.
    """
    return run_build(folder, outputs)
