"""The main job, in order: every stage from a task folder to a judged, exported small model.

`recipe` only says what follows from what. Who runs it decides what a step is: `flows.build` makes each a Prefect task
that runs and stores, `flows.plan` only looks up what is stored. Results may therefore be unknown (`peek` gives None).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.check import Task
from factory.curation import FILTERS
from factory.curation.description import DESCRIPTION
from factory.curation.gather import GATHER, GatherParams
from factory.curation.label_noise import LABEL_NOISE
from factory.curation.leakage import LEAKAGE
from factory.data import READ, ReadParams
from factory.encoders import load_encoder
from factory.errors import TeacherError
from factory.evaluation.audit import Audit
from factory.evaluation.baselines import MAJORITY, MajorityParams
from factory.evaluation.calibration import CALIBRATE, CalibrateParams, Calibration
from factory.evaluation.comparison import EVALUATE, EvaluateParams, choose
from factory.evaluation.verdict import Evaluation, Regime
from factory.labelling.self_training import STRATEGY
from factory.labelling.verify import VERIFY
from factory.labelling.voters import TEACHER
from factory.records import Origin, Predictions, Rows
from factory.release.answer import ANSWER, AnswerParams
from factory.release.export import EXPORT, Exported, ExportParams
from factory.release.measure import MEASURE, Machine, MeasureParams, Speed
from factory.release.refusal import REFUSAL, Refusal, RefusalParams
from factory.release.robustness import ROBUSTNESS, Robustness, RobustnessParams
from factory.spec import Plugin
from factory.store import Artifact
from factory.students.training import FittedStudent, resources_for
from factory.synthesis import STRATEGIES
from factory.synthesis.strategy import WriteParams
from factory.teacher import Teacher
from flows.audit import audit_rows
from flows.augmentation import (
    REAL_KEYS,
    augment,
    compared_rows,
    count_real,
    expected_varied,
    gather_real,
    real_texts,
    with_real,
)
from flows.cascading import Tiers, choose_cascade, set_calibration_aside
from flows.pool import label_pool, settle
from flows.self_training import label_rest
from flows.steps import (
    NOISE_JUDGE,
    Runner,
    ask_descriptions,
    cross_predict,
    fit,
    label_sample,
    named,
    predict,
    verify_params,
)

EXPECTED_ACCEPTED_RATIO = 0.8
"""Share of written rows that survive, until the first round has measured it label by label."""
LEAST_ACCEPTED_RATIO = 0.2
"""A label whose texts nearly all fail is asked for at most five times what is missing."""

NOBODY: Mapping[str, Teacher] = {}


@dataclass(frozen=True)
class Trained:
    """One student: its opinion of rows it did not see, the calibration that follows, and the model fitted on all."""

    plugin: Plugin
    oof: Artifact[Predictions]
    calibration: Artifact[Calibration]
    fitted: Artifact[FittedStudent]


@dataclass(frozen=True)
class Made:
    """All students, and the one that was chosen and exported."""

    students: Mapping[str, Trained]
    champion: str
    exported: Artifact[Exported]


@dataclass(frozen=True)
class Products:
    """What a build ends with; artifacts may be pending when it is only planned."""

    files: Mapping[str, Artifact[Rows]]
    rows: Artifact[Rows]
    """What people and teachers labelled: students are judged on it out of fold."""
    taught: Artifact[Rows]
    """What the students are fitted on: these, and rows that another student labelled."""
    made: Made
    evaluation: Artifact[Evaluation]
    speed: Artifact[Speed]
    audit: Artifact[Audit]
    tiers: Tiers | None = None
    robustness: Artifact[Robustness] | None = None
    refusal: Artifact[Refusal] | None = None


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
    files = set_calibration_aside(task, {key: read_file(task, key, run) for key in task.files}, run)
    real = gather_real(task, files, run)
    rows = filter_noise(task, write_rows(task, files, real, teacher, run, others), run)
    audit = audit_rows(task, files, rows, run)
    taught = with_self_trained(task, files, rows, run)
    students = {plugin.name: train(task, plugin, rows, run, taught=taught) for plugin in task.spec.students}
    champion = pick(students, run)
    made = Made(students, champion, export(task, students[champion], rows, run))
    tiers = make_tiers(task, files, made, rows, teacher, run)
    evaluation = judge(task, files, real, rows, made, teacher, run)
    speed = run(
        MEASURE, MeasureParams(), inputs={"exported": made.exported, "rows": rows}, resources={"machine": Machine()}
    )
    robustness = probe(task, files, made, run)
    refusal = allow_refusal(task, files, made, rows, run)
    return Products(files, rows, taught, made, evaluation, speed, audit, tiers, robustness, refusal)


def read_file(task: Task, key: str, run: Runner) -> Artifact[Rows]:
    """Read one data file of the task folder; the pool loses its labels, everything else must have one."""
    params = ReadParams(origin=Origin.GOLD, labels=task.spec.label_names, needs_label=key != "pool")
    return run(named(READ, key), params, resources={"file": task.files[key]})


def write_rows(
    task: Task,
    files: Mapping[str, Artifact[Rows]],
    real: Artifact[Rows] | None,
    teacher: Teacher,
    run: Runner,
    others: Mapping[str, Teacher] = NOBODY,
) -> Artifact[Rows]:
    """Let the teacher label real texts, vary labelled ones, then write others, until each label has enough rows.

    Args:
        task: The task.
        files: Its data files; pool rows are trained on once the teacher has labelled a sample of them.
        real: Rows that people labelled; varied, shown to the teacher, and trained on.
        teacher: Whom to ask.
        run: Runs the stages.
        others: Whom else to ask about pool rows.

    Returns:
        Training rows. A label may have fewer than wanted when rounds or budget end.
    """
    spec = task.spec
    parts: dict[str, Artifact[Rows]] = {}
    steps: list[Artifact[Rows]] = []
    # Rows of the pool come first, so that of two that say the same the made one goes. Rows that people labelled never
    # pass a filter with made ones: made ones too near to them go.
    if "pool" in files and spec.labelling.label_pool:
        labelled = label_pool(task, files["pool"], {TEACHER: teacher, **others}, run)
        parts["pool"] = settle(task, labelled, files.get("reviewed"), run)
    for name, made in augment(task, real, teacher, run).items():
        parts[name] = made[-1]
        steps += made
    like = real_texts(files, real, parts.get("pool"), run)
    per_label = spec.wanted_per_label
    n_real = count_real(task, real, run)
    missing = {label: max(0, per_label - n_real[label]) for label in spec.label_names}
    accepted_ratio = dict.fromkeys(spec.label_names, EXPECTED_ACCEPTED_RATIO)
    asked: Counter[str] = Counter()
    before: Counter[str] = Counter()
    rows: Artifact[Rows] | None = None
    n_rounds = spec.synthesis.max_rounds if any(missing.values()) else 0
    for round_ in range(0 if parts else 1, n_rounds + 1):  # round 0: what is there before any writing
        wanted = {label: math.ceil(n / accepted_ratio[label]) for label, n in missing.items()} if round_ else {}
        asked.update(wanted)
        for plugin in spec.synthesis.strategies if wanted else ():
            share = {label: math.ceil(n / len(spec.synthesis.strategies)) for label, n in wanted.items()}
            written, verified = write(task, plugin, share, round_, like, teacher, run)
            parts[f"{plugin.name}-{round_}"] = verified
            steps += [written] if verified is written else [written, verified]
        rows = run(named(GATHER, round_), GatherParams(), inputs=parts)
        rows = curate(task, rows, files, str(round_), run)
        known = run.peek(rows)
        is_enough = "pool" in parts and spec.labelling.label_pool >= per_label * len(spec.labels)
        if known is None and (round_ or is_enough):
            break  # a plan: more rounds, and rows for labels that the pool lacks, are only known when they are needed
        counts = Counter(known.kept["label"]) if known else expected_varied(task)
        missing = {label: max(0, per_label - n_real[label] - counts[label]) for label in spec.label_names}
        if not any(missing.values()) or not spec.synthesis.strategies or ended_early(steps, run):
            break
        if round_:
            for label, n in asked.items():
                ratio = (counts[label] - before[label]) / max(1, n)
                accepted_ratio[label] = min(1.0, max(LEAST_ACCEPTED_RATIO, ratio))
        else:
            before = counts
    rows = with_real(task, rows, real, run)
    require_two_labels(rows, steps, run)
    return rows


def ended_early(steps: Sequence[Artifact[Rows]], run: Runner) -> bool:
    """Tell whether the budget stopped one of the steps."""
    known = (run.peek(step) for step in steps)
    return any(step is not None and step.report.get("stopped") == "budget" for step in known)


def require_two_labels(rows: Artifact[Rows], steps: Sequence[Artifact[Rows]], run: Runner) -> None:
    """Stop where there is nothing to learn from, and say why there is not.

    Args:
        rows: Training rows.
        steps: What the teacher wrote and verified, with what was rejected.
        run: Runs the stages.

    Raises:
        TeacherError: Fewer than two labels have a row.
    """
    known = run.peek(rows)
    if known is None or len(set(known.kept["label"])) > 1:
        return
    reasons: Counter[str] = Counter()
    for step in steps:
        found = run.peek(step)
        reasons.update(found.rejected["reason"][:] if found else ())
    why = ", ".join(f"{reason} {n}" for reason, n in reasons.most_common(5)) or "no texts came back"
    if ended_early(steps, run):
        why, hint = f"{why}; the budget was used up", "raise teacher.budget; what was paid for is kept"
    else:
        hint = "see rejected.parquet in the folders of these stages; another model or clearer descriptions may help"
    n_labels = len(set(known.kept["label"]))
    left = f"the teacher's texts leave {len(known.kept)} training rows for {n_labels} labels, and two labels are needed"
    raise TeacherError(f"{left}; rejected: {why}", hint=hint)


def write(
    task: Task,
    plugin: Plugin,
    wanted: Mapping[str, int],
    round_: int,
    like: Artifact[Rows] | None,
    teacher: Teacher,
    run: Runner,
) -> tuple[Artifact[Rows], Artifact[Rows]]:
    """Let one strategy write, like real rows if there are any, and the teacher label that again; return both steps."""
    spec, strategy = task.spec, STRATEGIES[plugin.name]
    params = WriteParams(
        description=spec.description,
        labels=spec.labels,
        wanted=tuple(wanted.values()),
        round=round_,
        seed=spec.seed,
        options=strategy.options(**plugin.params),
    )
    resources: dict[str, Any] = {"teacher": teacher}
    inputs: dict[str, Artifact[Rows]] = {}
    if like is not None and strategy.takes_real:
        inputs["real"] = like
    if inputs or strategy.needs_encoder(params.options):
        resources["encoder"] = load_encoder(spec.encoder)
    rows = run(named(strategy.stage, round_), params, inputs=inputs, resources=resources)
    if not spec.labelling.verify:
        return rows, rows
    stage = named(VERIFY, f"{plugin.name}-{round_}")
    return rows, run(stage, verify_params(task), inputs={"rows": rows}, resources={"teacher": teacher})


def curate(
    task: Task, rows: Artifact[Rows], files: Mapping[str, Artifact[Rows]], suffix: str, run: Runner
) -> Artifact[Rows]:
    """Apply the spec's filters that need no trained student, in spec order."""
    encoder = load_encoder(task.spec.encoder)
    protected = {key: files[key] for key in ("holdout", *REAL_KEYS) if key in files}
    for plugin in task.spec.curation:
        stage = FILTERS[plugin.name]
        if stage is LABEL_NOISE:
            continue
        inputs: dict[str, Artifact[Any]] = {"rows": rows, **(protected if stage is LEAKAGE else {})}
        if stage is DESCRIPTION:
            inputs["opinion"] = ask_descriptions(task, rows, suffix, run)
        resources = {} if stage is DESCRIPTION else {"encoder": encoder}
        rows = run(named(stage, suffix), stage.params(**plugin.params), inputs=inputs, resources=resources)
    return rows


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
    if how is None:
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


def pick(students: Mapping[str, Trained], run: Runner) -> str:
    """Choose the student to release by its out-of-fold scores; never by the holdout."""
    # Those rows are synthetic. Students without a pretrained encoder learn the teacher's wording by heart and lead
    # there even where they are far behind on real texts (SuperGen SST-2: n-grams 0.995 against 0.989, real 0.608
    # against 0.732), so they are chosen only when there is nothing else. Ties go to the earlier in the spec.
    pretrained = {name: one for name, one in students.items() if resources_for(name, one.plugin.params)}
    eligible = pretrained or dict(students)
    calibrations = {name: run.peek(student.calibration) for name, student in eligible.items()}
    known = {name: calibration for name, calibration in calibrations.items() if calibration is not None}
    return choose(known) if len(known) == len(eligible) else next(iter(eligible))


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


def judge(
    task: Task,
    files: Mapping[str, Artifact[Rows]],
    real: Artifact[Rows] | None,
    rows: Artifact[Rows],
    made: Made,
    teacher: Teacher,
    run: Runner,
) -> Artifact[Evaluation]:
    """Compare the exported student with the teacher and the baselines on gold rows; only here are their labels read.

    Args:
        task: The task.
        files: Its data files; without a holdout the figures are those of the out-of-fold rows, and say so.
        real: The real rows among them, on which alone the same student is trained for comparison.
        rows: What the students were trained on.
        made: The students.
        teacher: Asked for the labels of a sample of the gold rows.
        run: Runs the stages.

    Returns:
        The evaluation.
    """
    spec = task.spec
    params = EvaluateParams(
        labels=spec.label_names,
        champion=made.champion,
        regime=regime(task),
        seed=spec.seed,
        margin=spec.verdict.margin,
    )
    if "holdout" not in files:
        return run(EVALUATE, params, inputs={"rows": rows, "student": made.students[made.champion].oof})
    holdout = files["holdout"]
    contenders: dict[str, Artifact[Any]] = {
        "student": run(ANSWER, AnswerParams(), inputs={"exported": made.exported, "rows": holdout}),
        "majority": run(MAJORITY, MajorityParams(labels=spec.label_names), inputs={"rows": holdout, "train": rows}),
        "nearest-description": ask_descriptions(task, holdout, "", run),
    }
    for name, student in made.students.items():
        contenders[name] = predict(student.fitted, holdout, name, run)
    for name, alone in compared_rows(files, real, run).items():
        fitted = fit(task, made.students[made.champion].plugin, alone, name, run)
        contenders[name] = predict(fitted, holdout, name, run)
    if spec.labelling.ask_directly:
        contenders["teacher"] = label_sample(task, holdout, spec.labelling.ask_directly, "holdout", teacher, run)
    return run(EVALUATE, params, inputs={"holdout": holdout, **contenders})


def allow_refusal(
    task: Task, files: Mapping[str, Artifact[Rows]], made: Made, rows: Artifact[Rows], run: Runner
) -> Artifact[Refusal] | None:
    """Choose on real texts which ones the student may refuse, where the spec lets it."""
    if task.spec.refuse is None:
        return None
    real = files.get("calibration") or files["pool"]
    inputs: dict[str, Artifact[Any]] = {"exported": made.exported, "rows": real, "seen": rows}
    return run(REFUSAL, RefusalParams(rate=task.spec.refuse), inputs=inputs)


def probe(task: Task, files: Mapping[str, Artifact[Rows]], made: Made, run: Runner) -> Artifact[Robustness] | None:
    """Perturb the gold rows and ask the exported student again; nothing is chosen by what it says."""
    if "holdout" not in files:
        return None
    params = RobustnessParams(seed=task.spec.seed)
    return run(ROBUSTNESS, params, inputs={"exported": made.exported, "rows": files["holdout"]})


def regime(task: Task) -> Regime:
    """Name what real data the rows were made from; `ceiling` and `holdout` are only measured on."""
    if "train" in task.files:
        return Regime.AUG
    if "seeds" in task.files or "reviewed" in task.files:
        return Regime.FS
    return Regime.Z1 if "pool" in task.files else Regime.Z0
