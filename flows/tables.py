"""The main job for a table, in order: from its rows to a judged, exported student.

`recipe` hands over to `table_recipe` where the spec is of a table. The teacher is asked about the columns where rows
are few (`flows.table_priors`), and about a sample of the holdout where the spec says so; else about nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from factory.check import Task
from factory.curation.gather import GATHER, GatherParams
from factory.errors import FactoryError
from factory.evaluation.audit import NO_AUDIT, NoAuditParams
from factory.evaluation.baselines import MAJORITY, MEAN, MajorityParams, MeanParams
from factory.evaluation.explanations import EXPLAIN, ExplainParams
from factory.evaluation.sample import SAMPLE, SampleParams
from factory.evaluation.table_verdict import EVALUATE_NUMBERS, EVALUATE_TABLE, EvaluateTableParams
from factory.evaluation.verdict import TEACHER, Regime
from factory.labelling.annotate_table import ANNOTATE_TABLE, AnnotateTableParams
from factory.records import Rows
from factory.release.answer import ANSWER, AnswerParams
from factory.release.export_table import EXPORT_TABLE, ExportTableParams
from factory.release.measure import MEASURE, Machine, MeasureParams
from factory.spec import Plugin
from factory.spec_table import Table
from factory.store import Artifact
from factory.students.tables.training import (
    FIT_TABLE,
)
from factory.students.training import FittedStudent
from factory.tables.priors import Priors
from factory.tables.unlabel import UNLABEL, UnlabelParams
from factory.teacher import Teacher
from flows.products import Made, Products
from flows.steps import CEILING, REAL_ROWS, WITHOUT_PRIORS, Runner, named, predict
from flows.table_priors import TRAINED_ON, ask_columns, wants_priors
from flows.table_rows import with_written
from flows.table_steps import (
    SCORECARD,
    believed,
    explain_student,
    export_student,
    fit_params,
    pick_table_student,
    read_table_file,
    table_of_task,
    train_table,
)

LINEAR = Plugin(name="linear")
N_BATCH = 10_000
"""Rows asked at once when speed is measured."""


def table_recipe(task: Task, teacher: Teacher, run: Runner) -> Products:
    """Go from a task folder with a table to a judged student, ready to be packaged.

    Args:
        task: A checked task folder.
        teacher: Whom to ask about columns.
        run: Runs the stages, or looks up what they would give.

    Returns:
        The artifacts that the release is made of.

    Raises:
        FactoryError: There are no rows to train on, and nothing else to learn from.
    """
    table = table_of_task(task)
    files = {key: read_table_file(task, table, key, run) for key in task.files}
    real = labelled_rows(files, run)
    priors = ask_columns(task, table, files.get("pool") or real, teacher, run) if wants_priors(task) else None
    if real is None:
        return without_rows(task, table, files, priors, teacher, run)
    rows = with_written(task, table, files, real, teacher, run)
    audit = run(NO_AUDIT, NoAuditParams(), inputs={"rows": rows})
    students = {
        plugin.name: train_table(task, table, plugin, rows, run, priors=priors)
        for plugin in with_scorecard(task.spec.students, priors)
    }
    champion = pick_table_student(students, run)
    made = Made(students, champion, export_student(task, table, students[champion], rows, run))
    evaluation = judge_table(task, table, files, real, rows, made, teacher, run, priors=priors)
    speed = run(
        MEASURE,
        MeasureParams(n_batch=N_BATCH),
        inputs={"exported": made.exported, "rows": rows},
        resources={"machine": Machine()},
    )
    explanations = explain_student(task, table, students[champion], files, rows, run)
    return Products(files, rows, rows, made, evaluation, speed, audit, explanations=explanations)


def labelled_rows(files: Mapping[str, Artifact[Rows]], run: Runner) -> Artifact[Rows] | None:
    """Gather what people labelled for training; None where there is nothing."""
    given = {key: files[key] for key in TRAINED_ON if key in files}
    if len(given) < 2:
        return next(iter(given.values()), None)
    return run(named(GATHER, "real"), GatherParams(), inputs=given)


def without_rows(
    task: Task,
    table: Table,
    files: Mapping[str, Artifact[Rows]],
    priors: Artifact[Priors] | None,
    teacher: Teacher,
    run: Runner,
) -> Products:
    """Make a scorecard of what the teacher believes, where nobody labelled a row to learn from.

    Args:
        task: A checked task folder.
        table: What its rows hold.
        files: Its data files.
        priors: What the teacher believes of the columns.
        teacher: Asked about a sample of the gold rows, where the spec says so.
        run: Runs the stages.

    Returns:
        The artifacts that the release is made of.

    Raises:
        FactoryError: Nobody was asked, the answer is a number, or there are no gold rows to judge the scorecard by.
    """
    name = task.spec.name
    if priors is None or not table.labels:
        # A teacher says of a column whether the number is higher, not how high.
        raise FactoryError(f"{name}: a table needs rows to train on", hint="name them in the spec under data.train")
    if "holdout" not in files:
        raise FactoryError(
            f"{name}: nobody could say how good a model without any labelled row is",
            hint="name some labelled rows under data.holdout (a few dozen tell much), or rows to learn from under "
            "data.train",
        )
    # Real rows for what needs any, such as the clock; without labels, for those of a holdout are not to be seen.
    shown = run(named(UNLABEL, "shown"), UnlabelParams(), inputs={"rows": files.get("pool") or files["holdout"]})
    none = run(named(UNLABEL, "none"), UnlabelParams(n=0), inputs={"rows": shown})
    audit = run(NO_AUDIT, NoAuditParams(), inputs={"rows": none})
    plugin = next((one for one in task.spec.students if one.name == SCORECARD.name), SCORECARD)
    fitted: Artifact[FittedStudent] = run(
        named(FIT_TABLE, plugin.name), fit_params(task, table, plugin), inputs={"rows": none, "priors": priors}
    )
    exported = run(EXPORT_TABLE, ExportTableParams(name=name, table=table), inputs={"fitted": fitted, "rows": shown})
    holdout = files["holdout"]
    contenders: dict[str, Artifact[Any]] = {
        "student": run(ANSWER, AnswerParams(), inputs={"exported": exported, "rows": holdout}),
        "majority": run(MAJORITY, MajorityParams(labels=table.label_names), inputs={"rows": holdout}),
    }
    if CEILING in files:
        above = run(named(FIT_TABLE, CEILING), fit_params(task, table, LINEAR), inputs={"rows": files[CEILING]})
        contenders[CEILING] = predict(above, holdout, CEILING, run)
    contenders |= ask_rows(task, table, holdout, teacher, run)
    regime = Regime.Z1 if "pool" in files else Regime.Z0
    params = EvaluateTableParams(table=table, champion=plugin.name, regime=regime, seed=task.spec.seed)
    evaluation = run(EVALUATE_TABLE, params, inputs={"holdout": holdout, **contenders})
    speed = run(
        MEASURE,
        MeasureParams(n_batch=N_BATCH),
        inputs={"exported": exported, "rows": shown},
        resources={"machine": Machine()},
    )
    told = ExplainParams(table=table, is_gold=True, seed=task.spec.seed)
    explanations = run(EXPLAIN, told, inputs={"fitted": fitted, "rows": holdout})
    made = Made({}, plugin.name, exported)
    return Products(files, none, none, made, evaluation, speed, audit, explanations=explanations)


def with_scorecard(students: Sequence[Plugin], priors: Artifact[Priors] | None) -> tuple[Plugin, ...]:
    """Add the student that can use priors to those of the spec, where there are some."""
    is_there = any(plugin.name == SCORECARD.name for plugin in students)
    return (*students, SCORECARD) if priors is not None and not is_there else tuple(students)


def judge_table(
    task: Task,
    table: Table,
    files: Mapping[str, Artifact[Rows]],
    real: Artifact[Rows],
    rows: Artifact[Rows],
    made: Made,
    teacher: Teacher,
    run: Runner,
    *,
    priors: Artifact[Priors] | None = None,
) -> Artifact[Any]:
    """Compare the exported student with the baselines on gold rows; only here are their answers read.

    Args:
        task: The task.
        table: What its rows hold.
        files: Its data files; without a holdout the figures are those of the out-of-fold rows, and say so.
        real: The rows that people labelled.
        rows: What the students were trained on.
        made: The students.
        teacher: Asked about a sample of the gold rows, where the spec says so.
        run: Runs the stages.
        priors: What the teacher believes of the columns; the student that used them is compared with itself without.

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
    if believed(plugin, priors):
        alone[WITHOUT_PRIORS] = (plugin, rows)
    for name, (one, some) in alone.items():
        # Written rows are compared with none, all else being equal.
        told = believed(one, priors) if name == REAL_ROWS else {}
        fitted = run(named(FIT_TABLE, name), fit_params(task, table, one), inputs={"rows": some, **told})
        contenders[name] = predict(fitted, holdout, name, run)
    contenders |= ask_rows(task, table, holdout, teacher, run)
    return run(stage, params, inputs={"holdout": holdout, **contenders})


def ask_rows(
    task: Task, table: Table, holdout: Artifact[Rows], teacher: Teacher, run: Runner
) -> dict[str, Artifact[Any]]:
    """Let the teacher answer a sample of the gold rows, one by one, where the spec wants to know how good it is."""
    if not task.spec.labelling.ask_directly or not table.labels:
        return {}
    how = SampleParams(n=task.spec.labelling.ask_directly, seed=task.spec.seed)
    drawn = run(named(SAMPLE, "holdout"), how, inputs={"rows": holdout})
    params = AnnotateTableParams(description=task.spec.description, table=table)
    return {TEACHER: run(ANNOTATE_TABLE, params, inputs={"rows": drawn}, resources={"teacher": teacher})}
