"""`factory build` as a Prefect flow: each stage of the recipe is a Prefect task, the store is the cache."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from pydantic import BaseModel

from factory.check import check_task
from factory.encoders import load_encoder
from factory.errors import FactoryError
from factory.events import TeacherUsed, Warned, emit, listening, used_together
from factory.labelling.voters import TEACHER
from factory.store import Artifact, Resource, Result, Stage, run_stage, sweep
from factory.students.training import resources_for
from factory.teacher import Teacher
from flows.builds import BuildNote
from flows.outcome import Outcome, release
from flows.recipe import recipe
from flows.spent import Spent
from flows.teachers import opened

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
    task_run_name="{name}",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=list(RETRY_DELAYS_S),
    retry_condition_fn=is_retryable,
)
def step(name: str, work: Callable[[], T]) -> T:
    """Do one piece of a build."""
    return work()


@dataclass
class Steps:
    """A runner that makes each stage a Prefect task, stores its result and remembers the artifact."""

    root: Path
    teacher: Teacher
    note: BuildNote
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
        artifact: Artifact[R] = step(stage.name, lambda: work())
        if artifact.was_cached:
            # The budget says what a build costs from scratch: what a stored stage cost counts, or a build that is
            # resumed again and again would spend the budget again and again.
            spent.charge(artifact.manifest["varying"])
        self.artifacts.append(artifact)
        self.note.used(artifact)
        return artifact

    def peek(self, artifact: Artifact[R]) -> R | None:
        """Return a result."""
        return artifact.load()


@flow(name="build")
def build(folder: Path, outputs: Path = Path("outputs")) -> Outcome:
    """Build, judge, package and register a small model.

    Args:
        folder: Task folder with a `spec.yaml`.
        outputs: Where results and models go.

    Returns:
        The verdict and where the model is.
    """
    started = time.monotonic()
    checked = check_task(folder)
    root = outputs / checked.spec.name
    sweep(root)
    # An encoder that cannot be had is said before the teacher is asked.
    if not checked.spec.kind.is_table:
        load_encoder(checked.spec.encoder)
    for plugin in checked.spec.students:
        resources_for(plugin.name, plugin.params)
    usage: dict[str, TeacherUsed] = {}
    with (
        opened(checked.spec, folder, outputs) as teachers,
        listening(lambda event: usage.update({event.teacher: event}) if isinstance(event, TeacherUsed) else None),
    ):
        teacher = teachers[TEACHER]
        others = {one.identity: one.spending.prices for one in teachers.values() if one is not teacher}
        run = Steps(root, teacher, BuildNote(root, prices=teacher.spending.prices, other_prices=others))
        products = recipe(checked, teacher, run, teachers)
    outcome: Outcome = step("register", lambda: release(checked, products, run.artifacts, outputs, run))
    run.note.finished()
    return replace(outcome, seconds=time.monotonic() - started, teacher=used_together(usage.values()))
