"""What the parts of the recipe share: how a stage is run, and the steps that several of them take."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from factory.check import Task
from factory.encoders import load_encoder
from factory.evaluation.baselines import NEAREST_DESCRIPTION, NearestDescriptionParams
from factory.evaluation.sample import SAMPLE, SampleParams
from factory.labelling.annotate import ANNOTATE, AnnotateParams
from factory.labelling.clusters import CLUSTERS, ClustersParams
from factory.labelling.verify import OnDisagreement, VerifyParams
from factory.records import Predictions, Rows
from factory.spec import Plugin
from factory.store import Artifact, Resource, Result, Stage
from factory.students.training import (
    CROSS_PREDICT,
    FIT,
    PREDICT,
    CrossPredictParams,
    FitParams,
    FittedStudent,
    PredictParams,
    resources_for,
)
from factory.teacher import Teacher

R = TypeVar("R", bound=Result)

CHEAP_STUDENT = Plugin(name="sentence-linear")
"""Whose opinion is asked where any will do, such as by the choice of pool rows."""
NOISE_JUDGE = Plugin(name="sentence-linear", params={"strength": 1.0, "anchor_weight": 30.0, "prototype_prior": 0.0})
"""Whose opinion of a label the label-noise filter takes: held back, so that it does not learn the wrong labels itself
(docs/benchmarks-curation.md)."""
CEILING = "ceiling"
REAL_ROWS = "real-rows"
WITHOUT_PRIORS = "without-priors"
SHOWN_ONLY = frozenset({f"fit-{CEILING}", f"fit-{REAL_ROWS}", f"fit-{WITHOUT_PRIORS}"})
"""Stages that fit a student which nobody may release: it shows what real rows alone would give."""


class Runner(Protocol):
    """Runs a stage, or pretends to."""

    def __call__(
        self,
        stage: Stage[R],
        params: BaseModel,
        *,
        inputs: Mapping[str, Artifact[Any]] | None = None,
        resources: Mapping[str, Resource] | None = None,
    ) -> Artifact[R]:
        """Return the artifact of a stage."""

    def peek(self, artifact: Artifact[R]) -> R | None:
        """Return a result, or None when it is not known yet."""


def cross_predict(
    task: Task, plugin: Plugin, rows: Artifact[Rows], suffix: str, run: Runner, *, soft_labels: bool = False
) -> Artifact[Predictions]:
    """Predict each row by a student that did not see it."""
    params = CrossPredictParams(
        student=plugin.name,
        params=plugin.params,
        labels=task.spec.labels,
        soft_labels=soft_labels,
        seed=task.spec.seed,
    )
    resources = resources_for(plugin.name, plugin.params)
    return run(named(CROSS_PREDICT, suffix), params, inputs={"rows": rows}, resources=resources)


def fit(task: Task, plugin: Plugin, rows: Artifact[Rows], suffix: str, run: Runner) -> Artifact[FittedStudent]:
    """Fit one student on all rows."""
    spec = task.spec
    params = FitParams(
        student=plugin.name,
        params=plugin.params,
        labels=spec.labels,
        soft_labels=spec.labelling.soft_labels,
        balance=suffix != CEILING and "train" not in task.files,  # real rows come as often as they come
        seed=spec.seed,
    )
    resources = resources_for(plugin.name, plugin.params)
    return run(named(FIT, suffix), params, inputs={"rows": rows}, resources=resources)


def label_sample(
    task: Task, rows: Artifact[Rows], n: int, suffix: str, teacher: Teacher, run: Runner
) -> Artifact[Rows]:
    """Let the teacher label a sample of real rows, each label (where known) with its share."""
    spec = task.spec
    sample = run(named(SAMPLE, suffix), SampleParams(n=n, seed=spec.seed), inputs={"rows": rows})
    params = AnnotateParams(description=spec.description, labels=spec.labels)
    return run(named(ANNOTATE, suffix), params, inputs={"rows": sample}, resources={"teacher": teacher})


def predict(fitted: Artifact[FittedStudent], rows: Artifact[Rows], suffix: str, run: Runner) -> Artifact[Predictions]:
    """Let a fitted student answer."""
    return run(named(PREDICT, suffix), PredictParams(), inputs={"student": fitted, "rows": rows})


def ask_descriptions(task: Task, rows: Artifact[Rows], suffix: str, run: Runner) -> Artifact[Predictions]:
    """Answer each row with the label whose description is nearest."""
    stage = named(NEAREST_DESCRIPTION, suffix) if suffix else NEAREST_DESCRIPTION
    params = NearestDescriptionParams(labels=task.spec.labels)
    return run(stage, params, inputs={"rows": rows}, resources={"encoder": load_encoder(task.spec.encoder)})


def ask_clusters(task: Task, pool: Artifact[Rows], run: Runner) -> Artifact[Predictions]:
    """Answer each row of a pool with what the descriptions say, settled by how its texts lie together."""
    params = ClustersParams(labels=task.spec.labels, seed=task.spec.seed)
    return run(CLUSTERS, params, inputs={"rows": pool}, resources={"encoder": load_encoder(task.spec.encoder)})


def named(stage: Stage[R], suffix: str | int) -> Stage[R]:
    """Give a stage that runs several times in a build a name, and so a folder, for each."""
    return replace(stage, name=f"{stage.name}-{suffix}")


def verify_params(task: Task) -> VerifyParams:
    """Return how the teacher labels again what it wrote."""
    spec = task.spec
    return VerifyParams(
        description=spec.description,
        labels=spec.labels,
        on_disagreement=OnDisagreement(spec.labelling.on_disagreement),
        min_probability=spec.labelling.min_probability,
    )
