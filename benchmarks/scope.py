"""Does a student notice texts that belong to none of its labels? AUROC of four scores, on texts of other sets.

python -m benchmarks.scope --data FOLDER                           SNIPS against TREC-6, AG News and Banking77
python -m benchmarks.scope --data FOLDER --set banking77 --others snips_intent trec6

A `blend` is fitted on 1,000 training rows of a set and exported; 700 others stand for what it should answer, 500
training rows of each other set for what it should not. The threshold is chosen on half of the 700 as a build does it.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency import export
from factory.encoders import load_encoder
from factory.evaluation.auroc import auroc
from factory.evaluation.rejection import rejection_threshold
from factory.records import Origin, TextRow
from factory.release.predict import Predictor, familiarity

N_FIT, N_INSIDE, N_OUTSIDE = 1000, 700, 500
N_NEIGHBOURS = 5
RATE = 0.05
SHRINKAGE = 0.1


def read_rows(path: Path, start: int, n: int) -> list[TextRow]:
    """Read some rows of a shuffled file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    order = np.random.default_rng(0).permutation(len(lines))[start : start + n]
    return [TextRow(row["text"], row["label"], Origin.GOLD) for row in (json.loads(lines[at]) for at in order.tolist())]


def nearest(seen: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean cosine to the nearest training rows."""
    scores: NDArray[np.float64] = np.sort(vectors @ seen.T, axis=1)[:, -N_NEIGHBOURS:].mean(axis=1)
    return scores


def mahalanobis(
    seen: NDArray[np.float32], labels: Sequence[str | None], vectors: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return minus the distance to the nearest label mean, under one shrunk covariance (Lee et al., NeurIPS 2018)."""
    names = np.array(labels)
    means = {name: seen[names == name].mean(axis=0) for name in set(labels)}
    centred = seen - np.stack([means[name] for name in labels])
    covariance = centred.T @ centred / len(seen)
    covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    inverse = np.linalg.inv(covariance)
    away = [vectors - mean for mean in means.values()]
    scores: NDArray[np.float64] = -np.min([np.einsum("ij,jk,ik->i", one, inverse, one) for one in away], axis=0)
    return scores


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--set", default="snips_intent")
    parser.add_argument("--others", nargs="+", default=["trec6", "ag_news", "banking77"])
    options = parser.parse_args()
    file = options.data / options.set / "train.jsonl"
    fit, inside = read_rows(file, 0, N_FIT), read_rows(file, N_FIT, N_INSIDE)
    encoder = load_encoder()
    seen = encoder.encode([row.text for row in fit])
    with tempfile.TemporaryDirectory() as scratch:
        predictor = Predictor(export("blend", fit, Path(scratch) / "blend"))

        def score(rows: Sequence[TextRow]) -> dict[str, NDArray[np.float64]]:
            texts = [row.text for row in rows]
            logits, vectors = predictor.predict_logits(texts), encoder.encode(texts)
            top = predictor.predict_proba(texts).max(axis=1)
            away = mahalanobis(seen, [row.label for row in fit], vectors)
            return {
                "probability": top,
                "energy": familiarity(logits),
                "nearest": nearest(seen, vectors),
                "mahalanobis": away,
            }

        known = score(inside)
        outside = {name: score(read_rows(options.data / name / "train.jsonl", 0, N_OUTSIDE)) for name in options.others}
    half = N_INSIDE // 2
    print("| texts of | score | AUROC, % | refused of them, % | refused of its own, % |\n|---|---|---|---|---|")
    for name, scores in outside.items():
        for kind, values in scores.items():
            own = known[kind]
            threshold = rejection_threshold(own[:half], RATE)
            is_own = np.r_[np.ones(len(own), dtype=bool), np.zeros(len(values), dtype=bool)]
            found = auroc(is_own, np.r_[own, values], seed=0)
            if found is None:
                continue
            shown = f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"
            refused, lost = 100 * (values < threshold).mean(), 100 * (own[half:] < threshold).mean()
            print(f"| {name} | {kind} | {shown} | {refused:.1f} | {lost:.1f} |")


if __name__ == "__main__":
    main()
