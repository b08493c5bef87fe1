"""Judging the students that were made: on gold rows, and on what real texts say without labels."""

from collections.abc import Mapping
from typing import Any

from factory.check import Task
from factory.evaluation.baselines import MAJORITY, MajorityParams
from factory.evaluation.comparison import EVALUATE, EvaluateParams
from factory.evaluation.label_free import LABEL_FREE, LabelFreeParams
from factory.evaluation.verdict import Evaluation, Regime
from factory.records import Rows
from factory.release.answer import ANSWER, AnswerParams
from factory.release.refusal import REFUSAL, Refusal, RefusalParams
from factory.release.robustness import ROBUSTNESS, Robustness, RobustnessParams
from factory.spec_data import UNLABELLED
from factory.store import Artifact
from factory.teacher import Teacher
from flows.augmentation import compared_rows
from flows.products import Made
from flows.steps import Runner, ask_descriptions, fit, label_sample, named, predict

FEW_GOLD_ROWS = 200
"""Below this, texts without labels are asked what they can add."""


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


def estimate_on_pool(files: Mapping[str, Artifact[Rows]], made: Made, rows: Artifact[Rows], run: Runner) -> None:
    """Where gold rows are few or none, say what the pool lets one guess; `factory verdict` shows it."""
    known = run.peek(files["holdout"]) if "holdout" in files else None
    if "pool" not in files or ("holdout" in files and (known is None or len(known.kept) >= FEW_GOLD_ROWS)):
        return
    champion = made.students[made.champion]
    calibration = run.peek(champion.calibration)
    softened = max(1.0, calibration.calibration_temperature) if calibration else 1.0
    answers = run(named(ANSWER, "pool"), AnswerParams(), inputs={"exported": made.exported, "rows": files["pool"]})
    inputs: dict[str, Artifact[Any]] = {"pool": answers, "oof": champion.oof, "rows": rows}
    if "holdout" in files:
        gold = run(ANSWER, AnswerParams(), inputs={"exported": made.exported, "rows": files["holdout"]})
        inputs |= {"holdout": files["holdout"], "student": gold}
    run(LABEL_FREE, LabelFreeParams(calibration_temperature=softened), inputs=inputs)


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
    return Regime.Z1 if UNLABELLED & set(task.files) else Regime.Z0
