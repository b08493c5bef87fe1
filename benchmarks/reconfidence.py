"""Does calibrating the teacher's confidence by groups help? From the stored answers of builds; nobody is asked.

python -m benchmarks.reconfidence --data FOLDER --outputs OUTPUTS --sets snips_intent trec6 tweet_emotion

Rows are those of the public training files that a build let the teacher label (the stages `annotate-pool-*` and
`annotate-cascade` of `OUTPUTS/<set>_z1`), whose gold labels the build did not know. 20 times, a half fits and the other
half measures: as the teacher says it, with one temperature, with one a group.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from factory.encoders import load_encoder
from factory.evaluation.calibration import apply_temperature, fit_temperature
from factory.evaluation.metrics import expected_calibration_error, log_loss
from factory.evaluation.reconfidence import fit_reconfidence, grouping_loss
from factory.records import Rows, row_id
from factory.store import Artifact

N_SPLITS = 20


def stored(data: Path, outputs: Path, name: str) -> tuple[list[str], NDArray[np.float64], NDArray[np.int64]]:
    """Return texts, distributions and gold columns of what the teacher labelled."""
    labels = json.loads((data / name / "meta.json").read_text(encoding="utf-8"))["labels"]
    lines = (data / name / "train.jsonl").read_text(encoding="utf-8").splitlines()
    gold = {row_id(row["text"]): row["label"] for row in map(json.loads, lines)}
    found: dict[str, tuple[str, list[float], str]] = {}
    for folder in sorted(outputs.glob(f"{name}_z1/annotate-*/[!.]*")):
        rows = Artifact(folder, Rows, was_cached=True).load().kept
        for one, text, probs in zip(rows["id"], rows["text"], rows["label_probs"], strict=True):
            if one in gold and probs:
                found[one] = (text, probs, gold[one])
    if not found:
        raise SystemExit(f"{outputs}/{name}_z1: no stored answers of the teacher with probabilities")
    texts, proba, names = zip(*(found[one] for one in sorted(found)), strict=True)
    return list(texts), np.array(proba), np.array([labels.index(label) for label in names])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--outputs", type=Path, required=True, help="outputs of the builds")
    parser.add_argument("--sets", nargs="+", default=["snips_intent", "trec6", "tweet_emotion"], metavar="SET")
    options = parser.parse_args()
    print("| set | rows | confidence | ECE, % | log loss | grouping loss, x 1000 |\n|---|---|---|---|---|---|")
    for name in options.sets:
        texts, proba, gold = stored(options.data, options.outputs, name)
        vectors = load_encoder().encode(texts)
        measured: dict[str, list[tuple[float, float, float]]] = {}
        for seed in range(N_SPLITS):
            order = np.random.default_rng(seed).permutation(len(gold))
            fitted, held = order[: len(gold) // 2], order[len(gold) // 2 :]
            shared = fit_temperature(proba[fitted], gold[fitted])
            grouped = fit_reconfidence(proba[fitted], gold[fitted], vectors[fitted], seed=seed)
            ways = {
                "as it says": proba[held],
                "one temperature": apply_temperature(proba[held], shared),
                "by groups": grouped(proba[held], vectors[held]),
            }
            for way, mended in ways.items():
                loss = grouping_loss(mended, gold[held], vectors[held], seed=seed)
                figures = (expected_calibration_error(gold[held], mended), log_loss(gold[held], mended), loss)
                measured.setdefault(way, []).append(figures)
        for way, figures_of in measured.items():
            mean, error = np.mean(figures_of, axis=0), np.std(figures_of, axis=0)
            shown = zip((100, 1, 1000), (1, 3, 1), mean, error, strict=True)
            cells = " | ".join(
                f"{scale * value:.{digits}f} ± {scale * spread:.{digits}f}" for scale, digits, value, spread in shown
            )
            print(f"| {name} | {len(gold)} | {way} | {cells} |")


if __name__ == "__main__":
    main()
