"""The steps that the recipes of tables share: reading, training, choosing and exporting a student."""

from collections.abc import Mapping
from typing import Any

from factory.check import Task
from factory.errors import FactoryError
from factory.evaluation.calibration import CalibrateParams, Calibration
from factory.evaluation.explanations import EXPLAIN, ExplainParams, Explanations
from factory.evaluation.odds import OddsRule
from factory.evaluation.table_calibration import (
    CALIBRATE_TABLE,
    MEASURE_NUMBERS,
    NumberFit,
    NumberFitParams,
    TableCalibration,
    choose_table_student,
)
from factory.records import Origin, Predictions, Rows
from factory.release.export import Exported
from factory.release.export_table import EXPORT_TABLE, ExportTableParams
from factory.spec import Plugin
from factory.spec_data import UNLABELLED
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
from factory.tables.priors import Priors
from factory.tables.read import READ_TABLE, ReadTableParams
from flows.products import Trained
from flows.steps import Runner, named

SCORECARD = Plugin(name="scorecard")
"""The student that takes priors."""


def table_of_task(task: Task) -> Table:
    """Return what the rows of a task with a table hold."""
    if task.spec.table is None:
        raise FactoryError(f"{task.spec.name}: expected the task of a table, got one of kind {task.spec.kind}")
    return task.spec.table


def read_table_file(task: Task, table: Table, key: str, run: Runner) -> Artifact[Rows]:
    """Read one data file of the task folder; the pool loses its answers, everything else must have them."""
    params = ReadTableParams(origin=Origin.GOLD, table=table, needs_target=key not in UNLABELLED)
    return run(named(READ_TABLE, key), params, resources={"file": task.files[key]})


def train_table(
    task: Task,
    table: Table,
    plugin: Plugin,
    rows: Artifact[Rows],
    run: Runner,
    *,
    priors: Artifact[Priors] | None = None,
) -> Trained:
    """Tune one student, measure and calibrate it on out-of-fold rows, and fit it on all."""
    params = fit_params(task, table, plugin)
    tuned = run(named(TUNE, plugin.name), params, inputs={"rows": rows})
    inputs: dict[str, Artifact[Any]] = {"rows": rows, "tuned": tuned, **believed(plugin, priors)}
    folded = CrossPredictTableParams(**dict(params))
    oof: Artifact[Predictions] = run(named(CROSS_PREDICT_TABLE, plugin.name), folded, inputs=inputs)
    both: dict[str, Artifact[Any]] = {"oof": oof, "rows": rows}
    calibration: Artifact[Any]
    if table.labels:
        calibration = run(named(CALIBRATE_TABLE, plugin.name), CalibrateParams(seed=task.spec.seed), inputs=both)
    else:
        calibration = run(named(MEASURE_NUMBERS, plugin.name), NumberFitParams(seed=task.spec.seed), inputs=both)
    fitted: Artifact[FittedStudent] = run(named(FIT_TABLE, plugin.name), params, inputs=inputs)
    return Trained(plugin, oof, calibration, fitted)


def believed(plugin: Plugin, priors: Artifact[Priors] | None) -> dict[str, Artifact[Any]]:
    """Return the priors as an input of the student that takes them."""
    return {"priors": priors} if priors is not None and plugin.name == SCORECARD.name else {}


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
    rule, temperature = calibration_of(known)
    params = ExportTableParams(name=task.spec.name, table=table, calibration_temperature=temperature, rule=rule)
    return run(EXPORT_TABLE, params, inputs={"fitted": student.fitted, "rows": rows})


def calibration_of(known: TableCalibration | NumberFit | None) -> tuple[OddsRule | None, float]:
    """Return what is done to the log-odds of two labels, or the temperature of more."""
    if not isinstance(known, TableCalibration):
        return None, 1.0
    return known.rule, 1.0 if known.rule else known.calibration_temperature


def explain_student(
    task: Task, table: Table, student: Trained, files: Mapping[str, Artifact[Rows]], rows: Artifact[Rows], run: Runner
) -> Artifact[Explanations]:
    """Say which columns the student leans on, and how; on gold rows where there are some. Nothing is chosen by it."""
    rule, temperature = calibration_of(run.peek(student.calibration))
    params = ExplainParams(
        table=table,
        rule=rule,
        calibration_temperature=temperature,
        is_gold="holdout" in files,
        seed=task.spec.seed,
    )
    return run(EXPLAIN, params, inputs={"fitted": student.fitted, "rows": files.get("holdout", rows)})
