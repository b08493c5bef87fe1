"""`factory plan`: what a build would do and cost, found by walking the recipe without running it."""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from factory.check import Task
from factory.curation.gather import GatherParams
from factory.curation.select import SelectParams
from factory.data import DataFile
from factory.evaluation.sample import SampleParams
from factory.labelling.annotate import AnnotateParams, AskParams, forecast_labels
from factory.labelling.annotate_table import AnnotateTableParams, forecast_rows
from factory.labelling.asking import LABEL, WAYS
from factory.labelling.priors import PriorsParams, forecast_priors
from factory.labelling.voters import TEACHER
from factory.result_folder import MANIFEST, read_manifest
from factory.spec import TeacherSpec
from factory.store import Artifact, Resource, Result, Stage, explain_miss, find, key_of
from factory.synthesis import STRATEGIES
from factory.synthesis.augment import AugmentParams
from factory.synthesis.augmenters import AUGMENTERS
from factory.synthesis.rows import WriteRowsParams, forecast_rows_written
from factory.synthesis.strategy import WriteParams
from factory.teacher import REPLIES_FILE
from factory.teacher.forecast import Forecast
from factory.teacher.probe import Probe
from flows.probing import QUICK, Probed, Prober, Runnable, probing
from flows.recipe import recipe
from flows.teachers import opened, teacher_specs

R = TypeVar("R", bound=Result)

WRITTEN_TOKENS_PER_S = 22.0
READ_TOKENS_PER_S = 66.0
"""Of the embedded teacher on two cores; other teachers' speed is not known. It reads what requests share once."""
MANIFESTS = f"[!.]*/{MANIFEST}"


@dataclass(frozen=True)
class PlannedStage:
    """One stage of the plan."""

    name: str
    is_cached: bool
    because: str
    """Why it would run; empty when it is cached."""
    cost: Forecast
    """What it would ask the teacher; replies already stored make it cheaper."""
    asks_teacher: bool = False
    teacher: str = ""
    """Whom it asks, as the spec calls it."""
    stored: int | None = None
    """How many of its replies are in the reply store; None where what it would ask is not known yet."""


@dataclass(frozen=True)
class Plan:
    """What a build would do, in order; rounds after the first are only needed when too few rows are accepted."""

    task: str
    teacher: str
    stages: tuple[PlannedStage, ...]
    minutes: float | None
    """Of teacher time; None when a teacher's speed is not known."""
    usd: float | None
    """None when a teacher has no price."""

    @property
    def cost(self) -> Forecast:
        """What all stages together would ask."""
        return sum((stage.cost for stage in self.stages), Forecast())

    @property
    def stored(self) -> int:
        """Replies that are known to be in the reply store."""
        return sum(stage.stored or 0 for stage in self.stages)

    def as_json(self) -> dict[str, Any]:
        """Return the plan for programs."""
        return {**asdict(self), "cost": asdict(self.cost), "stored": self.stored}


@dataclass(frozen=True)
class Pending(Artifact[R]):
    """A result that nobody has computed yet."""

    n_rows: int = 0
    """Rows it is expected to have."""
    root: str = ""
    """The stage at the bottom of it: the first one that must run."""


@dataclass
class Planner:
    """A runner that only looks."""

    root: Path
    prober: Prober | None = None
    """Looks into the reply store; None when there is nothing in it."""
    stages: list[PlannedStage] = field(default_factory=list)
    teachers: dict[str, Probe] = field(default_factory=dict)
    """By name; they stand for the teachers."""
    probed: dict[str, Probed[Any]] = field(default_factory=dict)
    """What the stages found there, by name."""

    def __call__(
        self,
        stage: Stage[R],
        params: BaseModel,
        *,
        inputs: Mapping[str, Artifact[Any]] | None = None,
        resources: Mapping[str, Resource] | None = None,
    ) -> Artifact[R]:
        """Look a stage up; what depends on a missing result is missing too."""
        asks = "teacher" in (resources or {})
        waits_for = [artifact.root for artifact in (inputs or {}).values() if isinstance(artifact, Pending)]
        probed: Probed[R] | None = None
        if waits_for:
            because, root = f"waits for {waits_for[0]}", waits_for[0]
        else:
            key = key_of(stage, params, inputs=inputs, resources=resources)
            found = find(self.root, stage, key)
            if found is not None:
                planned = PlannedStage(stage.name, is_cached=True, because="", cost=Forecast(), asks_teacher=asks)
                self._note(planned)
                return found
            because, root = explain_miss(self.root, stage, key), stage.name
            if self.prober is not None:
                probed = self.prober(stage, params, inputs=inputs, resources=resources)
        n_rows = _expected_rows(params, inputs or {}, resources or {})
        estimate = _cost(stage, params, n_rows, inputs or {}) if asks else Forecast()
        cost = _as_measured(self.root / stage.name, estimate)
        n_stored = self._n_stored(probed, waits=bool(waits_for)) if cost.calls else None
        whom = next((name for name, one in self.teachers.items() if one is (resources or {}).get("teacher")), "")
        self._note(PlannedStage(stage.name, False, because, cost, asks, whom, n_stored))
        if probed is not None:
            self.probed[stage.name] = probed
            if probed.artifact is not None:
                return probed.artifact
        return Pending(Path(stage.name), stage.result, was_cached=False, n_rows=n_rows, root=root)

    def _note(self, planned: PlannedStage) -> None:
        """List a stage; one that two others ask for runs once."""
        if all(one.name != planned.name for one in self.stages):
            self.stages.append(planned)

    def _n_stored(self, probed: Probed[R] | None, *, waits: bool) -> int | None:
        if self.prober is None:
            return 0
        return None if waits or probed is None else probed.n_stored

    def peek(self, artifact: Artifact[R]) -> R | None:
        """Return a stored result, or None for one that is not there yet."""
        return None if isinstance(artifact, Pending) else artifact.load()


def walk(task: Task, outputs: Path, *, runnable: Runnable = QUICK, always: bool = False) -> Planner:
    """Walk the recipe, looking up what is stored and what the reply store already answers.

    Args:
        task: A checked task folder.
        outputs: Where builds are stored.
        runnable: Stages that may be run, with nothing kept, to know what later ones would ask.
        always: Find out what would be asked even if there is no reply store.

    Returns:
        The planner, with all stages up to the evaluation.
    """
    replies = outputs / REPLIES_FILE
    planner = Planner(outputs / task.spec.name)
    with ExitStack() as stack:
        for name, teacher in stack.enter_context(opened(task.spec, task.folder, outputs)).items():
            planner.teachers[name] = stack.enter_context(closing(Probe(teacher.endpoint, replies)))
        prober = stack.enter_context(probing(runnable))
        planner.prober = prober if always or replies.is_file() else None
        recipe(task, planner.teachers[TEACHER], planner, planner.teachers)
    return planner


def make_plan(task: Task, outputs: Path) -> Plan:
    """Plan a build; asks the teacher nothing and starts nothing.

    Args:
        task: A checked task folder.
        outputs: Where builds are stored.

    Returns:
        All stages up to the evaluation, and their cost.
    """
    spec = task.spec
    planner = walk(task, outputs)
    specs = teacher_specs(spec)
    asked = {name: sum((one.cost for one in planner.stages if one.teacher == name), Forecast()) for name in specs}
    needed = {name: cost for name, cost in asked.items() if cost.calls or name == TEACHER}
    minutes = [_minutes(specs[name], cost) for name, cost in needed.items()]
    usd = [_usd(specs[name], cost) for name, cost in needed.items()]
    return Plan(
        task=spec.name,
        teacher=" and ".join(dict.fromkeys(specs[name].name for name in needed)),
        stages=tuple(planner.stages),
        minutes=None if None in minutes else sum(one or 0 for one in minutes),
        usd=None if None in usd else sum(one or 0 for one in usd),
    )


def _minutes(teacher: TeacherSpec, cost: Forecast) -> float | None:
    if teacher.name != "embedded":
        return None
    return (cost.completion_tokens / WRITTEN_TOKENS_PER_S + cost.new_prompt_tokens / READ_TOKENS_PER_S) / 60


def _usd(teacher: TeacherSpec, cost: Forecast) -> float | None:
    if teacher.known_prices:
        return cost.usd(teacher.known_prices)
    return None if teacher.name == "openai" else 0.0


def print_plan(plan: Plan) -> None:
    """Print a plan for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("stage", "", "calls", "tokens", "stored"):
        table.add_column(heading, justify="right" if heading in ("calls", "tokens", "stored") else "left")
    for stage in plan.stages:
        tokens = stage.cost.prompt_tokens + stage.cost.completion_tokens
        stored = "?" if stage.stored is None else f"{stage.stored:,}"
        numbers = (f"{stage.cost.calls:,}", f"{tokens:,}", stored) if stage.cost.calls else ("", "", "")
        table.add_row(stage.name, "cached" if stage.is_cached else stage.because, *numbers)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a pipe has no width; names should not be cut off
    console.print(table)
    cost = plan.cost
    minutes = "time unknown" if plan.minutes is None else f"about {plan.minutes:.0f} minutes"
    money = "price unknown (set teacher.prices)" if plan.usd is None else f"${plan.usd:.2f}"
    console.print(
        f"{plan.task}: about {cost.calls:,} calls of the {plan.teacher} teacher, {cost.prompt_tokens:,} tokens read "
        f"and {cost.completion_tokens:,} written, {minutes}, {money}; replies already stored are free"
        + (f", and {plan.stored:,} are known to be" if plan.stored else ""),
        highlight=False,
        soft_wrap=True,
    )


def _expected_rows(params: BaseModel, inputs: Mapping[str, Artifact[Any]], resources: Mapping[str, Resource]) -> int:
    """Guess how many rows a stage that is not cached will have; only stages that ask the teacher need to know."""
    if isinstance(params, WriteParams):
        return sum(params.wanted)
    if isinstance(params, GatherParams):
        return sum(_n_rows(part) for part in inputs.values())
    if isinstance(params, AugmentParams):
        per_label = _n_rows(inputs["rows"]) // len(params.labels)
        return len(params.labels) * params.n_texts(max(1, per_label))
    file = resources.get("file")
    if isinstance(file, DataFile):
        return sum(1 for line in file.path.read_bytes().splitlines() if line.strip())
    rows = inputs.get("rows")
    if rows is None:
        return 0
    return min(params.n, _n_rows(rows)) if isinstance(params, SampleParams | SelectParams) else _n_rows(rows)


def _as_measured(folder: Path, cost: Forecast) -> Forecast:
    """Correct the tokens of an estimate by what the newest run of the stage was counted, if there was one."""
    runs = [manifest["varying"] for manifest in map(read_manifest, (path.parent for path in folder.glob(MANIFESTS)))]
    counted = [run for run in runs if run.get("teacher_calls") and run.get("prompt_tokens")]
    if not counted or not cost.prompt_tokens:
        return cost
    newest = max(counted, key=lambda run: str(run["written_at"]))
    prompt_tokens = cost.calls * newest["prompt_tokens"] / newest["teacher_calls"]
    return Forecast(
        cost.calls,
        round(prompt_tokens),
        round(cost.calls * newest["completion_tokens"] / newest["teacher_calls"]),
        round(cost.new_prompt_tokens * prompt_tokens / cost.prompt_tokens),
    )


def _known(rows: Artifact[Any] | None) -> Any:
    return None if rows is None or isinstance(rows, Pending) else rows.load()


def _n_rows(rows: Artifact[Any]) -> int:
    return rows.n_rows if isinstance(rows, Pending) else len(rows.load().kept)


def _cost(stage: Stage[Any], params: BaseModel, n_rows: int, inputs: Mapping[str, Artifact[Any]]) -> Forecast:
    """Estimate what a stage that uses the teacher, and will have so many rows, would ask."""
    if isinstance(params, WriteParams):
        strategy = next(strategy for strategy in STRATEGIES.values() if stage.run is strategy.stage.run)
        return strategy.forecast(params)
    if isinstance(params, AugmentParams):
        augmenter = next(augmenter for augmenter in AUGMENTERS.values() if stage.run is augmenter.stage.run)
        return augmenter.forecast(params, _n_rows(inputs["rows"]))
    if isinstance(params, PriorsParams):
        rows = _known(inputs.get("rows"))
        return forecast_priors(params, rows, are_to_come="rows" in inputs and rows is None)
    if isinstance(params, WriteRowsParams):
        return forecast_rows_written(params, _known(inputs["real"]))
    if isinstance(params, AnnotateTableParams):
        return forecast_rows(params, n_rows)
    if isinstance(params, AskParams):
        way = WAYS[params.ask] if isinstance(params, AnnotateParams) else LABEL
        return forecast_labels(params, n_rows, way=way)
    return Forecast()
