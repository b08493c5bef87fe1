"""What augmentation adds to a few real rows a label: regime AUG, or FS where the rows are seeds.

    python -m benchmarks.augment --data FOLDER --sets snips_intent trec6 --per-label 16 --outputs OUT
    python -m benchmarks.augment --data FOLDER --sets sst2 --as seeds --per-label 8 --strategies paraphrase register

Each set becomes a task with so many rows of `train.jsonl` a label, drawn at random, and `test.jsonl` as the holdout,
read by the final report alone. One build trains the released student on real and varied rows, and the same student on
the real rows alone; the difference is paired over the holdout's rows.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.make_task import make_task
from benchmarks.quality import build, manifest_of, percent

REAL_ROWS = "real-rows"


@dataclass(frozen=True)
class Line:
    """One line of the table; accuracies and their difference in percent, with 95% intervals."""

    name: str
    n_gold: int
    n_real: int
    n_training_rows: int
    student: str
    real_rows_alone: str
    with_augmentation: str
    gain: str
    mcnemar_p: float
    calls: int
    teacher_minutes: float
    """As stored: a build that read some of it from the cache shows what it took then."""


def draw_rows(path: Path, per_label: int, seed: int) -> list[dict[str, str]]:
    """Draw rows of each label at random.

    Args:
        path: A file of `{text, label}` rows.
        per_label: How many; all of a label that has fewer.
        seed: Another seed, other rows.

    Returns:
        The rows, in the order of the file.
    """
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rng = np.random.default_rng(seed)
    by_label: dict[str, list[int]] = {}
    for position in rng.permutation(len(rows)).tolist():
        by_label.setdefault(rows[position]["label"], []).append(position)
    drawn = sorted(position for found in by_label.values() for position in found[:per_label])
    return [{"text": rows[position]["text"], "label": rows[position]["label"]} for position in drawn]


def make_augment_task(source: Path, out: Path, options: argparse.Namespace) -> int:
    """Write the task folder of one set and return how many real rows it has."""
    make_task(source, out, regime="z0", with_train=False)
    rows = draw_rows(source / "train.jsonl", options.per_label, options.seed)
    file = f"{options.key}.jsonl"
    (out / file).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    path = out / "spec.yaml"
    spec: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    regime = "aug" if options.key == "train" else "fs"
    spec["name"] = f"{spec['name'].removesuffix('_z0')}_{regime}{options.per_label}_{options.seed}"
    spec["data"][options.key] = file
    spec["labelling"] = {"ask_directly": 0}
    if options.key == "train":
        spec["synthesis"].pop("per_label", None)  # the default for tasks with train rows
    augmentation: dict[str, Any] = {"per_label": options.texts}
    if options.strategies is not None:
        augmentation["strategies"] = options.strategies
    spec["augmentation"] = augmentation
    path.write_text(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, width=110), encoding="utf-8")
    return len(rows)


def line_of(outcome: dict[str, Any], outputs: Path, n_real: int) -> Line:
    """Read the figures of a build."""
    evaluation = outcome["evaluation"]
    contenders = {one["name"]: one for one in evaluation["contenders"]}
    against = next(one for one in evaluation["differences"] if one["other"] == REAL_ROWS)
    lineage = json.loads((Path(outcome["path"]) / "lineage.json").read_text(encoding="utf-8"))
    root = outputs / outcome["version"]["name"]
    manifests = [manifest_of(root / run["stage"] / run["fingerprint"]) for run in lineage["stages"]]
    asking = [one["varying"] for one in manifests if one["varying"].get("teacher_calls")]
    trained_on = next(one for one in reversed(manifests) if one["stage"].startswith(("label-noise", "weigh", "gather")))
    return Line(
        name=outcome["version"]["name"],
        n_gold=evaluation["n_rows"],
        n_real=n_real,
        n_training_rows=int(trained_on["summary"].split()[0].replace(",", "")),
        student=evaluation["champion"],
        real_rows_alone=percent(contenders[REAL_ROWS]["accuracy"]),
        with_augmentation=percent(contenders["student"]["accuracy"]),
        gain=percent(against["accuracy"], sign="+"),
        mcnemar_p=against["mcnemar_p"],
        calls=sum(one["teacher_calls"] for one in asking),
        teacher_minutes=sum(one["seconds"] for one in asking) / 60,
    )


def markdown(lines: Sequence[Line]) -> str:
    """Write the table for a document."""
    head = (
        "| task | gold rows | real rows | training rows | student | real rows alone, % | with augmentation, % | "
        "gain, points | p (McNemar) | calls | teacher minutes |"
    )
    rows = [
        f"| {one.name} | {one.n_gold:,} | {one.n_real:,} | {one.n_training_rows:,} | {one.student} | "
        f"{one.real_rows_alone} | {one.with_augmentation} | **{one.gain}** | {one.mcnemar_p:.3f} | {one.calls:,} | "
        f"{one.teacher_minutes:.1f} |"
        for one in lines
    ]
    return "\n".join([head, "|" + "---|" * 11, *rows])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--sets", nargs="+", default=["snips_intent", "trec6"], metavar="SET")
    parser.add_argument("--per-label", type=int, default=16, help="real rows a label (default: 16)")
    parser.add_argument("--texts", type=int, default=40, help="texts asked for a label (default: 40)")
    parser.add_argument("--strategies", nargs="+", metavar="NAME", help="augmenters; default: those of the factory")
    parser.add_argument("--as", dest="key", choices=("train", "seeds"), default="train", help="AUG or FS")
    parser.add_argument("--seed", type=int, default=0, help="which rows are drawn")
    parser.add_argument("--outputs", type=Path, help="keep builds here; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    return parser.parse_args(argv)


def main() -> None:
    """Build the sets and print the table."""
    options = arguments()
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        outputs = options.outputs or Path(scratch) / "outputs"
        for name in options.sets:
            task = Path(scratch) / name
            n_real = make_augment_task(options.data / name, task, options)
            print(f"== {name}: {n_real} real rows", file=sys.stderr, flush=True)
            lines.append(line_of(build(task, outputs), outputs, n_real))
    print("\n".join(json.dumps(asdict(line)) for line in lines) if options.json else markdown(lines))


if __name__ == "__main__":
    main()
