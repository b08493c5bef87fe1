"""Many weak labellers, one answer: how often each aggregator is right, beside the majority vote.

python -m benchmarks.crowd --data FOLDER            the first sections of docs/benchmarks-labelling.md
python -m benchmarks.crowd --data FOLDER --json     the figures for programs

Aggregators run with their defaults, and gold labels are read to score alone. Of the weak-supervision sets only training
rows are read. A tie counts in part: half a point for one of two equal labels.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.labelling.aggregation import AGGREGATORS
from factory.labelling.votes import ABSTAIN, NOT_ASKED, Votes

CROWDS = ("crowd_rte_snow", "crowd_face_sentiment", "crowd_dogs")
WEAK = ("weak_sms", "weak_youtube")
N_RESAMPLES = 2000
N_COPIES = 5


@dataclass(frozen=True)
class VoteSet:
    """Votes whose truth is known."""

    name: str
    votes: Votes
    gold: NDArray[np.int64]
    """Shape (n_items,): columns of labels."""


@dataclass(frozen=True)
class Line:
    """One aggregator on one set, over the items that got a vote; percent and points with 95% bootstrap intervals."""

    set: str
    n_items: int
    n_voters: int
    aggregator: str
    accuracy: tuple[float, float, float]
    """Estimate, low, high."""
    minus_majority: tuple[float, float, float]


def read_crowd(folder: Path) -> VoteSet:
    """Read a crowd set: each worker saw a few items."""
    labels = tuple(_meta(folder)["labels"])
    items = list(_rows(folder / "items.jsonl"))
    cells = list(_rows(folder / "labels.jsonl"))
    at = {row["item"]: position for position, row in enumerate(items)}
    workers = {worker: column for column, worker in enumerate(sorted({cell["worker"] for cell in cells}))}
    answers = np.full((len(items), len(workers)), NOT_ASKED)
    for cell in cells:
        answers[at[cell["item"]], workers[cell["worker"]]] = labels.index(cell["label"])
    return VoteSet(folder.name, Votes(labels, tuple(workers), answers), _gold(items, "gold", labels))


def read_weak(folder: Path) -> VoteSet:
    """Read the training rows of a weak-supervision set: each labelling function saw every text, and most are silent."""
    labels = tuple(_meta(folder)["labels"])
    rows = list(_rows(folder / "train.jsonl"))
    answers = np.array([[ABSTAIN if vote is None else labels.index(vote) for vote in r["weak_labels"]] for r in rows])
    voters = tuple(f"function {column + 1}" for column in range(answers.shape[1]))
    return VoteSet(folder.name, Votes(labels, voters, answers), _gold(rows, "label", labels))


def with_copies(given: VoteSet) -> VoteSet:
    """Let the most talkative voter vote five times, as five prompts of one model might."""
    votes = given.votes
    loudest = int(votes.is_label.sum(axis=0).argmax())
    copies = np.repeat(votes.answers[:, [loudest]], N_COPIES - 1, axis=1)
    voters = (*votes.voters, *(f"{votes.voters[loudest]}, copy {copy}" for copy in range(2, N_COPIES + 1)))
    copied = replace(votes, voters=voters, answers=np.concatenate([votes.answers, copies], axis=1))
    return VoteSet(f"{given.name}, one voter {N_COPIES} times", copied, given.gold)


def simulated() -> VoteSet:
    """Make 1,000 items of three labels, four voters who are right on 75%, and a fifth who is right on 50%."""
    rng = np.random.default_rng(0)
    gold = rng.integers(3, size=1000)
    wrong = (gold[:, None] + rng.integers(1, 3, size=(1000, 5))) % 3
    answers = np.where(rng.random((1000, 5)) < [0.75, 0.75, 0.75, 0.75, 0.5], gold[:, None], wrong)
    return VoteSet("simulated", Votes(("a", "b", "c"), ("1", "2", "3", "4", "weak"), answers), gold)


def copied_weakest(given: VoteSet, *, ratio: float) -> VoteSet:
    """Add four voters who repeat the last one, the weak one of the simulated set, and else answer at random."""
    votes, shape = given.votes, (len(given.gold), N_COPIES - 1)
    rng = np.random.default_rng(1)
    copies = np.where(rng.random(shape) < ratio, votes.answers[:, -1:], rng.integers(len(votes.labels), size=shape))
    voters = (*votes.voters, *(f"weak {copy}" for copy in range(2, N_COPIES + 1)))
    copied = replace(votes, voters=voters, answers=np.concatenate([votes.answers, copies], axis=1))
    return VoteSet(f"simulated, four repeat the weak one on {ratio:.0%}", copied, given.gold)


def score(given: VoteSet) -> list[Line]:
    """Run every aggregator on a set and compare it with the majority vote on the same resampled items."""
    seen = given.votes.is_label.any(axis=1)
    credits = {}
    for name, aggregator in AGGREGATORS.items():
        posterior = aggregator.run(aggregator.params(), given.votes).posterior[seen]
        credits[name] = _credit(posterior, given.gold[seen])
    draws = np.random.default_rng(0).integers(seen.sum(), size=(N_RESAMPLES, seen.sum()))
    majority = credits["majority"]
    return [
        Line(
            given.name,
            int(seen.sum()),
            len(given.votes.voters),
            name,
            _interval(credit, draws),
            _interval(credit - majority, draws),
        )
        for name, credit in credits.items()
    ]


def _credit(posterior: NDArray[np.float64], gold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give each item 1 where its one best label is right, a part where it is one of several."""
    best = posterior >= posterior.max(axis=1, keepdims=True) - 1e-9
    return np.asarray(best[np.arange(len(gold)), gold] / best.sum(axis=1))


def _interval(values: NDArray[np.float64], draws: NDArray[np.int64]) -> tuple[float, float, float]:
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return round(100 * float(values.mean()), 2), round(100 * float(low), 2), round(100 * float(high), 2)


def _meta(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return found


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _gold(rows: list[dict[str, Any]], key: str, labels: tuple[str, ...]) -> NDArray[np.int64]:
    return np.array([labels.index(row[key]) for row in rows])


def markdown(lines: list[Line]) -> str:
    """Write a table, one line a set and aggregator."""
    head = "| set | items with a vote | voters | aggregator | accuracy, % | minus majority, points |"
    table = [head, "|---|---|---|---|---|---|"]
    for line in lines:
        accuracy, difference = (
            "{:.1f} ({:.1f} to {:.1f})".format(*line.accuracy),
            "{:+.1f} ({:+.1f} to {:+.1f})".format(*line.minus_majority),
        )
        shown = "" if line.aggregator == "majority" else difference
        row = f"| {line.set} | {line.n_items:,} | {line.n_voters} | {line.aggregator} | {accuracy} | {shown} |"
        table.append(row)
    return "\n".join(table)


def main() -> None:
    """Score every set and print the page or the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    options = parser.parse_args()
    weak = [read_weak(options.data / name) for name in WEAK]
    copies = [with_copies(one) for one in weak]
    tables = {
        "crowds": [read_crowd(options.data / name) for name in CROWDS],
        "functions": weak,
        "copies": [simulated(), *(copied_weakest(simulated(), ratio=ratio) for ratio in (1.0, 0.9)), *copies],
    }
    lines = {name: [line for given in sets for line in score(given)] for name, sets in tables.items()}
    if options.json:
        print(json.dumps({name: [asdict(line) for line in found] for name, found in lines.items()}, indent=2))
    else:
        print(PAGE.format(**{name: markdown(found) for name, found in lines.items()}), end="")


PAGE = """# Many weak labellers, one answer

The first three sections are what `python -m benchmarks.crowd --data FOLDER` prints, where FOLDER holds the public
sets; it takes a minute and no teacher. The others name their command. Defaults everywhere; nothing was chosen on the
crowds. How silence is treated was chosen on the validation rows of the two sets of functions, after a first version had
failed on the rows below
([log](log.md)). Intervals are 95% bootstrap intervals over items; the last column compares with the majority vote on
the same resampled items. Ties count in part. What each aggregator assumes is in
[label a pool](how-to/label-a-pool.md).

## Crowds: each person saw some of the items

{crowds}

## Labelling functions: each saw every text and was mostly silent

Training rows; an item on which all functions are silent is left out, as a build rejects it. All but one of these
functions can say one label only. From such votes alone Dawid-Skene cannot tell habit from truth, and `factory check`
refuses the combination.

{functions}

## Voters who repeat each other

{copies}
"""

if __name__ == "__main__":
    main()
