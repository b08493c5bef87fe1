"""Running the stages of a plan on what the reply store holds: nobody is asked, and every result is thrown away."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from factory.curation import FILTERS
from factory.curation.gather import GATHER
from factory.curation.label_noise import LABEL_NOISE
from factory.curation.meaning import MEANING
from factory.curation.select import SELECT
from factory.data import READ
from factory.evaluation.baselines import NEAREST_DESCRIPTION
from factory.evaluation.sample import SAMPLE
from factory.labelling.aggregate import AGGREGATE
from factory.labelling.clusters import CLUSTERS
from factory.store import Artifact, Resource, Result, Stage, run_stage
from factory.teacher.probe import DependsOnMissing, Probe
from factory.teacher.replies import Exchange

R = TypeVar("R", bound=Result)

Runnable = Collection[Callable[..., Any]]
"""The functions of stages that may be run besides those that ask the teacher."""

QUICK: Runnable = (READ.run, GATHER.run, SAMPLE.run)
"""Stages that cost nothing to run on the way to those that ask the teacher."""
THOROUGH: Runnable = (
    *QUICK,
    NEAREST_DESCRIPTION.run,
    CLUSTERS.run,
    SELECT.run,
    AGGREGATE.run,
    MEANING.run,
    *(stage.run for stage in FILTERS.values() if stage is not LABEL_NOISE),
)
"""With those that need the encoder; label noise comes after the last text was asked for."""


@dataclass(frozen=True)
class Probed(Generic[R]):
    """What a stage found in the reply store."""

    artifact: Artifact[R] | None
    """Its result, in a folder that will not last; None when replies are missing."""
    n_stored: int
    """Replies that are there."""
    missing: Mapping[str, Exchange]
    """What it would ask that is not, by key; without replies."""
    is_open: bool
    """Whether it would ask more once it has what is missing."""


class Prober:
    """Runs stages while what they need is known."""

    def __init__(self, scratch: Path, runnable: Runnable = QUICK) -> None:
        self._scratch = scratch
        self._runnable = runnable

    def __call__(
        self,
        stage: Stage[R],
        params: BaseModel,
        *,
        inputs: Mapping[str, Artifact[Any]] | None = None,
        resources: Mapping[str, Resource] | None = None,
    ) -> Probed[R] | None:
        """Run a stage that asks the teacher or leads to one that does; None for all others."""
        probe = (resources or {}).get("teacher")
        if stage.run not in self._runnable and probe is None:
            return None
        if isinstance(probe, Probe):
            probe.forget()
        is_open = False
        artifact: Artifact[R] | None = None
        try:
            artifact = run_stage(self._scratch, stage, params, inputs=inputs, resources=resources)
        except DependsOnMissing:
            is_open = True
        missing, found = (probe.missing, probe.found) if isinstance(probe, Probe) else ({}, set())
        return Probed(None if missing else artifact, len(found), dict(missing), is_open)


@contextmanager
def probing(runnable: Runnable = QUICK) -> Iterator[Prober]:
    """Lend a prober, and delete what its stages wrote.

    Args:
        runnable: Which stages to run besides those that ask the teacher.

    Yields:
        The prober.
    """
    with TemporaryDirectory(prefix="factory-") as scratch:
        yield Prober(Path(scratch), runnable)
