"""Soft labels against hard ones: the same rows and students, taught distributions or their best labels.

python -m benchmarks.soft_labels --data FOLDER                              the weak-supervision sets
python -m benchmarks.soft_labels --data FOLDER --builds OUTPUTS/trec6_z1    and what a stored build with a pool settled

Distributions are posteriors of an aggregation: of labelling functions (`weak_*`, MACE or the shares of the majority
vote), or of the teacher and the nearest description (the stage `aggregate` of a build whose task is named SET_z1). As
in a build, a row needs a label above one half, and labels weigh the same. Rows whose gold label is known and that no
student is taught are of two kinds: `choose` (validation rows, or training rows that the teacher did not label), by
which a setting may be chosen, and the test rows, which nothing was chosen by. No teacher is needed.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.crowd import read_weak
from benchmarks.noise import Right, as_rows, interval, read_labels, read_rows
from factory.labelling.aggregation import AGGREGATORS
from factory.records import Origin, Rows, TextRow, all_kept, row_id, text_dataset
from factory.spec import Label
from factory.students.training import FitParams, fit

WEAK = ("weak_youtube", "weak_sms")
AGGREGATIONS = ("mace", "majority")
STUDENTS = ("tfidf-linear", "static-embedding", "sentence-linear", "blend")
SEEDS = (0, 1, 2)
N_CHOOSE = 1500


@dataclass(frozen=True)
class Taught:
    """Training rows with soft labels, and rows whose gold label is known."""

    name: str
    labels: tuple[Label, ...]
    rows: Rows
    choose: Rows
    test: Rows


@dataclass(frozen=True)
class Line:
    """One student; every figure in percent or points as (value, low, high), 95% bootstrap intervals over rows."""

    set: str
    n_train: int
    student: str
    hard: tuple[float, float, float]
    """Accuracy on the test rows."""
    soft: tuple[float, float, float]
    soft_minus_hard: tuple[float, float, float]
    """On the same test rows."""
    soft_minus_hard_choose: tuple[float, float, float]
    """The same on the rows by which one might choose."""


def weak(data: Path, name: str, aggregation: str) -> Taught:
    """Aggregate the votes of labelling functions on the training rows of a set."""
    given = read_weak(data / name)
    labels = tuple(Label(name=label) for label in given.votes.labels)
    aggregator = AGGREGATORS[aggregation]
    posterior = aggregator.run(aggregator.params(), given.votes).posterior
    texts = [text for text, _ in read_rows(data / name / "train.jsonl")]
    certain = given.votes.is_label.any(axis=1) & (posterior.max(axis=1) > 0.5)
    rows = [
        TextRow(
            texts[at],
            labels[int(posterior[at].argmax())].name,
            Origin.SILVER,
            label_probs=tuple(posterior[at].tolist()),
        )
        for at in np.flatnonzero(certain)
    ]
    examined = [as_rows(read_rows(data / name / f"{part}.jsonl")) for part in ("valid", "test")]
    return Taught(f"{name}, {aggregation}", labels, all_kept(text_dataset(rows)), *examined)


def stored(data: Path, build: Path) -> Taught:
    """Read what a build settled; of the other training rows of its set some stand by."""
    folder = max((path.parent for path in build.glob("aggregate/*/manifest.json")), key=lambda one: one.stat().st_mtime)
    settled = Rows.load(folder)
    source = data / build.name.removesuffix("_z1")
    asked = {*settled.kept["id"], *settled.rejected["id"]}
    others = [pair for pair in dict(read_rows(source / "train.jsonl")).items() if row_id(pair[0]) not in asked]
    drawn = np.random.default_rng(0).permutation(len(others))[:N_CHOOSE]
    return Taught(
        f"{source.name}, teacher and descriptions",
        read_labels(source),
        all_kept(settled.kept),
        as_rows([others[at] for at in drawn]),
        as_rows(read_rows(source / "test.jsonl")),
    )


def right_by(given: Taught, student: str, *, soft: bool) -> tuple[Right, Right]:
    """Fit a student with each seed; return how often each `choose` and each test row is answered right."""
    names = [label.name for label in given.labels]
    found: list[list[Right]] = [[], []]
    for seed in SEEDS:
        params = FitParams(student=student, labels=given.labels, soft_labels=soft, balance=True, seed=seed)
        fitted = fit(params, rows=given.rows).student
        for part, rights in zip((given.choose, given.test), found, strict=True):
            gold = np.array([names.index(label) for label in part.kept["label"]])
            rights.append((fitted.predict_proba(part.kept).argmax(axis=1) == gold).astype(float))
    return np.mean(found[0], axis=0), np.mean(found[1], axis=0)


def compare(given: Taught, students: Sequence[str]) -> Iterator[Line]:
    """Teach each student both ways."""
    for student in students:
        (hard_choose, hard), (soft_choose, soft) = (right_by(given, student, soft=soft) for soft in (False, True))
        yield Line(
            given.name,
            len(given.rows.kept),
            student,
            interval(lambda one: 100 * one, hard),
            interval(lambda one: 100 * one, soft),
            interval(lambda ours, theirs: 100 * (ours - theirs), soft, hard),
            interval(lambda ours, theirs: 100 * (ours - theirs), soft_choose, hard_choose),
        )


def markdown(lines: Sequence[Line]) -> str:
    """Write a table for docs/benchmarks-labelling.md."""
    head = (
        "| labels of | rows | student | hard, % | soft, % | soft minus hard, points | the same where one may choose |"
    )
    table = [head, "|" + "---|" * 7]
    for line in lines:
        accuracies = ["{:.1f} ({:.1f} to {:.1f})".format(*one) for one in (line.hard, line.soft)]
        differences = (line.soft_minus_hard, line.soft_minus_hard_choose)
        points = ["{:+.1f} ({:+.1f} to {:+.1f})".format(*one) for one in differences]
        cells = (line.set, f"{line.n_train:,}", line.student, *accuracies, *points)
        table.append(f"| {' | '.join(cells)} |")
    return "\n".join(table)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--builds", type=Path, nargs="*", default=[], help="folders of stored builds with a pool")
    parser.add_argument("--students", nargs="+", default=list(STUDENTS), metavar="STUDENT")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    options = parser.parse_args()
    given = [weak(options.data, name, aggregation) for name in WEAK for aggregation in AGGREGATIONS]
    given += [stored(options.data, build) for build in options.builds]
    lines: list[Line] = []
    for one in given:
        for line in compare(one, options.students):
            print(line, file=sys.stderr, flush=True)
            lines.append(line)
    print("\n".join(json.dumps(asdict(line)) for line in lines) if options.json else markdown(lines))


if __name__ == "__main__":
    main()
