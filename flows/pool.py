"""Real texts without labels: which of them the teacher labels, and what becomes of its answers."""

from typing import Any

from factory.check import Task
from factory.curation.gather import GATHER, GatherParams
from factory.curation.select import SELECT, SelectParams
from factory.encoders import load_encoder
from factory.labelling.aggregate import AGGREGATE, AggregateParams
from factory.labelling.annotate import ANNOTATE, AnnotateParams
from factory.records import Rows
from factory.store import Artifact
from factory.teacher import Teacher
from flows.steps import CHEAP_STUDENT, Runner, cross_predict, fit, named, predict


def label_pool(task: Task, pool: Artifact[Rows], teacher: Teacher, run: Runner) -> Artifact[Rows]:
    """Let the teacher label typical rows of the pool, then rows that a student of the first half is unsure about.

    Args:
        task: The task; `labelling.label_pool` says how many rows.
        pool: Real texts.
        teacher: Whom to ask.
        run: Runs the stages.

    Returns:
        Silver rows of both halves.
    """
    spec = task.spec
    n_first = (spec.labelling.label_pool + 1) // 2
    n_second = spec.labelling.label_pool - n_first
    encoder = {"encoder": load_encoder()}  # the small one groups well enough, and a pool may be large
    params = AnnotateParams(description=spec.description, labels=spec.labels)
    chosen = run(named(SELECT, 1), SelectParams(n=n_first, seed=spec.seed), inputs={"rows": pool}, resources=encoder)
    first = run(named(ANNOTATE, "pool-1"), params, inputs={"rows": chosen}, resources={"teacher": teacher})
    settled = settle(task, first, None, run, of="first") if n_second else first
    known = run.peek(settled)
    if not n_second or (known is not None and len(set(known.kept["label"])) < 2):
        return first
    opinion = predict(fit(task, CHEAP_STUDENT, settled, "pool", run), pool, "pool", run)
    chosen = run(
        named(SELECT, 2),
        SelectParams(n=n_second, seed=spec.seed),
        inputs={"rows": pool, "opinion": opinion, "known": chosen},
        resources=encoder,
    )
    second = run(named(ANNOTATE, "pool-2"), params, inputs={"rows": chosen}, resources={"teacher": teacher})
    return run(named(GATHER, "pool"), GatherParams(), inputs={"first": first, "second": second})


def settle(
    task: Task, silver: Artifact[Rows], reviewed: Artifact[Rows] | None, run: Runner, *, of: str = ""
) -> Artifact[Rows]:
    """Let the spec's other labellers vote on what the teacher labelled; without any its answers stand.

    Args:
        task: The task; `labelling` says who votes.
        silver: Rows that the teacher labelled.
        reviewed: Rows that people labelled, which nobody else has a say on.
        run: Runs the stages.
        of: Tells several votes of a build apart.

    Returns:
        The rows that found agreement.
    """
    spec = task.spec
    if not spec.labelling.voters:
        return silver
    params = AggregateParams(
        labels=spec.labels,
        voters=spec.labelling.voters,
        rules=spec.labelling.rules,
        aggregation=spec.labelling.aggregation,
        min_agreement=spec.labelling.min_agreement,
    )
    inputs: dict[str, Artifact[Any]] = {"rows": silver}
    known = run.peek(silver)
    can_learn = known is None or len(set(known.kept["label"])) > 1
    if can_learn and any(plugin.name == "student" for plugin in spec.labelling.voters):
        inputs["student"] = cross_predict(task, CHEAP_STUDENT, silver, f"voter-{of}" if of else "voter", run)
    if reviewed is not None:
        inputs["reviewed"] = reviewed
    stage = named(AGGREGATE, of) if of else AGGREGATE
    return run(stage, params, inputs=inputs, resources={"encoder": load_encoder(task.spec.encoder)})
