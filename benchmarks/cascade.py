"""Cascades on real texts: what share of them reaches the last tier, at what accuracy, and is the promise kept.

python -m benchmarks.cascade --data FOLDER --outputs OUTPUTS --last teacher     the LLM of the task as the last tier
python -m benchmarks.cascade --data FOLDER --outputs OUTPUTS --last mpnet       a large encoder in its place: no LLM
python -m benchmarks.cascade --data FOLDER --outputs OUTPUTS --last teacher --sets snips_intent --rows 600

Rows are those of the public *training* files. Of a set, some fit the students `static-embedding` and `blend`; others,
which no student has seen, are answered by every tier and stored in OUTPUTS: stop and start again at will. They are the
population: 100 times, `--calibration` rows are drawn from them with replacement, thresholds are chosen on these, and
the promise is looked up on all. Drawn so, a promise that is broken is broken, and not unlucky in its test rows.
"""

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.make_task import DESCRIPTIONS
from factory.encoders import load_encoder
from factory.encoders.mpnet import NAME as MPNET
from factory.evaluation.policies import Cascades, Tier
from factory.evaluation.routing import area, area_difference, fit_router
from factory.evaluation.thresholds import search
from factory.labelling.annotate import ANNOTATE, AnnotateParams
from factory.records import Origin, Predictions, Rows, TextRow, all_kept, text_dataset
from factory.spec import CascadeSpec, Label, Model, TeacherSpec
from factory.store import Artifact, Stage, run_stage
from factory.students.training import FIT, PREDICT, FitParams, PredictParams, resources_for
from factory.teacher import open_teacher
from flows.steps import named

SETS = ("snips_intent", "ag_news", "banking77")
STUDENTS = ("static-embedding", "blend")
N_SPLITS = 100
GOALS: tuple[dict[str, float], ...] = ({"within": 0.005}, {"within": 0.01}, {"teacher_share": 0.15})


class PartParams(Model):
    """Which rows of a file."""

    file: str
    start: int
    n: int
    seed: int = 0


def read_part(params: PartParams) -> Rows:
    """Read some rows of a shuffled file."""
    lines = Path(params.file).read_text(encoding="utf-8").splitlines()
    order = np.random.default_rng(params.seed).permutation(len(lines))[params.start : params.start + params.n]
    read = [json.loads(lines[position]) for position in order.tolist()]
    unique = {row["text"]: row["label"] for row in read}
    return all_kept(text_dataset([TextRow(text, label, Origin.GOLD) for text, label in unique.items()]))


PART: Stage[Rows] = Stage("part", 1, PartParams, read_part, Rows)


@dataclass(frozen=True)
class Line:
    """One promise on one set; shares and accuracies in percent."""

    set: str
    promise: str
    tiers: str
    alone: str
    """Accuracy of each tier on the population."""
    n_population: int
    n_calibration: int
    certified: int
    """Of 100 draws."""
    broken: int
    last_share: str
    """Of texts that reach the last tier, over certified draws: mean (5th to 95th percentile)."""
    accuracy: str
    versus_best: str
    """Accuracy minus that of the best tier, in points."""


@dataclass(frozen=True)
class RouterLine:
    """How a router that sees only the text compares with the small tier's own probability."""

    set: str
    small: str
    large: str
    n_learned: int
    n_compared: int
    area_cascade: float
    area_router: float
    router_minus_cascade: str


def answers(data: Path, name: str, options: argparse.Namespace) -> tuple[list[Tier], list[str]]:
    """Let every tier answer the population.

    Args:
        data: Folder of the sets.
        name: The set.
        options: The command line.

    Returns:
        The tiers, cheapest first, and the texts.
    """
    root = options.outputs / f"{name}-cascade"
    meta = json.loads((data / name / "meta.json").read_text(encoding="utf-8"))
    described = meta.get("label_descriptions", {})
    labels = tuple(Label(name=label, description=described.get(label, "")) for label in meta["labels"])
    file, n_fit = str(data / name / "train.jsonl"), options.fit
    rows = run_stage(root, named(PART, "population"), PartParams(file=file, start=0, n=options.rows))
    fitted = run_stage(root, named(PART, "fit"), PartParams(file=file, start=options.rows, n=n_fit))
    students = [(student, {}, fitted) for student in STUDENTS]
    if options.last == "mpnet":
        everything = run_stage(root, named(PART, "all"), PartParams(file=file, start=options.rows, n=options.fit_last))
        students.append(("sentence-linear", {"encoder": MPNET}, everything))
    kept = rows.load().kept
    gold, ids = kept["label"][:], kept["id"][:]
    tiers = []
    for student, params, seen in students:
        made = predicted(root, student, params, labels, seen, rows)
        right = np.array([answer == label for answer, label in zip(made.answers, gold, strict=True)])
        tiers.append(Tier(student if not params else MPNET, made.probs.max(axis=1), right))
    if options.last == "teacher":
        said = asked(root, DESCRIPTIONS[name], labels, rows, options)
        tiers.append(
            Tier(
                "teacher",
                np.ones(len(ids)),
                np.array([said.get(one) == label for one, label in zip(ids, gold, strict=True)]),
            )
        )
    return tiers, kept["text"][:]


def predicted(
    root: Path,
    student: str,
    params: dict[str, Any],
    labels: tuple[Label, ...],
    seen: Artifact[Rows],
    rows: Artifact[Rows],
) -> Predictions:
    """Fit a student and let it answer; both are stored."""
    suffix, uses = f"{student}-{params.get('encoder', 'default')}", resources_for(student, params)
    asked_for = FitParams(student=student, params=params, labels=labels, seed=0)
    fitted = run_stage(root, named(FIT, suffix), asked_for, inputs={"rows": seen}, resources=uses)
    return run_stage(root, named(PREDICT, suffix), PredictParams(), inputs={"student": fitted, "rows": rows}).load()


def asked(
    root: Path, description: str, labels: tuple[Label, ...], rows: Artifact[Rows], options: argparse.Namespace
) -> dict[str, str]:
    """Return the teacher's label of each row it has one for."""
    spec = TeacherSpec(name="embedded") if options.model is None else TeacherSpec(name="openai", model=options.model)
    with closing(open_teacher(spec, folder=root, outputs=options.outputs)) as teacher:
        params = AnnotateParams(description=description, labels=labels)
        stored = run_stage(root, ANNOTATE, params, inputs={"rows": rows}, resources={"teacher": teacher}).load()
    if not stored.is_complete:
        raise SystemExit(f"{root}: the teacher did not answer all rows; run the same command again")
    return dict(zip(stored.kept["id"], stored.kept["label"], strict=True))


def measure(name: str, tiers: Sequence[Tier], promise: dict[str, float], n_calibration: int) -> Line:
    """Choose thresholds on 100 draws of rows, and look up on all of them whether the promise is kept."""
    goal = CascadeSpec(tiers=tuple(tier.name for tier in tiers), **promise)  # type: ignore[arg-type]
    n_rows = len(tiers[0].is_right)
    best = max(float(tier.is_right.mean()) for tier in tiers)
    shares, accuracies, n_broken = [], [], 0
    for seed in range(N_SPLITS):
        drawn = np.random.default_rng(seed).integers(n_rows, size=n_calibration)
        found = search([Tier(one.name, one.confidence[drawn], one.is_right[drawn]) for one in tiers], goal, seed=seed)
        if not found.certified:
            continue
        whole = Cascades(tiers, found.cascades.thresholds[[found.chosen]]).tally(np.arange(n_rows))
        accuracy, share = whole.n_right[0] / n_rows, whole.n_last[0] / n_rows
        is_kept = (
            accuracy > best - goal.loss_margin if goal.loss_margin is not None else share < promise["teacher_share"]
        )
        n_broken += not is_kept
        shares.append(100 * share)
        accuracies.append(100 * accuracy)
    return Line(
        set=name,
        promise=", ".join(f"{key} {value:g}" for key, value in promise.items()),
        tiers=", ".join(goal.tiers),
        alone=", ".join(f"{100 * tier.is_right.mean():.1f}" for tier in tiers),
        n_population=n_rows,
        n_calibration=n_calibration,
        certified=len(shares),
        broken=n_broken,
        last_share=spread(shares),
        accuracy=spread(accuracies),
        versus_best=spread([accuracy - 100 * best for accuracy in accuracies]),
    )


def compare_router(name: str, tiers: Sequence[Tier], texts: list[str]) -> RouterLine:
    """Learn a router on half the rows, and compare the cost-quality curves of the last two tiers on the others."""
    small, large = tiers[-2], tiers[-1]
    vectors = load_encoder().encode(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    learned, held = order[: len(texts) // 2], order[len(texts) // 2 :]
    score = fit_router(vectors[learned], small.is_right[learned]).score(vectors[held])
    own, right, other = small.confidence[held], small.is_right[held], large.is_right[held]
    gain = area_difference(score, own, right, other, seed=0)
    return RouterLine(
        name, small.name, large.name, len(learned), len(held),
        round(100 * area(own, right, other), 1), round(100 * area(score, right, other), 1),
        f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})",
    )  # fmt: skip


def spread(values: Sequence[float]) -> str:
    """Write the mean, and the 5th and 95th percentile."""
    if not values:
        return "none"
    low, high = np.quantile(values, [0.05, 0.95])
    return f"{np.mean(values):.1f} ({low:.1f} to {high:.1f})"


def markdown(lines: Sequence[Any]) -> str:
    """Write a table whose columns are the fields of the lines."""
    heads = list(asdict(lines[0]))
    body = ["| " + " | ".join(str(value) for value in asdict(line).values()) + " |" for line in lines]
    return "\n".join(["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *body])


def main() -> None:
    """Measure the sets and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument(
        "--outputs", type=Path, required=True, help="where answers are kept, the reply store among them"
    )
    parser.add_argument("--last", choices=("teacher", "mpnet"), default="teacher", help="the last tier")
    parser.add_argument("--model", help="a model of an OpenAI-compatible server; default: the embedded teacher")
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET")
    parser.add_argument("--rows", type=int, default=1500, help="of the population, which every tier answers")
    parser.add_argument("--fit", type=int, default=1000, help="rows the students are fitted on")
    parser.add_argument("--fit-last", type=int, default=3000, help="rows the large encoder is fitted on")
    parser.add_argument("--calibration", type=int, default=1000, help="rows the thresholds are chosen on")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    options = parser.parse_args()
    lines: list[Line] = []
    routers: list[RouterLine] = []
    for name in options.sets:
        tiers, texts = answers(options.data, name, options)
        lines += [measure(name, tiers, goal, options.calibration) for goal in GOALS]
        lines += [measure(name, tiers[1:], goal, options.calibration) for goal in GOALS[:1]]
        routers.append(compare_router(name, tiers, texts))
    if options.json:
        print("\n".join(json.dumps(asdict(line)) for line in [*lines, *routers]))
    else:
        print(f"{markdown(lines)}\n\n{markdown(routers)}")


if __name__ == "__main__":
    main()
