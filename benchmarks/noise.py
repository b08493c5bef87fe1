"""What curation is worth: wrong labels that were put in on purpose, and a set that another LLM wrote.

python -m benchmarks.noise --data FOLDER                     both tables of docs/benchmarks-curation.md
python -m benchmarks.noise --data FOLDER --only flips        the first
python -m benchmarks.noise --data FOLDER --only supergen --dev   what the filters of the second were chosen by

Flips: 20% of the labels of 1,500 training rows are replaced by another label, evenly; the label-noise filter and the
student are those of a build. Accuracy is on 2,000 (TREC-6: 2,000) other rows of the *training* file. SuperGen: the
published set that CTRL wrote for SST-2 (Meng et al., NeurIPS 2022, arXiv:2202.04538), as published and curated; `--dev`
measures on rows of the SST-2 training file, the report without it on the test rows, which nothing was chosen by.
No teacher is needed.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.curation import FILTERS
from factory.curation.label_noise import LABEL_NOISE, LabelNoiseParams, own_probability, reject_noise
from factory.encoders import load_encoder
from factory.evaluation.auroc import auroc
from factory.records import Origin, Rows, TextRow, all_kept, text_dataset
from factory.spec import Label
from factory.students.training import CrossPredictParams, FitParams, cross_predict, fit

SETS = ("snips_intent", "ag_news", "trec6")
SEEDS = (0, 1, 2)
N_TRAIN, N_HELD_OUT, FLIPPED_RATIO = 1500, 2000, 0.2
N_RESAMPLES = 2000
STUDENT = "sentence-linear"

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
    """Make rows that a teacher might have written, each text once."""
    return all_kept(text_dataset([TextRow(text, label, Origin.SYNTHETIC) for text, label in pairs]))


def right_on(train: Rows, labels: tuple[Label, ...], examined: Rows, seed: int) -> Right:
    """Fit the student and return 1 for each examined row that it answers right."""
    fitted = fit(FitParams(student=STUDENT, labels=labels, balance=True, seed=seed), rows=train)
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


def flips(data: Path, name: str) -> list[Line]:
    """Put wrong labels into a set, filter, and measure what that wins back."""
    labels = read_labels(data / name)
    pairs = list(dict(read_rows(data / name / "train.jsonl")).items())
    order = np.random.default_rng(0).permutation(len(pairs))
    examined = as_rows([pairs[at] for at in order[:N_HELD_OUT]])
    rights: dict[str, list[Right]] = {"clean": [], "flipped": [], "filtered": []}
    flipped, score, n_kept, n_wrong = [], [], [], []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        chosen = [pairs[at] for at in rng.permutation(order[N_HELD_OUT:])[:N_TRAIN]]
        wrong = rng.permutation(N_TRAIN) < FLIPPED_RATIO * N_TRAIN
        names = [label.name for label in labels]
        noisy = as_rows(
            [
                (text, rng.choice([one for one in names if one != label]) if is_wrong else label)
                for (text, label), is_wrong in zip(chosen, wrong, strict=True)
            ]
        )
        oof = cross_predict(CrossPredictParams(student=STUDENT, labels=labels, seed=seed), rows=noisy)
        filtered = reject_noise(LabelNoiseParams(), rows=noisy, oof=oof)
        flipped.append(wrong)
        score.append(1 - own_probability(noisy, oof))
        n_kept.append(len(filtered.kept))
        gone = set(filtered.rejected["id"])
        n_wrong.append(sum(w and row_id in gone for w, row_id in zip(wrong, noisy.kept["id"], strict=True)))
        for arm, train in (("clean", as_rows(chosen)), ("flipped", noisy), ("filtered", filtered)):
            rights[arm].append(right_on(train, labels, examined, seed))
    clean, noisy_right, kept = (np.mean(rights[arm], axis=0) for arm in ("clean", "flipped", "filtered"))
    found = auroc(np.concatenate(flipped), np.concatenate(score), seed=0)
    assert found is not None
    won = interval(lambda c, f, k: (k - f) / max(c - f, 1e-9), clean, noisy_right, kept)
    n_flipped = FLIPPED_RATIO * N_TRAIN
    note = (
        f"AUROC of the score {found.value:.3f} ({found.low:.3f} to {found.high:.3f}); won back "
        f"{100 * won[0]:.0f}% ({100 * won[1]:.0f} to {100 * won[2]:.0f}); rejected {N_TRAIN - np.mean(n_kept):.0f} rows, "
        f"{100 * np.sum(n_wrong) / (len(SEEDS) * N_TRAIN - np.sum(n_kept)):.0f}% of them flipped, "
        f"{100 * np.mean(n_wrong) / n_flipped:.0f}% of the flipped"
    )
    mine = {
        "clean": (clean, N_TRAIN, ""),
        "flipped": (noisy_right, N_TRAIN, ""),
        "filtered": (kept, np.mean(n_kept), note),
    }
    return [_line(name, arm, right, clean, float(n), note) for arm, (right, n, note) in mine.items()]


CURATED: Mapping[str, Mapping[str, Any]] = {"dedup": {}, "label-noise": {}}
"""Filters in order, with their parameters, of the curated set."""


def supergen(data: Path, *, dev: bool, arms: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Line]:
    """Curate a set that another LLM wrote and measure a student of it on real rows.

    Args:
        data: Folder of the public sets.
        dev: Measure on rows of the training file instead of the test rows.
        arms: Filters with their parameters, by the name of the arm; the first is what others are compared with.

    Returns:
        A line an arm.
    """
    labels = read_labels(data / "sst2")
    written = as_rows(read_rows(data / "synth_supergen_sst2" / "train.jsonl"))
    examined = as_rows(read_rows(data / "sst2" / ("train.jsonl" if dev else "test.jsonl"))[: 2500 if dev else None])
    first: Right | None = None
    lines = []
    for arm, filters in arms.items():
        rows = curate(written, filters, labels)
        right = np.mean([right_on(rows, labels, examined, seed) for seed in SEEDS], axis=0)
        first = right if first is None else first
        lines.append(_line("supergen", arm, right, first, len(rows.kept), ""))
        print(lines[-1], flush=True)
    return lines


def curate(rows: Rows, filters: Mapping[str, Mapping[str, Any]], labels: tuple[Label, ...]) -> Rows:
    """Apply filters as a build does."""
    for name, params in filters.items():
        stage = FILTERS[name]
        if stage is LABEL_NOISE:
            oof = cross_predict(CrossPredictParams(student=STUDENT, labels=labels, seed=0), rows=rows)
            rows = stage.run(stage.params(**params), rows=rows, oof=oof)
        else:
            rows = stage.run(stage.params(**params), rows=rows, encoder=load_encoder())
    return rows


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
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    options = parser.parse_args()
    lines = []
    if options.only != "supergen":
        lines += [line for name in SETS for line in flips(options.data, name)]
    if options.only != "flips":
        arms = {"as published": {}, "curated": CURATED}
        lines += supergen(options.data, dev=options.dev, arms=arms)
    print("\n".join(json.dumps(asdict(line)) for line in lines) if options.json else markdown(lines))


if __name__ == "__main__":
    main()
