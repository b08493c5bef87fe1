"""The main job, in order: every stage from a task folder to a judged, exported small model.

`recipe` only says what follows from what. Who runs it decides what a step is: `flows.build` makes each a Prefect task
that runs and stores, `flows.plan` only looks up what is stored. Results may therefore be unknown (`peek` gives None).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from factory.check import Task
from factory.curation import FILTERS
from factory.curation.gather import GATHER, GatherParams
from factory.curation.label_noise import LABEL_NOISE
from factory.data import READ, ReadParams
from factory.evaluation.calibration import CALIBRATE, CalibrateParams
from factory.evaluation.comparison import choose
from factory.evaluation.learning_curve import LearningCurve
from factory.labelling.self_training import STRATEGY
from factory.records import Origin, Rows
from factory.release.export import EXPORT, Exported, ExportParams
from factory.release.measure import MEASURE, Machine, MeasureParams
from factory.spec import Plugin
from factory.spec_data import UNLABELLED
from factory.store import Artifact
from factory.students.training import resources_for
from factory.teacher import Teacher
from flows.audit import audit_rows
from flows.augmentation import gather_real, with_real
from flows.cascading import Tiers, choose_cascade, set_calibration_aside
from flows.judging import allow_refusal, estimate_on_pool, judge, probe
from flows.products import Made, Products, Trained
from flows.reviewed import ACCEPTED, REVIEWED, gather_accepted, read_reviewed_file
from flows.rounds import Writing, curate, fill_labels, require_two_labels
from flows.self_training import label_rest
from flows.steps import NOISE_JUDGE, Runner, cross_predict, fit, named
from flows.student_loop import write_what_is_hard
from flows.tables import table_recipe


@dataclass(frozen=True)
class Written:
    """What writing ends with."""

    rows: Artifact[Rows]
    """To train on. A label may have fewer than wanted when rounds or budget end."""
    curves: tuple[Artifact[LearningCurve], ...] = ()
    """One for each round with a student in the loop."""


NOBODY: Mapping[str, Teacher] = {}


def recipe(task: Task, teacher: Teacher, run: Runner, others: Mapping[str, Teacher] = NOBODY) -> Products:
    """Go from a task folder to a judged student, ready to be packaged.

    Args:
        task: A checked task folder.
        teacher: Whom to ask.
        run: Runs the stages, or looks up what they would give.
        others: The `teachers` of the spec, by name, who vote on pool rows.

    Returns:
        The artifacts that the release is made of.
    """
    if task.spec.kind.is_table:
        return table_recipe(task, teacher, run)
    files = set_calibration_aside(task, read_files(task, run), run)
    real = gather_real(task, files, run)
    written = write_rows(task, files, real, teacher, run, others)
    rows = filter_noise(task, written.rows, run)
    audit = audit_rows(task, files, rows, run)
    taught = with_self_trained(task, files, rows, run)
    students = {plugin.name: train(task, plugin, rows, run, taught=taught) for plugin in task.spec.students}
    champion = pick(students, rows, run)
    made = Made(students, champion, export(task, students[champion], rows, run))
    tiers = make_tiers(task, files, made, rows, teacher, run)
    refusal = allow_refusal(task, files, made, rows, run)
    evaluation = judge(task, files, real, rows, made, teacher, run)
    speed = run(
        MEASURE, MeasureParams(), inputs={"exported": made.exported, "rows": rows}, resources={"machine": Machine()}
    )
    robustness = probe(task, files, made, run)
    estimate_on_pool(files, made, rows, run)
    return Products(files, rows, taught, made, evaluation, speed, audit, tiers, robustness, refusal, written.curves)


def read_files(task: Task, run: Runner) -> dict[str, Artifact[Rows]]:
    """Read the data files of the task folder, what people said of written rows apart from what they said of others."""
    files = {key: read_file(task, key, run) for key in task.files}
    return {**files, ACCEPTED: read_reviewed_file(task, ACCEPTED, run)} if REVIEWED in files else files


def read_file(task: Task, key: str, run: Runner) -> Artifact[Rows]:
    """Read one data file of the task folder; what teachers label loses its labels, everything else must have one."""
    if key == REVIEWED:
        return read_reviewed_file(task, key, run)
    params = ReadParams(origin=Origin.GOLD, labels=task.spec.label_names, needs_label=key not in UNLABELLED)
    return run(named(READ, key), params, resources={"file": task.files[key]})


def write_rows(
    task: Task,
    files: Mapping[str, Artifact[Rows]],
    real: Artifact[Rows] | None,
    teacher: Teacher,
    run: Runner,
    others: Mapping[str, Teacher] = NOBODY,
) -> Written:
    """Let the teacher label real texts, vary labelled ones, then write others, until each label has enough rows.

    Args:
        task: The task.
        files: Its data files.
        real: Rows that people labelled.
        teacher: Whom to ask.
        run: Runs the stages.
        others: Whom else to ask about pool rows.

    Returns:
        The training rows; with `synthesis.loop`, what further rounds made and taught is among it.
    """
    accepted = gather_accepted(task, files, run)
    writing = Writing(task, files, real, teacher, run, others, accepted=accepted)
    writing.begin()
    rows = fill_labels(writing)
    curves: tuple[Artifact[LearningCurve], ...] = ()
    if rows is not None and task.spec.synthesis.loop is not None:
        rows, curves = write_what_is_hard(writing, rows, task.spec.synthesis.loop)
    rows = with_real(task, rows, real, run, accepted=accepted)
    require_two_labels(writing, rows)
    return Written(rows, curves)


def filter_noise(task: Task, rows: Artifact[Rows], run: Runner) -> Artifact[Rows]:
    """Drop the rows that a cheap student, trained on the others, finds hard to believe."""
    for plugin in task.spec.curation:
        if FILTERS[plugin.name] is LABEL_NOISE:
            oof = cross_predict(task, NOISE_JUDGE, rows, "label-noise", run)
            rows = run(LABEL_NOISE, LABEL_NOISE.params(**plugin.params), inputs={"rows": rows, "oof": oof})
    return rows


def with_self_trained(
    task: Task, files: Mapping[str, Artifact[Rows]], rows: Artifact[Rows], run: Runner
) -> Artifact[Rows]:
    """Add rows of the pool that a student labels, if the spec wants them, curated like all others."""
    how = task.spec.labelling.self_training
    if how is None or "pool" not in files:
        return rows
    labelled = curate(task, label_rest(task, how, files["pool"], rows, run), files, STRATEGY, run)
    return run(named(GATHER, STRATEGY), GatherParams(), inputs={"rows": rows, STRATEGY: labelled})


def train(
    task: Task, plugin: Plugin, rows: Artifact[Rows], run: Runner, *, taught: Artifact[Rows] | None = None
) -> Trained:
    """Fit one student, and calibrate it on out-of-fold rows.

    Args:
        task: The task.
        plugin: The student.
        rows: What it is judged on out of fold.
        run: Runs the stages.
        taught: What it is fitted on in the end; default: the same.

    Returns:
        The student, its opinion of the rows, and its calibration.
    """
    oof = cross_predict(task, plugin, rows, plugin.name, run, soft_labels=task.spec.labelling.soft_labels)
    calibration = run(
        named(CALIBRATE, plugin.name),
        CalibrateParams(seed=task.spec.seed),
        inputs={"oof": oof, "rows": rows},
    )
    return Trained(plugin, oof, calibration, fit(task, plugin, taught or rows, plugin.name, run))


def pick(students: Mapping[str, Trained], rows: Artifact[Rows], run: Runner) -> str:
    """Choose the student to release: by its out-of-fold scores where rows are real, never by the holdout.

    Args:
        students: What to choose from.
        rows: Those they were judged on out of fold.
        run: Knows the results.

    Returns:
        A name. Students with a pretrained encoder come first: others learn the teacher's wording by heart and lead on
        its rows even where they are far behind on real ones. Where a teacher wrote most of the rows, it is the first of
        the spec: scores on them say who learns a teacher's texts (on questions a static embedding, 0.96 to 0.94, which
        on real ones had 0.48 to 0.72; docs/log.md). Ties go to the earlier in the spec, too.
    """
    pretrained = {name: one for name, one in students.items() if resources_for(name, one.plugin.params)}
    eligible = pretrained or dict(students)
    calibrations = {name: run.peek(student.calibration) for name, student in eligible.items()}
    known = {name: calibration for name, calibration in calibrations.items() if calibration is not None}
    judged = run.peek(rows)
    if judged is None or len(known) < len(eligible) or _mostly_written(judged):
        return next(iter(eligible))
    return choose(known)


def _mostly_written(rows: Rows) -> bool:
    origins: list[str] = rows.kept["origin"][:]
    return 2 * origins.count(Origin.SYNTHETIC) > len(origins)


def make_tiers(
    task: Task,
    files: Mapping[str, Artifact[Rows]],
    made: Made,
    rows: Artifact[Rows],
    teacher: Teacher,
    run: Runner,
) -> Tiers | None:
    """Export the students that are tiers of the spec's cascade, and choose its thresholds."""
    if task.spec.cascade is None:
        return None

    def exported(name: str) -> Artifact[Exported]:
        return made.exported if name == made.champion else export(task, made.students[name], rows, run, name)

    return choose_cascade(task, files["calibration"], exported, teacher, run)


def export(task: Task, student: Trained, rows: Artifact[Rows], run: Runner, suffix: str = "") -> Artifact[Exported]:
    """Turn a student into a folder that needs neither this code nor PyTorch."""
    calibration = run.peek(student.calibration)
    params = ExportParams(
        name=task.spec.name,
        labels=task.spec.label_names,
        # Synthetic rows are easier than real ones: a temperature fitted on them may soften, never sharpen.
        calibration_temperature=max(1.0, calibration.calibration_temperature) if calibration else 1.0,
    )
    stage = named(EXPORT, suffix) if suffix else EXPORT
    return run(stage, params, inputs={"fitted": student.fitted, "rows": rows})
