"""The rest of a pool, labelled by a student once the rows of the teacher are settled."""

from factory.check import Task
from factory.evaluation.calibration import CALIBRATE, CalibrateParams
from factory.labelling.self_training import SELF_TRAIN, STRATEGY, SelfTrainingParams
from factory.records import Rows
from factory.spec import Plugin, SelfTrainingSpec
from factory.store import Artifact
from flows.steps import CHEAP_STUDENT, Runner, ask_descriptions, cross_predict, fit, named, predict


def label_rest(
    task: Task, how: SelfTrainingSpec, pool: Artifact[Rows], rows: Artifact[Rows], run: Runner
) -> Artifact[Rows]:
    """Let a student of the finished rows label others of the pool.

    Args:
        task: The task.
        how: Its `labelling.self_training`.
        pool: Real texts.
        rows: Training rows, curated: the student learns from them and is calibrated on them.
        run: Runs the stages.

    Returns:
        Silver rows, not yet curated. They are for fitting alone: a student that is judged on labels of another student,
        or out of fold on rows whose labels those were learned from, looks better than it is.
    """
    opinion = predict(fit(task, CHEAP_STUDENT, rows, STRATEGY, run), pool, STRATEGY, run)
    oof = cross_predict(task, CHEAP_STUDENT, rows, STRATEGY, run)
    params = CalibrateParams(seed=task.spec.seed)
    calibration = run.peek(run(named(CALIBRATE, STRATEGY), params, inputs={"oof": oof, "rows": rows}))
    if how.agree_with == "nearest-description":
        second = ask_descriptions(task, pool, STRATEGY, run)
    else:
        other, suffix = Plugin(name=how.agree_with), f"{STRATEGY}-{how.agree_with}"
        second = predict(fit(task, other, rows, suffix, run), pool, suffix, run)
    return run(
        SELF_TRAIN,
        SelfTrainingParams(
            labels=task.spec.label_names,
            per_label=how.per_label,
            ratio=how.ratio,
            weight=how.weight,
            calibration_temperature=calibration.calibration_temperature if calibration else 1.0,
        ),
        inputs={"pool": pool, "known": rows, "opinion": opinion, "second": second},
    )
