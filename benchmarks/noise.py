"""What curation is worth: wrong labels that were put in on purpose, and a set that another LLM wrote.

python -m benchmarks.noise --data FOLDER                         both tables of docs/benchmarks-curation.md
python -m benchmarks.noise --data FOLDER --only flips            the first
python -m benchmarks.noise --data FOLDER --only supergen --dev   what the filters of the second were chosen by

Flips: 20% of the labels of 1,500 training rows are replaced by another label, evenly; filter and student are those of
a build; accuracy is on 2,000 other rows of the *training* file. SuperGen: the set that CTRL wrote for SST-2 (Meng et
al., "Generating Training Data with Language Models", NeurIPS 2022, arXiv:2202.04538), as published and curated, on the
SST-2 test rows, which nothing was chosen by; with `--dev` on rows of the training file. No teacher is needed.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.curation import FILTERS
from factory.curation.description import DESCRIPTION
from factory.curation.label_noise import LABEL_NOISE, LabelNoiseParams, own_probability, reject_noise
from factory.encoders import DEFAULT_ENCODER, load_encoder
from factory.evaluation.auroc import auroc
from factory.evaluation.baselines import NearestDescriptionParams, predict_nearest
from factory.records import Origin, Predictions, Rows, TextRow, all_kept, text_dataset
from factory.spec import Label
from factory.students.training import CrossPredictParams, FitParams, cross_predict, fit
from flows.steps import NOISE_JUDGE

SETS = ("snips_intent", "ag_news", "trec6")
SEEDS = (0, 1, 2)
N_TRAIN, N_HELD_OUT, FLIPPED_RATIO = 1500, 2000, 0.2
N_DEV = 2500
N_RESAMPLES = 2000
STUDENT = {"anchor_weight": 30.0}
"""The anchor weight is what this student chooses itself on these sets; given, it fits in a quarter of the time."""

Right = NDArray[np.float64]
"""For each examined row, how often it was answered right, over the seeds."""


@dataclass(frozen=True)
class Line:
    """One line of a table; every figure as (value, low, high)."""

    set: str
    arm: str
    n_train: float
    accuracy: tuple[float, float, float]
    minus_first: tuple[float, float, float] | None = None
    """Accuracy minus that of the first arm, paired, in points."""
    note: str = ""


def read_rows(path: Path) -> list[tuple[str, str]]:
    """Read texts and labels of a file."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [(row["text"], row["label"]) for row in rows]


def read_labels(folder: Path) -> tuple[Label, ...]:
    """Read the labels of a set with their descriptions."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return tuple(Label(name=name, description=meta["label_descriptions"][name]) for name in meta["labels"])


def as_rows(pairs: Sequence[tuple[str, str]]) -> Rows:
    """Make rows that a teacher might have written."""
    return all_kept(text_dataset([TextRow(text, label, Origin.SYNTHETIC) for text, label in pairs]))


def right_on(
    train: Rows, labels: tuple[Label, ...], examined: Rows, seed: int, encoder: str = DEFAULT_ENCODER
) -> Right:
    """Fit the student and return 1 for each examined row that it answers right."""
    params = {**STUDENT, "encoder": encoder}
    fitted = fit(
        FitParams(student="sentence-linear", params=params, labels=labels, balance=True, seed=seed), rows=train
    )
    answers = fitted.student.predict_proba(examined.kept).argmax(axis=1)
    names = [label.name for label in labels]
    return np.array([names[a] == gold for a, gold in zip(answers, examined.kept["label"], strict=True)], dtype=float)


def interval(figure: Any, *rights: Right) -> tuple[float, float, float]:
    """Compute a figure of accuracies with its 95% bootstrap interval; all arms are resampled together."""
    n_rows, rng = len(rights[0]), np.random.default_rng(0)
    drawn = (rng.integers(0, n_rows, n_rows) for _ in range(N_RESAMPLES))
    again = [figure(*(float(one[at].mean()) for one in rights)) for at in drawn]
    low, high = np.quantile(again, [0.025, 0.975])
    return figure(*(float(one.mean()) for one in rights)), float(low), float(high)


@dataclass(frozen=True)
class Flipped:
    """One draw of training rows with some wrong labels, and what the filter makes of it."""

    rights: Mapping[str, Right]
    """By arm, for each examined row."""
    n_kept: Mapping[str, int]
    was_flipped: NDArray[np.bool_]
    suspicion: NDArray[np.float64]
    n_found: int
    """Flipped rows that the filter rejected."""


def flip(pairs: Sequence[tuple[str, str]], labels: tuple[Label, ...], examined: Rows, seed: int) -> Flipped:
    """Put wrong labels into rows, filter them, and let students of each version answer the examined rows."""
    rng = np.random.default_rng(seed)
    chosen = [pairs[at] for at in rng.permutation(len(pairs))[:N_TRAIN]]
    wrong = rng.permutation(N_TRAIN) < FLIPPED_RATIO * N_TRAIN
    others = {label.name: [other.name for other in labels if other != label] for label in labels}
    clean = as_rows(chosen)
    noisy = as_rows(
        [
            (text, str(rng.choice(others[label])) if is_wrong else label)
            for (text, label), is_wrong in zip(chosen, wrong, strict=True)
        ]
    )
    oof = judge(noisy, labels, seed)
    filtered = reject_noise(LabelNoiseParams(), rows=noisy, oof=oof)
    arms = {
        "all labels right": clean,
        "20% flipped": noisy,
        "flipped, filtered": filtered,
        "all right, filtered": reject_noise(LabelNoiseParams(), rows=clean, oof=judge(clean, labels, seed)),
    }
    gone = set(filtered.rejected["id"])
    return Flipped(
        rights={arm: right_on(rows, labels, examined, seed) for arm, rows in arms.items()},
        n_kept={arm: len(rows.kept) for arm, rows in arms.items()},
        was_flipped=wrong,
        suspicion=1 - own_probability(noisy, oof),
        n_found=sum(is_wrong and row_id in gone for is_wrong, row_id in zip(wrong, noisy.kept["id"], strict=True)),
    )


def flips(data: Path, name: str) -> list[Line]:
    """Put wrong labels into a set, filter, and measure what that wins back: a line an arm."""
    labels = read_labels(data / name)
    pairs = list(dict(read_rows(data / name / "train.jsonl")).items())
    order = np.random.default_rng(0).permutation(len(pairs))
    examined = as_rows([pairs[at] for at in order[:N_HELD_OUT]])
    rest = [pairs[at] for at in order[N_HELD_OUT:]]
    draws = [flip(rest, labels, examined, seed) for seed in SEEDS]
    rights = {arm: np.mean([draw.rights[arm] for draw in draws], axis=0) for arm in draws[0].rights}
    n_kept = {arm: float(np.mean([draw.n_kept[arm] for draw in draws])) for arm in rights}
    first, noisy, filtered, _ = rights.values()
    found = auroc(
        np.concatenate([draw.was_flipped for draw in draws]),
        np.concatenate([draw.suspicion for draw in draws]),
        seed=0,
    )
    won, low, high = interval(lambda c, n, f: 100 * (f - n) / (c - n) if c > n else np.nan, first, noisy, filtered)
    n_gone = len(SEEDS) * N_TRAIN - sum(draw.n_kept["flipped, filtered"] for draw in draws)
    n_found, n_flipped = sum(draw.n_found for draw in draws), sum(int(draw.was_flipped.sum()) for draw in draws)
    notes = {
        "20% flipped": f"AUROC of the filter's score {found.value:.3f} ({found.low:.3f} to {found.high:.3f})",
        "flipped, filtered": f"won back {won:.0f}% ({low:.0f} to {high:.0f}) of what was lost; {n_found / n_gone:.0%} "
        f"of the rejected rows were flipped, {n_found / n_flipped:.0%} of the flipped were rejected",
    }
    return [_line(name, arm, right, first, n_kept[arm], notes.get(arm, "")) for arm, right in rights.items()]


CURATED = ("dedup", "description", "label-noise")
"""Filters in order, with their default parameters, of the curated set."""
DEV_ARMS = ((), ("dedup",), ("description",), ("dedup", "label-noise"), ("dedup", "description"), CURATED)


def supergen(data: Path, *, dev: bool, encoder: str) -> list[Line]:
    """Curate a set that another LLM wrote and measure a student of it on real rows: a line an arm."""
    labels = read_labels(data / "sst2")
    written = as_rows(read_rows(data / "synth_supergen_sst2" / "train.jsonl"))
    pairs = read_rows(data / "sst2" / "train.jsonl")[:N_DEV] if dev else read_rows(data / "sst2" / "test.jsonl")
    examined = as_rows(pairs)
    rights: dict[str, Right] = {}
    lines = []
    for filters in DEV_ARMS if dev else ((), CURATED):
        arm = ", ".join(filters) or "as published"
        rows = curate(written, filters, labels, encoder)
        rights[arm] = np.mean([right_on(rows, labels, examined, seed, encoder) for seed in SEEDS], axis=0)
        lines.append(_line("SuperGen SST-2", arm, rights[arm], rights["as published"], len(rows.kept), ""))
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def curate(rows: Rows, filters: Sequence[str], labels: tuple[Label, ...], encoder_name: str) -> Rows:
    """Apply filters with their default parameters as a build does."""
    encoder = load_encoder(encoder_name)
    for name in filters:
        stage = FILTERS[name]
        inputs: dict[str, Any] = {"encoder": encoder}
        if stage is LABEL_NOISE:
            inputs = {"oof": judge(rows, labels, 0)}
        elif stage is DESCRIPTION:
            opinion = predict_nearest(NearestDescriptionParams(labels=labels), rows=rows, encoder=encoder)
            inputs = {"opinion": opinion}
        rows = stage.run(stage.params(), rows=rows, **inputs)
    return rows


def judge(rows: Rows, labels: tuple[Label, ...], seed: int) -> Predictions:
    """Let the student that a build asks about label noise answer out of fold."""
    params = CrossPredictParams(student=NOISE_JUDGE.name, params=NOISE_JUDGE.params, labels=labels, seed=seed)
    return cross_predict(params, rows=rows)


def _line(name: str, arm: str, right: Right, first: Right, n_train: float, note: str) -> Line:
    accuracy = interval(lambda one: one, right)
    minus = None if right is first else interval(lambda ours, theirs: 100 * (ours - theirs), right, first)
    return Line(name, arm, n_train, accuracy, minus, note)


def markdown(lines: Sequence[Line]) -> str:
    """Write a table for docs/benchmarks-curation.md."""
    head = "| set | training rows are | n | accuracy, % | minus the first, points | |"
    body = []
    for line in lines:
        accuracy = "{:.1f} ({:.1f} to {:.1f})".format(*(100 * one for one in line.accuracy))
        minus = "" if line.minus_first is None else "{:+.1f} ({:+.1f} to {:+.1f})".format(*line.minus_first)
        body.append(f"| {line.set} | {line.arm} | {line.n_train:,.0f} | {accuracy} | {minus} | {line.note} |")
    return "\n".join([head, "|" + "---|" * 6, *body])


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--only", choices=["flips", "supergen"], help="one table only")
    parser.add_argument("--dev", action="store_true", help="SuperGen on rows of the SST-2 training file")
    parser.add_argument(
        "--encoder", default=DEFAULT_ENCODER, help="of the second table: of the student and the filters"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    options = parser.parse_args()
    lines = []
    if options.only != "supergen":
        for name in SETS:
            lines += flips(options.data, name)
            print(markdown(lines[-4:]), file=sys.stderr, flush=True)
    if options.only != "flips":
        lines += supergen(options.data, dev=options.dev, encoder=options.encoder)
    print("\n".join(json.dumps(asdict(line)) for line in lines) if options.json else markdown(lines))


if __name__ == "__main__":
    main()
