"""The main job for a table, in order: from its rows to a judged, exported student. No teacher is asked here.

`recipe` hands over to `table_recipe` where the spec is of a table; whatever writes rows adds its own to `real`.
"""

from collections.abc import Mapping
from typing import Any

from factory.check import Task
from factory.curation.gather import GATHER, GatherParams
from factory.errors import FactoryError
from factory.evaluation.audit import NO_AUDIT, NoAuditParams
from factory.evaluation.baselines import MAJORITY, MEAN, MajorityParams, MeanParams
from factory.evaluation.calibration import CALIBRATE, CalibrateParams, Calibration
from factory.evaluation.table_calibration import MEASURE_NUMBERS, NumberFit, NumberFitParams, choose_table_student
from factory.evaluation.table_verdict import EVALUATE_NUMBERS, EVALUATE_TABLE, EvaluateTableParams
from factory.evaluation.verdict import Regime
from factory.records import Origin, Predictions, Rows
from factory.release.answer import ANSWER, AnswerParams
from factory.release.export import Exported
from factory.release.export_table import EXPORT_TABLE, ExportTableParams
from factory.release.measure import MEASURE, Machine, MeasureParams
from factory.spec import Plugin
from factory.spec_table import Table
from factory.store import Artifact
from factory.students.tables.training import (
    CROSS_PREDICT_TABLE,
    FIT_TABLE,
    TUNE,
    CrossPredictTableParams,
    FitTableParams,
)
from factory.students.training import FittedStudent
from factory.tables.read import READ_TABLE, ReadTableParams
from flows.products import Made, Products, Trained
from flows.steps import CEILING, REAL_ROWS, Runner, named, predict

TRAINED_ON = ("train", "seeds", "reviewed")
"""Files of rows that people labelled for training."""
LINEAR = Plugin(name="linear")
N_BATCH = 10_000
"""Rows asked at once when speed is measured."""


def table_recipe(task: Task, run: Runner) -> Products:
    """Go from a task folder with a table to a judged student, ready to be packaged.

    Args:
        task: A checked task folder.
        run: Runs the stages, or looks up what they would give.

    Returns:
        The artifacts that the release is made of.

    Raises:
        FactoryError: There are no rows to train on.
    """
    table = table_of_task(task)
    files = {key: read_table_file(task, table, key, run) for key in task.files}
    given = {key: files[key] for key in TRAINED_ON if key in files}
    if not given:
        raise FactoryError(
            f"{task.spec.name}: a table needs rows to train on", hint="name them in the spec under data.train"
        )
    real = run(named(GATHER, "real"), GatherParams(), inputs=given) if len(given) > 1 else next(iter(given.values()))
    rows = real
    audit = run(NO_AUDIT, NoAuditParams(), inputs={"rows": rows})
    students = {plugin.name: train_table(task, table, plugin, rows, run) for plugin in task.spec.students}
    champion = pick_table_student(students, run)
    made = Made(students, champion, export_student(task, table, students[champion], rows, run))
    evaluation = judge_table(task, table, files, real, rows, made, run)
    speed = run(
        MEASURE,
        MeasureParams(n_batch=N_BATCH),
        inputs={"exported": made.exported, "rows": rows},
        resources={"machine": Machine()},
    )
    return Products(files, rows, rows, made, evaluation, speed, audit)


def table_of_task(task: Task) -> Table:
    """Return what the rows of a task with a table hold."""
    if task.spec.table is None:
        raise FactoryError(f"{task.spec.name}: expected the task of a table, got one of kind {task.spec.kind}")
    return task.spec.table


def read_table_file(task: Task, table: Table, key: str, run: Runner) -> Artifact[Rows]:
    """Read one data file of the task folder; the pool loses its answers, everything else must have them."""
    params = ReadTableParams(origin=Origin.GOLD, table=table, needs_target=key != "pool")
    return run(named(READ_TABLE, key), params, resources={"file": task.files[key]})


def train_table(task: Task, table: Table, plugin: Plugin, rows: Artifact[Rows], run: Runner) -> Trained:
    """Tune one student, measure and calibrate it on out-of-fold rows, and fit it on all."""
    params = fit_params(task, table, plugin)
    tuned = run(named(TUNE, plugin.name), params, inputs={"rows": rows})
    inputs: dict[str, Artifact[Any]] = {"rows": rows, "tuned": tuned}
    folded = CrossPredictTableParams(**dict(params))
    oof: Artifact[Predictions] = run(named(CROSS_PREDICT_TABLE, plugin.name), folded, inputs=inputs)
    both: dict[str, Artifact[Any]] = {"oof": oof, "rows": rows}
    calibration: Artifact[Any]
    if table.labels:
        calibration = run(named(CALIBRATE, plugin.name), CalibrateParams(seed=task.spec.seed), inputs=both)
    else:
        calibration = run(named(MEASURE_NUMBERS, plugin.name), NumberFitParams(seed=task.spec.seed), inputs=both)
    fitted: Artifact[FittedStudent] = run(named(FIT_TABLE, plugin.name), params, inputs=inputs)
    return Trained(plugin, oof, calibration, fitted)


def fit_params(task: Task, table: Table, plugin: Plugin) -> FitTableParams:
    """Return what a student is fitted with."""
    spec = task.spec
    return FitTableParams(
        student=plugin.name,
        params=plugin.params,
        table=table,
        soft_labels=spec.labelling.soft_labels,
        seed=spec.seed,
    )


def pick_table_student(students: Mapping[str, Trained], run: Runner) -> str:
    """Choose the student to release by its loss on rows it had not seen; never by the holdout."""
    found = {name: run.peek(student.calibration) for name, student in students.items()}
    known: dict[str, Calibration | NumberFit] = {name: one for name, one in found.items() if one is not None}
    return choose_table_student(known) if len(known) == len(students) else next(iter(students))


def export_student(task: Task, table: Table, student: Trained, rows: Artifact[Rows], run: Runner) -> Artifact[Exported]:
    """Turn the chosen student into a folder that needs neither this code nor its libraries."""
    known = run.peek(student.calibration)
    # The rows are real ones: what makes their probabilities right does so for other real rows too.
    temperature = known.calibration_temperature if isinstance(known, Calibration) else 1.0
    params = ExportTableParams(name=task.spec.name, table=table, calibration_temperature=temperature)
    return run(EXPORT_TABLE, params, inputs={"fitted": student.fitted, "rows": rows})


def judge_table(
    task: Task,
    table: Table,
    files: Mapping[str, Artifact[Rows]],
    real: Artifact[Rows],
    rows: Artifact[Rows],
    made: Made,
    run: Runner,
) -> Artifact[Any]:
    """Compare the exported student with the baselines on gold rows; only here are their answers read.

    Args:
        task: The task.
        table: What its rows hold.
        files: Its data files; without a holdout the figures are those of the out-of-fold rows, and say so.
        real: The rows that people labelled.
        rows: What the students were trained on.
        made: The students.
        run: Runs the stages.

    Returns:
        The evaluation.
    """
    stage = EVALUATE_TABLE if table.labels else EVALUATE_NUMBERS
    regime = Regime.AUG if "train" in task.files else Regime.FS
    params = EvaluateTableParams(table=table, champion=made.champion, regime=regime, seed=task.spec.seed)
    if "holdout" not in files:
        return run(stage, params, inputs={"rows": rows, "student": made.students[made.champion].oof})
    holdout = files["holdout"]
    both = {"rows": holdout, "train": rows}
    contenders: dict[str, Artifact[Any]] = {
        "student": run(ANSWER, AnswerParams(), inputs={"exported": made.exported, "rows": holdout})
    }
    if table.labels:
        contenders["majority"] = run(MAJORITY, MajorityParams(labels=table.label_names), inputs=both)
    else:
        contenders["mean"] = run(MEAN, MeanParams(), inputs=both)
    for name, student in made.students.items():
        contenders[name] = predict(student.fitted, holdout, name, run)
    compared = {CEILING: files[CEILING]} if CEILING in files else {}
    if rows is not real:
        compared[REAL_ROWS] = real
    plugin = made.students[made.champion].plugin
    alone = {name: (plugin, some) for name, some in compared.items()}
    if LINEAR.name not in made.students:
        alone[LINEAR.name] = (LINEAR, real)
    for name, (one, some) in alone.items():
        fitted = run(named(FIT_TABLE, name), fit_params(task, table, one), inputs={"rows": some})
        contenders[name] = predict(fitted, holdout, name, run)
    return run(stage, params, inputs={"holdout": holdout, **contenders})
