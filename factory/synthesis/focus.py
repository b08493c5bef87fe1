"""What a student, trained on the rows so far, still finds hard: rows near the border, and the labels behind it.

Rows are predicted out of fold. A row counts as hard when the student nearly gives it another label, or does. Where it
is sure of another label, the label is as likely to be wrong as the row is to be hard ("hard-to-learn" examples of
Swayamdipta et al., "Dataset Cartography", EMNLP 2020, arXiv:2009.10795): such a row says which labels are confused, but
nobody is shown it as an example to follow. To write more of what is wrong or unsure, and of nothing else, is the idea
of Lee et al., "LLM2LLM: Boosting LLMs with Novel Iterative Data Enhancement", Findings of ACL 2024, arXiv:2403.15042.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from factory.records import Predictions, Rows, all_kept
from factory.spec import Model
from factory.store import Stage
from factory.synthesis.strategy import Shown


class FocusParams(Model):
    """What counts as hard."""

    labels: tuple[str, ...]
    """Spec order."""
    unsure_margin: Annotated[float, Field(ge=0, le=1)] = 0.3
    """A row is hard when its label's probability is not by so much above that of the best other label."""
    least_probability: Annotated[float, Field(ge=0, le=1)] = 0.1
    """A row whose label has less than this is taken for mislabelled."""
    most_per_label: Annotated[int, Field(ge=1)] = 40


def find_hard(params: FocusParams, *, rows: Rows, oof: Predictions) -> Rows:
    """Find hard rows and confused labels.

    Args:
        params: What counts as hard.
        rows: Labelled rows.
        oof: Out-of-fold probabilities of the same rows, in the same order.

    Returns:
        The hard rows, label by label, the hardest first. The report has `rivals`, for each hard row the label that it
        is nearly taken for; `pairs`, how many rows of a label are nearly taken for another or are; `n_doubted`, rows
        that were taken for mislabelled.
    """
    names = list(params.labels)
    labels: list[str] = rows.kept["label"][:]
    columns = np.array([names.index(label) for label in labels], dtype=np.int64)
    at = np.arange(len(columns))
    own = oof.probs[at, columns]
    others = oof.probs.copy()
    others[at, columns] = -1.0
    runner_up = others.argmax(axis=1) if len(at) else columns
    margin = own - others[at, runner_up]
    unsure = np.flatnonzero(margin < params.unsure_margin)
    pairs = Counter((labels[row], names[runner_up[row]]) for row in unsure)
    believed = [int(row) for row in unsure if own[row] >= params.least_probability]
    hardest = sorted(believed, key=lambda row: (columns[row], margin[row], row))
    n_of: Counter[str] = Counter()
    chosen = []
    for row in hardest:
        n_of[labels[row]] += 1
        if n_of[labels[row]] <= params.most_per_label:
            chosen.append(row)
    kept = rows.kept.select(chosen)
    report = {
        "rivals": {row_id: names[runner_up[row]] for row_id, row in zip(kept["id"], chosen, strict=True)},
        "pairs": [[label, rival, n] for (label, rival), n in sorted(pairs.items(), key=lambda one: (-one[1], one[0]))],
        "n_doubted": len(unsure) - len(believed),
    }
    found = all_kept(kept, report)
    return Rows(found.kept, found.rejected, found.report, is_complete=rows.is_complete)


FOCUS: Stage[Rows] = Stage("focus", 1, FocusParams, find_hard, Rows)


class Focus:
    """Hard rows as prompts use them."""

    def __init__(self, rows: Rows) -> None:
        self._rivals: dict[str, str] = rows.report["rivals"]
        self._pairs: list[tuple[str, str, int]] = rows.report["pairs"]
        self._of: dict[str, list[Shown]] = {}
        for row_id, text, label in zip(rows.kept["id"], rows.kept["text"], rows.kept["label"], strict=True):
            self._of.setdefault(label, []).append(Shown(row_id, text))

    def some(self, label: str, position: int, n: int, *, rival: str | None = None) -> tuple[Shown, ...]:
        """Return hard rows of a label for its n-th prompt; those of a rival only, where one is named."""
        rows = [row for row in self._of.get(label, []) if rival in (None, self._rivals[row.id])]
        start = position * n % len(rows) if rows else 0
        return tuple([*rows[start:], *rows[:start]][:n])

    def rivals(self, label: str) -> list[str]:
        """Return the labels that one is confused with, in either direction, the most often first."""
        counts: Counter[str] = Counter()
        for one, other, n in self._pairs:
            if label in (one, other):
                counts[other if one == label else one] += n
        return [rival for rival, _ in counts.most_common()]

    def weights(self, labels: Sequence[str]) -> tuple[float, ...]:
        """Return how many unsure rows each label has, doubtful ones included: where more texts are needed."""
        counts: Counter[str] = Counter()
        for label, _, n in self._pairs:
            counts[label] += n
        return tuple(float(counts[label]) for label in labels)


def spread(n: int, weights: Sequence[float], *, start: int = 0) -> tuple[int, ...]:
    """Share a number out in whole parts by largest remainder; nothing is given to a weight of 0.

    Args:
        n: What to share.
        weights: Not negative.
        start: Who comes first among equals, so that rounds do not always favour the same.

    Returns:
        A share for each weight; their sum is `n`, or 0 where all weights are 0.
    """
    total = sum(weights)
    if not total:
        return (0,) * len(weights)
    exact = [n * weight / total for weight in weights]
    shares = [int(one) for one in exact]
    order = sorted(
        (at for at, weight in enumerate(weights) if weight),
        key=lambda at: (shares[at] - exact[at], (at - start) % len(weights)),
    )
    for at in order[: n - sum(shares)]:
        shares[at] += 1
    return tuple(shares)
