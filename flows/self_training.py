"""The rest of a pool, labelled by a student once the rows of the teacher are settled."""

from typing import Any

from factory.check import Task
from factory.labelling.clusters import CLUSTERS
from factory.labelling.self_training import SELF_TRAIN, STRATEGY, SelfTrainingParams
from factory.records import Predictions, Rows
from factory.spec import SelfTrainingSpec
from factory.store import Artifact
from flows.steps import Runner, ask_clusters, ask_descriptions, fit, predict


def label_rest(
    task: Task, how: SelfTrainingSpec, pool: Artifact[Rows], rows: Artifact[Rows], run: Runner
) -> Artifact[Rows]:
    """Let a student of the finished rows label others of the pool.

    Args:
        task: The task; the first of its students labels.
        how: Its `labelling.self_training`.
        pool: Real texts.
        rows: Training rows, curated: the student learns from them.
        run: Runs the stages.

    Returns:
        Silver rows, not yet curated. They are for fitting alone: a student that is judged on labels of another student,
        or out of fold on rows whose labels those were learned from, looks better than it is.
    """
    # Not a small student that would do elsewhere: what it gets wrong here, the released one would learn.
    fitted = fit(task, task.spec.students[0], rows, STRATEGY, run)
    params = SelfTrainingParams(
        labels=task.spec.label_names, per_label=how.per_label, ratio=how.ratio, weight=how.weight
    )
    inputs: dict[str, Artifact[Any]] = {
        "pool": pool,
        "known": rows,
        "opinion": predict(fitted, pool, STRATEGY, run),
        "nearest": _ask_without_learning(task, pool, run),
    }
    return run(SELF_TRAIN, params, inputs=inputs)


def _ask_without_learning(task: Task, pool: Artifact[Rows], run: Runner) -> Artifact[Predictions]:
    if any(plugin.name == CLUSTERS.name for plugin in task.spec.labelling.voters):
        return ask_clusters(task, pool, run)
    return ask_descriptions(task, pool, STRATEGY, run)
