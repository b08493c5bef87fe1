"""Which rows of a pool to train on, beside those that the voters agreed on: others they did not, or more of the pool.

python -m benchmarks.pool_rows --data FOLDER --builds OUTPUTS/trec6_z1 OUTPUTS/tweet_emotion_z1
python -m benchmarks.pool_rows --data FOLDER --builds OUTPUTS/trec6_z1 --students blend --encoder all-mpnet-base-v2

Reads what stored builds settled (the stage `aggregate` of a task named SET_z1) and asks no teacher. Of the training
rows that the teacher did not label 1,500 are set aside to see what students make of an arm, the rest is the pool that a
student labels. Students are those of a build. With `--test` the test rows are examined instead, which nothing was
chosen by.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.noise import Right, as_rows, interval, read_labels, read_rows
from factory.curation.label_noise import LabelNoiseParams, reject_noise
from factory.encoders import load_encoder
from factory.evaluation.baselines import NearestDescriptionParams, predict_nearest
from factory.labelling.self_training import SelfTrainingParams, self_train
from factory.records import Origin, Rows, all_kept, row_id
from factory.spec import DEFAULT_ENCODER, Label, SelfTrainingSpec
from factory.students.training import CrossPredictParams, FitParams, PredictParams, cross_predict, fit, predict
from flows.steps import NOISE_JUDGE

N_CHOOSE = 1500
STUDENTS = ("tfidf-linear", "static-embedding", "sentence-linear", "blend")


@dataclass(frozen=True)
class Settled:
    """What a build settled, and real rows it did not touch."""

    name: str
    labels: tuple[Label, ...]
    kept: Rows
    all_rows: Rows
    """With those on which no label won, under their likeliest one."""
    pool: Rows
    examined: Rows
    gold: Mapping[str, str]
    """Of the pool, by row id; read to say how many labels of an arm are right."""
    encoder: str
    """Of the descriptions, and of students that have one."""

    def fit_params(self, student: str, *, soft: bool = False) -> FitParams:
        """Return how a student is fitted."""
        encodes = student in ("sentence-linear", "blend")
        params = {"encoder": self.encoder} if encodes else {}
        # Another seed changes nothing that can be seen: the heads are linear.
        return FitParams(student=student, params=params, labels=self.labels, soft_labels=soft, balance=True, seed=0)


@dataclass(frozen=True)
class Line:
    """One arm and student; percent and points as (value, low, high), 95% bootstrap intervals over rows."""

    set: str
    arm: str
    n_train: int
    right: float | None
    """Share of the rows it adds whose label is right."""
    student: str
    accuracy: tuple[float, float, float]
    minus_first: tuple[float, float, float] | None


def read(data: Path, build: Path, *, test: bool, encoder: str) -> Settled:
    """Read the newest vote of a stored build."""
    from datasets import concatenate_datasets

    folder = max((path.parent for path in build.glob("aggregate/*/manifest.json")), key=lambda one: one.stat().st_mtime)
    settled = Rows.load(folder)
    source = data / build.name.removesuffix("_z1")
    asked = {*settled.kept["id"], *settled.rejected["id"]}
    pairs = dict(read_rows(source / "train.jsonl"))
    others = [pair for pair in pairs.items() if row_id(pair[0]) not in asked]
    drawn = np.random.default_rng(0).permutation(len(others))
    apart, rest = ([others[at] for at in some] for some in (drawn[:N_CHOOSE], drawn[N_CHOOSE:]))
    open_ = settled.rejected.select_columns(settled.kept.column_names)
    return Settled(
        source.name,
        read_labels(source),
        all_kept(settled.kept),
        all_kept(concatenate_datasets([settled.kept, open_])),
        as_rows(rest),
        as_rows(read_rows(source / "test.jsonl") if test else apart),
        {row_id(text): label for text, label in pairs.items()},
        encoder,
    )


def with_rest(given: Settled, params: SelfTrainingParams, student: str) -> Rows:
    """Let a student of the settled rows label the rest of the pool, as a build does."""
    from datasets import concatenate_datasets

    fitted = fit(given.fit_params(student), rows=given.kept)
    opinion = predict(PredictParams(), student=fitted, rows=given.pool)
    asked = NearestDescriptionParams(labels=given.labels)
    nearest = predict_nearest(asked, rows=given.pool, encoder=load_encoder(given.encoder))
    params = params.model_copy(update={"labels": opinion.labels})
    chosen = self_train(params, pool=given.pool, known=given.kept, opinion=opinion, nearest=nearest)
    return all_kept(concatenate_datasets([given.kept.kept, chosen.kept]))


def without_doubted(given: Settled) -> Rows:
    """Drop the rows whose label a student doubts, as the filter label-noise did with pool rows once."""
    params = CrossPredictParams(student=NOISE_JUDGE.name, params=NOISE_JUDGE.params, labels=given.labels, seed=0)
    oof = cross_predict(params, rows=given.kept)
    return reject_noise(LabelNoiseParams(origins=tuple(Origin)), rows=given.kept, oof=oof)


def arms(grid: bool) -> dict[str, Callable[[Settled], Rows]]:
    """Return what may be trained on, the rows that a build trains on first."""
    found: dict[str, Callable[[Settled], Rows]] = {
        "voters agreed": lambda given: given.kept,
        "but for those that label-noise doubts": without_doubted,
        "and those they did not": lambda given: given.all_rows,
    }
    usual = SelfTrainingSpec()
    settings = [("blend", usual.per_label, usual.ratio, usual.weight)]
    if grid:
        settings += [("blend", 500, ratio, weight) for ratio, weight in ((0.5, 1.0), (0.8, 0.3), (1.0, 1.0))]
        settings += [("blend", 100, 0.8, 1.0), ("sentence-linear", 500, 0.8, 1.0)]
    for student, per_label, ratio, weight in settings:
        params = SelfTrainingParams(labels=(), per_label=per_label, ratio=ratio, weight=weight)
        arm = f"and up to {per_label} a label by {student}, surest {ratio:.0%}, weight {weight}"
        found[arm] = lambda given, student=student, params=params: with_rest(given, params, student)  # type: ignore[misc]
    return found


def right_by(given: Settled, rows: Rows, student: str, *, soft: bool) -> Right:
    """Fit a student; return which of the examined rows it answers right."""
    names = [label.name for label in given.labels]
    gold = np.array([names.index(label) for label in given.examined.kept["label"]])
    fitted = fit(given.fit_params(student, soft=soft), rows=rows).student
    return np.asarray(fitted.predict_proba(given.examined.kept).argmax(axis=1) == gold, dtype=float)


def measure(given: Settled, students: Sequence[str], *, grid: bool, soft: bool) -> Iterator[Line]:
    """Train every student on every arm."""
    first: dict[str, Right] = {}
    known = set(given.kept.kept["id"])
    for arm, make in arms(grid).items():
        rows = make(given)
        added = [row for row in rows.kept if row["id"] not in known]
        right = float(np.mean([given.gold[row["id"]] == row["label"] for row in added])) if added else None
        for student in students:
            found = right_by(given, rows, student, soft=soft)
            base = first.setdefault(student, found)
            minus = None if base is found else interval(lambda ours, theirs: 100 * (ours - theirs), found, base)
            accuracy = interval(lambda one: 100 * one, found)
            yield Line(given.name, arm, len(rows.kept), right, student, accuracy, minus)


def markdown(lines: Sequence[Line]) -> str:
    """Write a table for docs/benchmarks-labelling.md."""
    head = "| set | trained on what | rows | added ones right | student | accuracy, % | minus the first, points |"
    table = [head, "|" + "---|" * 7]
    for line in lines:
        accuracy = "{:.1f} ({:.1f} to {:.1f})".format(*line.accuracy)
        minus = "" if line.minus_first is None else "{:+.1f} ({:+.1f} to {:+.1f})".format(*line.minus_first)
        right = "" if line.right is None else f"{line.right:.0%}"
        cells = (line.set, line.arm, f"{line.n_train:,}", right, line.student, accuracy, minus)
        table.append(f"| {' | '.join(cells)} |")
    return "\n".join(table)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--builds", type=Path, nargs="+", required=True, help="folders of stored builds with a pool")
    parser.add_argument("--students", nargs="+", default=list(STUDENTS), metavar="STUDENT")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, help="of the descriptions, sentence-linear and blend")
    parser.add_argument("--grid", action="store_true", help="many settings of self-training")
    parser.add_argument("--soft", action="store_true", help="teach distributions")
    parser.add_argument("--test", action="store_true", help="examine the test rows")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    options = parser.parse_args()
    lines = []
    for build in options.builds:
        given = read(options.data, build, test=options.test, encoder=options.encoder)
        for line in measure(given, options.students, grid=options.grid, soft=options.soft):
            print(line, file=sys.stderr, flush=True)
            lines.append(line)
    print("\n".join(json.dumps(asdict(line)) for line in lines) if options.json else markdown(lines))


if __name__ == "__main__":
    main()
