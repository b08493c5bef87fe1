"""How good the released student is beside the teacher and the baselines, on the gold rows of seven public sets.

python -m benchmarks.quality --data FOLDER --regime z0 --replay     from recorded replies: no teacher, no weights
python -m benchmarks.quality --data FOLDER --regime z1              ask the embedded teacher; hours for all sets
python -m benchmarks.quality --data FOLDER --set trec6 --outputs outputs --record    keep the build, record its replies
python -m benchmarks.quality --data FOLDER --regime fs              8 labelled rows a label, beside SetFit on the same 8
python -m benchmarks.quality --data FOLDER --regime aug             16 labelled rows a label, beside the same 16 alone

Each set becomes a task whose test rows are the holdout (`benchmarks.make_task` has the regimes); that they are read by
the final report alone is asserted from the manifests of the build (`benchmarks.holdout`). Teacher time is what writing
and verifying took; being asked directly, for comparison, is listed apart.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cells import Gold, Run, add_options, exit_code, name_of, opened, prepare, record, recording_path, table
from benchmarks.holdout import require_unread
from factory.check import Task
from factory.evaluation.metrics import Estimate
from factory.evaluation.verdict import Evaluation, in_percent, in_points
from factory.records import Predictions
from factory.release.answer import ANSWER, AnswerParams
from factory.spec import DEFAULT_ENCODER, Plugin
from factory.store import Artifact
from flows.recipe import Products, export, pick, recipe
from flows.steps import REAL_ROWS, fit, predict

SETS = ("snips_intent", "ag_news", "sst2", "trec6", "banking77", "tweet_emotion", "medical_abstracts")
MOST_MB = 25.0
"""Of a student that counts as small."""
SEEDS = (0, 1, 2)
"""Of the students, on one and the same set of texts and labels."""
PEER = "setfit"
PEER_PARAMS = {"passes": 40, "max_steps": 200}
"""As many pairs as its authors make, 40 a text, but on Banking77: 600 texts would take 1,500 steps."""


@dataclass(frozen=True)
class Seeds:
    """The chosen student fitted again on the same rows: float32, accuracy and macro-F1 in percent."""

    accuracies: tuple[float, ...]
    macro_f1s: tuple[float, ...]

    @property
    def words(self) -> str:
        """Means with ranges."""
        return f"{_spread(self.accuracies)} | {_spread(self.macro_f1s)}"


@dataclass(frozen=True)
class Small:
    """The best student under `MOST_MB`, chosen out of fold as the released one is; figures of its int8 folder."""

    student: str
    mb: float
    accuracy: str
    macro_f1: str


@dataclass(frozen=True)
class Cell:
    """One set in one regime; accuracies in percent and differences in points, with 95% intervals."""

    task: str
    n_gold: int
    student: str
    mb: float
    accuracy: str
    macro_f1: str
    ece: str
    teacher: str
    n_teacher: int
    minus_teacher: str
    mcnemar_teacher: float | None
    nearest_description: str
    minus_nearest: str
    n_training_rows: int
    teacher_minutes: float
    """Writing and verifying, as stored or recorded: what they took when the teacher was asked."""
    asked_directly_minutes: float
    calls: int
    written_tokens: int
    all_students: str
    seeds: Seeds
    small: Small | None
    alone: str
    """The same student fitted on the real labelled rows alone; empty where there are none, and so are the others."""
    minus_alone: str
    peer: str
    """SetFit fitted on the same rows alone."""
    minus_peer: str


def measure(task: Task, run: Run, seconds: Mapping[str, float]) -> Cell:
    """Build a task and read its figures.

    Args:
        task: With a holdout.
        run: Runs the stages.
        seconds: What stages took when their replies were recorded; without a recording their manifests say it.

    Returns:
        The figures.

    Raises:
        HoldoutRead: Something else than the final report read gold rows.
        RepliesMissing: The build is a replay, and something it asks was not recorded.
    """
    products = recipe(task, run.teacher, run)
    require_unread(run.artifacts)
    built = list(run.artifacts)
    evaluation = products.evaluation.load()
    known = {one.name: one for one in evaluation.contenders}
    against = {one.other: one for one in evaluation.differences}
    teacher, beside = known.get("teacher"), against.get("teacher")
    asked = {name_of(one): one.manifest["varying"] for one in built if one.manifest["varying"].get("teacher_calls")}
    minutes = {stage: seconds.get(stage, varying["seconds"]) / 60 for stage, varying in asked.items()}
    made = [varying for stage, varying in asked.items() if stage != "annotate-holdout"]
    gold = Gold.of(task.spec.label_names, products.files["holdout"].load(), seed=task.spec.seed)
    peer = _peer(task, products, run, gold)
    return Cell(
        task=task.spec.name,
        n_gold=evaluation.n_rows,
        student=evaluation.champion,
        mb=products.made.exported.load().size_mb,
        accuracy=in_percent(evaluation.student.accuracy),
        macro_f1=in_percent(evaluation.student.macro_f1),
        ece="" if evaluation.student.ece is None else f"{100 * evaluation.student.ece:.1f}",
        teacher=in_percent(teacher.accuracy) if teacher else "",
        n_teacher=teacher.n if teacher else 0,
        minus_teacher=in_points(beside.accuracy) if beside else "",
        mcnemar_teacher=beside.mcnemar_p if beside else None,
        nearest_description=in_percent(known["nearest-description"].accuracy),
        minus_nearest=in_points(against["nearest-description"].accuracy),
        n_training_rows=len(products.taught.load().kept),
        teacher_minutes=sum(minutes.values()) - minutes.get("annotate-holdout", 0.0),
        asked_directly_minutes=minutes.get("annotate-holdout", 0.0),
        calls=sum(varying["teacher_calls"] for varying in made),
        written_tokens=sum(varying["completion_tokens"] for varying in made),
        all_students=_all_students(evaluation),
        seeds=_seeds(task, products, run, gold),
        small=_small(task, products, run, gold),
        alone=in_percent(known[REAL_ROWS].accuracy) if REAL_ROWS in known else "",
        minus_alone=in_points(against[REAL_ROWS].accuracy) if REAL_ROWS in against else "",
        peer=in_percent(peer[0]) if peer else "",
        minus_peer=in_points(peer[1]) if peer else "",
    )


def _all_students(evaluation: Evaluation) -> str:
    others = (one for one in evaluation.contenders if one.name not in ("student", "teacher", "majority"))
    return ", ".join(f"{one.name} {100 * one.accuracy.value:.1f}" for one in others)


def _seeds(task: Task, products: Products, run: Run, gold: Gold) -> Seeds:
    """Fit the chosen student with each seed on the very rows of the build."""
    holdout, plugin = products.files["holdout"], products.made.students[products.made.champion].plugin
    scores: list[tuple[float, float]] = []
    for seed in SEEDS:
        again = replace(task, spec=task.spec.model_copy(update={"seed": seed}))
        suffix = plugin.name if seed == task.spec.seed else f"{plugin.name}-seed-{seed}"
        answers = predict(fit(again, plugin, products.taught, suffix, run), holdout, suffix, run).load()
        accuracy, macro_f1 = gold.estimate("accuracy", answers), gold.estimate("macro_f1", answers)
        scores.append((100 * accuracy.value, 100 * macro_f1.value))
    accuracies, macro_f1s = zip(*scores, strict=True)
    return Seeds(accuracies, macro_f1s)


def _small(task: Task, products: Products, run: Run, gold: Gold) -> Small | None:
    """Go through the students, best out-of-fold figures first, until one is small enough; gold rows choose nothing."""
    left = dict(products.made.students)
    while left:
        name = pick(left, products.rows, run)
        exported = export(task, left.pop(name), products.rows, run)
        if (mb := exported.load().size_mb) < MOST_MB:
            inputs: dict[str, Artifact[Any]] = {"exported": exported, "rows": products.files["holdout"]}
            answers = run(ANSWER, AnswerParams(), inputs=inputs).load()
            accuracy, macro_f1 = (in_percent(gold.estimate(figure, answers)) for figure in ("accuracy", "macro_f1"))
            return Small(name, mb, accuracy, macro_f1)
    return None


def _peer(task: Task, products: Products, run: Run, gold: Gold) -> tuple[Estimate, Estimate] | None:
    """Fit SetFit, with the encoder of the chosen student, on the seeds alone; its score and our lead."""
    if task.spec.data.seeds is None:
        return None
    few = [one for one in run.artifacts if name_of(one) in ("leakage-real", "gather-real")]
    params = products.made.students[products.made.champion].plugin.params
    plugin = Plugin(name=PEER, params={"encoder": params.get("encoder", DEFAULT_ENCODER), **PEER_PARAMS})
    fitted = fit(task, plugin, few[-1], PEER, run)
    theirs: Predictions = predict(fitted, products.files["holdout"], PEER, run).load()
    ours: Predictions = next(one for one in run.artifacts if name_of(one) == ANSWER.name).load()
    return gold.estimate("accuracy", theirs), gold.difference("accuracy", ours, theirs)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def markdown(cells: Sequence[Cell]) -> str:
    """Write the tables for docs/benchmarks.md."""
    parts = [_main_table(cells), "\n".join(f"- {one.task}, accuracy of each: {one.all_students}" for one in cells)]
    if any(one.alone or one.peer for one in cells):
        parts.append(_few_rows_table(cells))
    parts.append(_seeds_table(cells))
    return "\n\n".join(parts)


def _main_table(cells: Sequence[Cell]) -> str:
    head = (
        "task", "gold rows", "student", "accuracy, %", "macro-F1, %", "ECE, %", "teacher asked directly, % (rows)",
        "student minus teacher, points", "nearest description, %", "student minus nearest, points", "training rows",
        "teacher minutes (+ direct)", "calls", "tokens written",
    )  # fmt: skip
    rows = (
        (
            one.task, f"{one.n_gold:,}", f"{one.student}, {one.mb:.0f} MB", f"**{one.accuracy}**", one.macro_f1,
            one.ece, f"{one.teacher} ({one.n_teacher})" if one.teacher else "not asked", one.minus_teacher,
            one.nearest_description, one.minus_nearest, f"{one.n_training_rows:,}",
            f"{one.teacher_minutes:.1f} (+ {one.asked_directly_minutes:.1f})", f"{one.calls:,}",
            f"{one.written_tokens:,}",
        )
        for one in cells
    )  # fmt: skip
    return table(head, rows)


def _few_rows_table(cells: Sequence[Cell]) -> str:
    head = (
        "task", "student", "SetFit on the same rows alone, %", "student minus SetFit, points",
        "the same student on them alone, %", "student minus it, points",
    )  # fmt: skip
    rows = (
        (one.task, one.accuracy, one.peer or "not fitted", _bold(one.minus_peer), one.alone, _bold(one.minus_alone))
        for one in cells
    )
    return table(head, rows)


def _bold(figure: str) -> str:
    return f"**{figure}**" if figure else ""


def _seeds_table(cells: Sequence[Cell]) -> str:
    head = (
        "task", f"student, {len(SEEDS)} seeds: mean accuracy (range), %", "mean macro-F1 (range), %",
        f"best student under {MOST_MB:.0f} MB", "its accuracy, %", "its macro-F1, %",
    )  # fmt: skip
    small = {one.task: one.small or Small("none", 0.0, "", "") for one in cells}
    rows = (
        (
            one.task, *one.seeds.words.split(" | "), f"{small[one.task].student}, {small[one.task].mb:.1f} MB",
            small[one.task].accuracy, small[one.task].macro_f1,
        )
        for one in cells
    )  # fmt: skip
    return table(head, rows)


def main() -> None:
    """Build the sets and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--sets", "--set", nargs="+", default=list(SETS), metavar="SET", help="default: all seven")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    options = parser.parse_args()
    cells = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.sets:
            setup = prepare(options, name, Path(scratch))
            with opened(setup) as run:
                cells.append(measure(setup.task, run, setup.seconds))
                if options.record:
                    record(setup, recording_path(name, options.regime), run.artifacts)
    print("\n".join(json.dumps(asdict(cell)) for cell in cells) if options.json else markdown(cells))


if __name__ == "__main__":
    sys.exit(exit_code(main))
