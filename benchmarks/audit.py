"""What the audit says of real sets, one half beside another, and of sets that LLMs wrote, beside real rows.

    python -m benchmarks.audit --data FOLDER

The bounds of factory/evaluation/findings.py and the table of docs/how-to/read-the-audit.md come from here. All rows are
of training files.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.noise import as_rows, read_labels, read_rows
from factory.encoders import load_encoder
from factory.evaluation.audit import Audit, AuditParams, audit

REAL = ("snips_intent", "trec6", "ag_news", "sst2")
WRITTEN = (
    ("synth_supergen_sst2", "train.jsonl", "sst2"),
    ("synth_thesis_ag_news", "train_baseline.jsonl", "ag_news"),
    ("synth_thesis_ag_news", "train_targeted.jsonl", "ag_news"),
)
N_ROWS = 1000

Pairs = list[tuple[str, str]]


def drawn(path: Path) -> Pairs:
    """Read the rows of a file in random order, each text once."""
    pairs = list(dict(read_rows(path)).items())
    return [pairs[at] for at in np.random.default_rng(0).permutation(len(pairs))]


def audits(data: Path) -> Iterator[tuple[str, Audit]]:
    """Audit every set."""
    for name in REAL:
        pairs = drawn(data / name / "train.jsonl")
        yield f"{name}, real", one(data / name, pairs[:N_ROWS], pairs[N_ROWS : 2 * N_ROWS])
    for name, file, real in WRITTEN:
        pairs = drawn(data / real / "train.jsonl")
        yield f"{name}, {file}", one(data / real, drawn(data / name / file)[:N_ROWS], pairs[:N_ROWS])


def one(folder: Path, generated: Pairs, real: Pairs) -> Audit:
    """Audit rows as if a teacher had written them, beside a pool."""
    params = AuditParams(labels=read_labels(folder))
    return audit(params, rows=as_rows(generated), encoder=load_encoder(), pool=as_rows(real))


def line(name: str, found: Audit) -> str:
    """Write a line of the table; figures with an interval as value (low to high)."""
    varied = min(label.distinct[1] for label in found.labels if label.distinct)
    repeated = sum(label.n_near_duplicates for label in found.labels) / sum(label.n_compared for label in found.labels)
    words = [shortcut for shortcut in found.shortcuts if not shortcut.is_expected]
    word = max(words, key=lambda shortcut: shortcut.share, default=None)
    decides = f'{word.share:.2f} ("{word.word}" in {word.label})' if word else "none"
    real = found.real
    assert real is not None
    estimates = [found.length, real.vectors, real.ngrams, real.coverage]
    shown = ["" if e is None else f"{e.value:.3f} ({e.low:.3f} to {e.high:.3f})" for e in estimates]
    return f"| {name} | {found.n_rows} | {varied:.2f} | {repeated:.2f} | {decides} | {' | '.join(shown)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    options = parser.parse_args()
    print(
        "| set | rows | distinct-2, worst label | near duplicates | word that decides, worst label | "
        "label by length | told apart by meaning | by wording | covered |"
    )
    print("|" + "---|" * 9)
    for name, found in audits(options.data):
        print(line(name, found), flush=True)


if __name__ == "__main__":
    main()
