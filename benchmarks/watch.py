"""How often does `factory watch` cry wolf, and what does it find? Shares of draws with an alarm, on real texts.

    python -m benchmarks.watch --data FOLDER                          SNIPS and AG News, each with the other as foreign

A `static-embedding` student is fitted on 1,000 training rows of a set. In each draw 300 of 2,000 other training rows
are the reference and 300 others are production: as they are (every alarm is a false one), with a share of them replaced
by texts of the other set, or with a share of them replaced by texts of one label. `watch` as it comes: alpha 0.01,
999 permutations.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency import export
from factory.encoders import load_encoder
from factory.evaluation.drift import DriftParams, Side, find_drift
from factory.records import Origin, TextRow
from factory.release.predict import Predictor

SETS = ("snips_intent", "ag_news")
N_FIT, N_OWN, N_FOREIGN = 1000, 2000, 500
"""Rows that the student learns, that are drawn from, and of the other set."""
N_SIDE = 300
"""Texts of either side."""
SHARES = (0.1, 0.2, 0.5)
TESTS = ("labels", "confidence", "texts")
UNCORRECTED = 0.05
"""What a test alone is held against where nothing has changed: of 0.33 % a few hundred draws tell little."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """A set as a student and the encoder see it."""

    labels: tuple[str, ...]
    own: Side
    foreign: Side


def read_rows(path: Path) -> list[TextRow]:
    """Read the rows of a file, shuffled."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    order = np.random.default_rng(0).permutation(len(lines)).tolist()
    return [TextRow(lines[at]["text"], lines[at]["label"], Origin.GOLD) for at in order]


def known(data: Path, name: str, other: str, scratch: Path) -> Known:
    """Fit the student and let it see all other rows once."""
    rows, encoder = read_rows(data / name / "train.jsonl"), load_encoder()
    predictor = Predictor(export("static-embedding", rows[:N_FIT], scratch / name))

    def side(those: list[TextRow], *, is_own: bool) -> Side:
        texts = [row.text for row in those]
        gold = np.array([predictor.labels.index(str(row.label)) for row in those]) if is_own else None
        return Side(predictor.predict_proba(texts), encoder.encode(texts), gold)

    foreign = read_rows(data / other / "train.jsonl")[:N_FOREIGN]
    return Known(tuple(predictor.labels), side(rows[N_FIT : N_FIT + N_OWN], is_own=True), side(foreign, is_own=False))


def rows_of(side: Side, at: Ints) -> Side:
    """Return some rows of a side, without their labels."""
    return Side(side.proba[at], side.vectors[at])


def production(one: Known, kind: str, share: float, left: Ints, rng: np.random.Generator) -> Side:
    """Draw 300 texts, a share of them of another kind."""
    n_odd = round(share * N_SIDE)
    usual, rest = left[: N_SIDE - n_odd], left[N_SIDE - n_odd :]
    if kind == "foreign":
        odd = rows_of(one.foreign, rng.choice(len(one.foreign.proba), n_odd, replace=False))
    else:
        assert one.own.gold is not None
        label = rng.integers(len(one.labels))
        odd = rows_of(one.own, rest[one.own.gold[rest] == label][:n_odd])
    if len(odd.proba) < n_odd:
        raise SystemExit(f"expected {n_odd} texts to put in, found {len(odd.proba)}")
    plain = rows_of(one.own, usual)
    return Side(np.concatenate([plain.proba, odd.proba]), np.concatenate([plain.vectors, odd.vectors]))


def p_values(one: Known, kind: str, share: float, n_draws: int) -> NDArray[np.float64]:
    """Watch so many draws; shape (n_draws, 3)."""
    found = []
    for draw in range(n_draws):
        rng = np.random.default_rng((draw, round(100 * share), len(kind)))
        order = rng.permutation(len(one.own.proba))
        reference = Side(one.own.proba[order[:N_SIDE]], one.own.vectors[order[:N_SIDE]])
        now = production(one, kind, share, order[N_SIDE:], rng)
        drift = find_drift(DriftParams(seed=draw), labels=one.labels, reference=reference, production=now)
        assert tuple(test.name for test in drift.tests) == TESTS
        found.append([test.p for test in drift.tests])
    return np.array(found)


def share_of(hits: Any) -> str:
    """Say the share of true ones in percent, with the exact interval of Clopper and Pearson."""
    from scipy.stats import binomtest

    bounds = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, "exact")
    return f"{100 * hits.mean():.1f} ({100 * bounds.low:.1f} to {100 * bounds.high:.1f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--draws", type=int, default=40, help="of each change")
    parser.add_argument("--unchanged", type=int, default=200, help="draws in which nothing has changed")
    options = parser.parse_args()
    alpha = DriftParams().alpha
    changes = [("nothing", 0.0), *(("foreign", share) for share in SHARES), *(("one label", share) for share in SHARES)]
    print(f"| set | changed | watch alarms, % (of nothing: {100 * alpha:g}) | " + " | ".join(TESTS) + " |")
    print("|---" * (3 + len(TESTS)) + "|")
    for name, other in zip(SETS, SETS[::-1], strict=True):
        with tempfile.TemporaryDirectory() as scratch:
            one = known(options.data, name, other, Path(scratch))
        for kind, share in changes:
            found = p_values(one, kind, share, options.unchanged if kind == "nothing" else options.draws)
            alarm = (found * len(TESTS) <= alpha).any(axis=1)
            # A test alone: where nothing has changed at a level that so many draws can tell, else at that of watch.
            level = UNCORRECTED if kind == "nothing" else alpha / len(TESTS)
            cells = [share_of(alarm), *(share_of(hits) for hits in (found <= level).T)]
            what = kind if kind == "nothing" else f"{100 * share:.0f} % {kind}"
            print(f"| {name} | {what} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
