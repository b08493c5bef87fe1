"""What the benchmarks of quality share: a build of a set, in their own process, and gold rows to judge it by."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from benchmarks.make_task import REGIMES, make_task
from benchmarks.recorded import FOLDER, NotRecorded, Recorded, Recording, RepliesMissing, recording_of, restore
from factory.check import Task, check_task
from factory.errors import FactoryError
from factory.evaluation import metrics
from factory.evaluation.metrics import Estimate, Figure
from factory.events import Event, StageFinished, listening
from factory.records import Predictions, Rows
from factory.spec import DEFAULT_ENCODER, Budget
from factory.store import Artifact, Resource, Result, Stage, run_stage
from factory.teacher import REPLIES_FILE, Teacher, open_teacher
from factory.teacher.budget import Spending
from flows.spent import Spent

R = TypeVar("R", bound=Result)


@dataclass
class Run:
    """A runner with nothing around it; in one process each text is encoded once for all students, seeds and arms."""

    root: Path
    teacher: Teacher
    artifacts: list[Artifact[Any]] = field(default_factory=list)
    """Every stage, in the order it was run or found."""

    def __call__(
        self,
        stage: Stage[R],
        params: BaseModel,
        *,
        inputs: Mapping[str, Artifact[Any]] | None = None,
        resources: Mapping[str, Resource] | None = None,
    ) -> Artifact[R]:
        """Run a stage, or return what it gave before, and note what the teacher was asked for it.

        Args:
            stage: What to run.
            params: Of the stage.
            inputs: Artifacts of earlier stages.
            resources: Handed to the stage as they are.

        Returns:
            The artifact.

        Raises:
            RepliesMissing: The teacher answers from a recording, which lacks what this stage asks.
        """
        spent = Spent(self.teacher.spending)
        measured = spent.as_manifest
        try:
            artifact = run_stage(self.root, stage, params, inputs=inputs, resources=resources, measured=measured)
        except NotRecorded as error:
            raise RepliesMissing({stage.name: error.n}) from error
        if artifact.was_cached:
            spent.charge(artifact.manifest["varying"])
        self.artifacts.append(artifact)
        return artifact

    def peek(self, artifact: Artifact[R]) -> R | None:
        """Return a result."""
        return artifact.load()


@dataclass(frozen=True)
class Setup:
    """A set, made into a task, and where its build and its recording are."""

    task: Task
    outputs: Path
    recording: Recording | None = None
    """None when a teacher is asked."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """What stages took when their replies were recorded."""
        return self.recording.header.seconds if self.recording is not None else {}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `prepare` reads."""
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="folder that holds the public sets")
    parser.add_argument("--regime", choices=REGIMES, default="z0", help="what is given beside label descriptions")
    parser.add_argument("--encoder", help="of filters, voters and the student blend; default: as recorded, or small")
    parser.add_argument("--outputs", type=Path, help="keep builds here; default: a temporary folder")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--replay", action="store_true", help="answer from recorded replies; no teacher is started")
    how.add_argument("--record", action="store_true", help="record the replies of each build in benchmarks/replies")


def recording_path(name: str, regime: str, suffix: str = "") -> Path:
    """Say where the recording of a set is, or goes."""
    return FOLDER / f"{name}-{regime}{suffix}.jsonl.xz"


def prepare(
    options: argparse.Namespace, name: str, scratch: Path, *, suffix: str = "", ask_directly: bool = True
) -> Setup:
    """Make the task of a set.

    Args:
        options: From `add_options`.
        name: Of the set.
        scratch: For the task folder, and for builds that are not kept.
        suffix: Of the recording's name.
        ask_directly: Whether the teacher is asked for labels of gold rows too, to be compared with.

    Returns:
        What to build, and where.

    Raises:
        RepliesMissing: It is to be replayed, and what the build asks first is not recorded.
    """
    path = recording_path(name, options.regime, suffix)
    recording = Recording.load(path) if options.replay else None
    encoder = options.encoder or (recording.header.encoder if recording is not None else DEFAULT_ENCODER)
    make_task(options.data / name, scratch / name, regime=options.regime, encoder=encoder)
    outputs = options.outputs or scratch / "outputs"
    # The store of a replay holds replies without their prompts: it is no place for a teacher's.
    outputs = outputs / "replayed" / path.name.split(".")[0] if options.replay else outputs
    task = check_task(scratch / name)
    if not ask_directly:
        labelling = task.spec.labelling.model_copy(update={"ask_directly": 0})
        task = replace(task, spec=task.spec.model_copy(update={"labelling": labelling}))
    print(f"== {task.spec.name}", file=sys.stderr, flush=True)
    if recording is not None:
        restore(task, recording, outputs)
    return Setup(task, outputs, recording)


@contextmanager
def opened(setup: Setup, *, budget: Budget | None = None) -> Iterator[Run]:
    """Lend a runner whose teacher is the real one, or a recording of it; stages are shown on standard error."""
    spec, outputs = setup.task.spec, setup.outputs
    asked = spec.teacher.model_copy(update={"budget": budget or spec.teacher.budget})
    teacher: Teacher = open_teacher(asked, folder=setup.task.folder, outputs=outputs)
    if setup.recording is not None:
        teacher = Recorded(teacher.endpoint, outputs / REPLIES_FILE, spending=Spending(asked.budget))
    with closing(teacher), listening(_show):
        yield Run(outputs / spec.name, teacher)


def record(setup: Setup, path: Path, artifacts: Sequence[Artifact[Any]]) -> None:
    """Write down what the teacher replied in these stages."""
    recording = recording_of(setup.task, artifacts, setup.outputs)
    recording.save(path)
    size = path.stat().st_size / 1e6
    print(f"  {path.name}: {len(recording.replies):,} replies, {size:.1f} MB", file=sys.stderr, flush=True)


def _show(event: Event) -> None:
    if isinstance(event, StageFinished):
        print(f"  {event.stage}: {event.summary}", file=sys.stderr, flush=True)


def exit_code(main: Callable[[], None]) -> int:
    """Run a program; what goes wrong is one line with a hint, as in `factory`."""
    try:
        main()
    except FactoryError as error:
        print(f"{error}\n{error.hint}" if error.hint else error, file=sys.stderr)
        return error.exit_code
    return 0


@dataclass(frozen=True)
class Gold:
    """Gold rows, and what to hold against them; figures have 95% bootstrap intervals over these rows."""

    labels: tuple[str, ...]
    ids: tuple[str, ...]
    columns: NDArray[np.int64]
    """Of the gold labels, shape (n_rows,)."""
    seed: int

    @classmethod
    def of(cls, labels: Sequence[str], holdout: Rows, *, seed: int = 0) -> Self:
        """Read the labels of a holdout: only the final report may."""
        kept = holdout.kept
        columns = np.array([labels.index(label) for label in kept["label"]], dtype=np.int64)
        return cls(tuple(labels), tuple(kept["id"]), columns, seed)

    def answers(self, predictions: Predictions) -> NDArray[np.int64]:
        """Return the column that is answered to each gold row."""
        at = {row_id: position for position, row_id in enumerate(predictions.ids)}
        order = [predictions.labels.index(label) for label in self.labels]
        answers: NDArray[np.int64] = predictions.probs[[at[one] for one in self.ids]][:, order].argmax(axis=1)
        return answers

    def estimate(self, figure: Figure, predictions: Predictions) -> Estimate:
        """Score answers."""
        return metrics.estimate(figure, self.columns, self.answers(predictions), seed=self.seed)

    def difference(self, figure: Figure, ours: Predictions, theirs: Predictions) -> Estimate:
        """Score ours minus theirs, paired: the same rows are drawn for both."""
        answers = self.answers(ours), self.answers(theirs)
        return metrics.paired_difference(figure, self.columns, *answers, seed=self.seed)


def name_of(artifact: Artifact[Any]) -> str:
    """Return the name of the stage that made an artifact."""
    return str(artifact.manifest["stage"])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
