"""Real texts without labels: which of them teachers label, and what becomes of their answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.check import Task
from factory.curation.gather import GATHER, GatherParams
from factory.curation.select import SELECT, SelectParams
from factory.encoders import load_encoder
from factory.labelling.aggregate import AGGREGATE, AggregateParams
from factory.labelling.annotate import ANNOTATE, AnnotateParams
from factory.labelling.clusters import CLUSTERS
from factory.labelling.refine import REFINE, RefineParams
from factory.labelling.voters import TeacherParams, teachers_among
from factory.records import Rows
from factory.store import Artifact
from factory.teacher import Teacher
from flows.steps import CHEAP_STUDENT, NOISE_JUDGE, Runner, ask_clusters, cross_predict, fit, named, predict

REFINERY_ROUNDS = 3
"""The labels of most candidate sets stand after the first; each round costs five fits of a small student."""


@dataclass(frozen=True)
class Labelled:
    """Rows of the pool, as each teacher among the voters labelled them; candidate sets are still sets."""

    rows: Artifact[Rows]
    """Of the first."""
    others: Mapping[str, Artifact[Rows]]
    """Of the others, by title of the voter."""


def label_real(
    task: Task, files: Mapping[str, Artifact[Rows]], teachers: Mapping[str, Teacher], run: Runner
) -> Labelled | None:
    """Let the teachers label real texts: all that were ordered, and a choice from the pool.

    Args:
        task: The task.
        files: Its data files, of which `ordered` and `pool` are looked at.
        teachers: Whom to ask, by name.
        run: Runs the stages.

    Returns:
        Silver rows; None where there is nothing to label.
    """
    found = {}
    if "pool" in files and task.spec.labelling.label_pool:
        found["pool"] = label_pool(task, files["pool"], teachers, run)
    if "ordered" in files:
        found["ordered"] = _ask_all(task, files["ordered"], "ordered", teachers, run)
    if len(found) < 2:
        return next(iter(found.values()), None)
    return _together(found, "real", run)


def label_pool(task: Task, pool: Artifact[Rows], teachers: Mapping[str, Teacher], run: Runner) -> Labelled:
    """Let the teachers label typical rows of the pool, then rows that a student of the first half is unsure about.

    Args:
        task: The task; `labelling.label_pool` says how many rows, `labelling.voters` who is asked and how.
        pool: Real texts.
        teachers: Whom to ask, by name.
        run: Runs the stages.

    Returns:
        Silver rows of both halves.
    """
    spec = task.spec
    n_first = (spec.labelling.label_pool + 1) // 2
    n_second = spec.labelling.label_pool - n_first
    encoder = {"encoder": load_encoder()}  # the small one groups well enough, and a pool may be large
    chosen = run(named(SELECT, 1), SelectParams(n=n_first, seed=spec.seed), inputs={"rows": pool}, resources=encoder)
    first = _ask_all(task, chosen, 1, teachers, run)
    # Only what to ask about next depends on these labels: the clusters are not fitted for it.
    settled = settle(task, first, run, of="first") if n_second else first.rows
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
    second = _ask_all(task, chosen, 2, teachers, run)
    return _together({"first": first, "second": second}, "pool", run)


def _together(parts: Mapping[str, Labelled], name: str, run: Runner) -> Labelled:
    """Gather what was labelled at several times, teacher by teacher."""
    rows = run(named(GATHER, name), GatherParams(), inputs={key: part.rows for key, part in parts.items()})
    titles = next(iter(parts.values())).others
    others = {
        title: run(
            named(GATHER, f"{name}-{title}"),
            GatherParams(),
            inputs={key: part.others[title] for key, part in parts.items()},
        )
        for title in titles
    }
    return Labelled(rows, others)


def _ask_all(
    task: Task, chosen: Artifact[Rows], which: int | str, teachers: Mapping[str, Teacher], run: Runner
) -> Labelled:
    """Let each teacher among the voters label some rows; without one there, the task's teacher in the usual way."""
    spec = task.spec
    labelled: dict[str, Artifact[Rows]] = {}
    for voter in _asked(task):
        suffix = f"pool-{which}-{voter.title}" if labelled else f"pool-{which}"
        params = AnnotateParams(description=spec.description, labels=spec.labels, ask=voter.ask, checks=voter.checks)
        resources = {"teacher": teachers[voter.source]}
        labelled[voter.title] = run(named(ANNOTATE, suffix), params, inputs={"rows": chosen}, resources=resources)
    rows, *_ = labelled.values()
    return Labelled(rows, {title: others for title, others in labelled.items() if others is not rows})


def _asked(task: Task) -> tuple[TeacherParams, ...]:
    return teachers_among(task.spec.labelling.voters) or (TeacherParams(),)


def settle(
    task: Task,
    labelled: Labelled,
    run: Runner,
    *,
    pool: Artifact[Rows] | None = None,
    reviewed: Artifact[Rows] | None = None,
    of: str = "",
) -> Artifact[Rows]:
    """Let the spec's other labellers vote on what the teachers labelled; without any the first one's answers stand.

    Args:
        task: The task; `labelling` says who votes.
        labelled: Rows that the teachers labelled; candidate sets are narrowed down first.
        run: Runs the stages.
        pool: Where the rows are from; without it the voter `clusters` says what the descriptions say.
        reviewed: Rows that people labelled, which nobody else has a say on.
        of: Tells several votes of a build apart.

    Returns:
        The rows that found agreement.
    """
    spec = task.spec
    first, *rest = _asked(task)
    silver = _narrow(task, first, labelled.rows, of, run)
    others = {voter.title: _narrow(task, voter, labelled.others[voter.title], of, run) for voter in rest}
    if not spec.labelling.voters:
        return silver
    params = AggregateParams(
        labels=spec.labels,
        voters=spec.labelling.voters,
        rules=spec.labelling.rules,
        aggregation=spec.labelling.aggregation,
        min_agreement=spec.labelling.min_agreement,
    )
    inputs: dict[str, Artifact[Any]] = {"rows": silver, **others}
    voters = {plugin.name for plugin in spec.labelling.voters}
    if pool is not None and spec.labelling.label_pool and CLUSTERS.name in voters:
        inputs[CLUSTERS.name] = ask_clusters(task, pool, run)
    if can_learn(silver, run) and "student" in voters:
        inputs["student"] = cross_predict(task, CHEAP_STUDENT, silver, f"voter-{of}" if of else "voter", run)
    if reviewed is not None:
        inputs["reviewed"] = reviewed
    stage = named(AGGREGATE, of) if of else AGGREGATE
    return run(stage, params, inputs=inputs, resources={"encoder": load_encoder(task.spec.encoder)})


def _narrow(task: Task, voter: TeacherParams, rows: Artifact[Rows], of: str, run: Runner) -> Artifact[Rows]:
    """Let a student pick from candidate sets, in rounds; other answers are as narrow as can be."""
    if voter.ask != "candidates":
        return rows
    narrowed = rows
    for round_ in range(1, REFINERY_ROUNDS + 1):
        if not can_learn(narrowed, run):
            return rows  # a student of one label would put it into every set that holds it
        suffix = "-".join(part for part in (voter.title, of, str(round_)) if part)
        # Held back, so that it does not learn the wrong candidates itself.
        opinion = cross_predict(task, NOISE_JUDGE, narrowed, suffix, run, soft_labels=True)
        narrowed = run(
            named(REFINE, suffix), RefineParams(labels=task.spec.label_names), inputs={"rows": rows, "opinion": opinion}
        )
    return narrowed


def can_learn(rows: Artifact[Rows], run: Runner) -> bool:
    """Tell whether there is anything to tell apart, as far as is known."""
    known = run.peek(rows)
    return known is None or len(set(known.kept["label"])) > 1
