"""All thresholds a cascade may have, counted on some rows: which tier answers, what is right, what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

N_LEVELS = 25
"""Thresholds tried for each tier."""
FEW_LEVELS = 12
"""Where more than three tiers may pass a text on: all combinations of all levels would not fit into memory."""
MOST_TESTED = 20
COST_RATIO = 100
"""A tier is taken to cost so many times the one before it: about what lies between a table of static vectors, a
sentence encoder and a local LLM (docs/benchmarks.md)."""
NEVER = 2.0
"""A threshold that no probability reaches."""
BLOCK_CELLS = 2**22
"""Policies times rows that are counted at a time: some arrays of this many bytes, whatever the numbers of both."""

Rights = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Tier:
    """What one answerer says to the calibration rows."""

    name: str
    confidence: NDArray[np.float64]
    """Calibrated probability of its answer, shape (n_rows,); not read for the last tier unless it may abstain."""
    is_right: Rights
    """Shape (n_rows,)."""


@dataclass(frozen=True)
class Tally:
    """How some thresholds fare on some rows, counted; every array has shape (n_policies, ...)."""

    n_rows: int
    n_given: Ints
    """Rows that are answered; all of them where the last tier does not abstain."""
    n_right: Ints
    n_last: Ints
    """Rows that reach the last tier."""
    n_reached: Ints
    """Rows that reach each tier, and nobody where the last one may abstain: shape (n_policies, n_tiers or one more)."""
    n_worse: Ints
    """Of the rows that are answered, those that a tier alone has right and the cascade has not, shape (n_policies,
    n_tiers)."""
    n_better: Ints


@dataclass(frozen=True)
class Cascades:
    """All thresholds that are considered, on all rows."""

    tiers: Sequence[Tier]
    thresholds: NDArray[np.float64]
    """Shape (n_policies, n_tiers - 1), or (n_policies, n_tiers) where the last tier may abstain."""

    def answered_by(self, policies: slice, rows: Ints) -> NDArray[np.int8]:
        """Return the position of the tier that answers, n_tiers where nobody does; shape (n_policies, n_rows)."""
        thresholds = self.thresholds[policies]
        n_passing = thresholds.shape[1]
        answered = np.full((len(thresholds), len(rows)), n_passing, dtype=np.int8)
        for position in reversed(range(n_passing)):
            sure = self.tiers[position].confidence[rows] >= thresholds[:, position, None]
            answered[sure] = position
        return answered

    def answers(self, policy: int, rows: Ints) -> tuple[NDArray[np.int8], Rights]:
        """Return which tier answers each row, and whether it is right; a row that nobody answers is not right."""
        answered = self.answered_by(slice(policy, policy + 1), rows)[0]
        each = np.stack([*(tier.is_right[rows] for tier in self.tiers), np.zeros(len(rows), dtype=bool)])
        right: Rights = each[answered, np.arange(len(rows))]
        return answered, right

    def tally(self, rows: Ints) -> Tally:
        """Count on some rows."""
        n_policies, step = len(self.thresholds), max(1, BLOCK_CELLS // max(1, len(rows)))
        counted = [self._count(slice(start, start + step), rows) for start in range(0, n_policies, step)]
        return Tally(len(rows), *(np.concatenate(parts) for parts in zip(*counted, strict=True)))

    def _count(self, policies: slice, rows: Ints) -> tuple[Ints, ...]:
        """Count for some policies: what a `Tally` holds, in its order."""
        answered, last = self.answered_by(policies, rows), len(self.tiers) - 1
        right = np.zeros(answered.shape, dtype=bool)
        for position, tier in enumerate(self.tiers):
            right |= (answered == position) & tier.is_right[rows]
        alone = [tier.is_right[rows] for tier in self.tiers]
        wrong = ~right & (answered <= last)
        reached = range(self.thresholds.shape[1] + 1)
        return (
            (answered <= last).sum(axis=1),
            right.sum(axis=1),
            (answered >= last).sum(axis=1),
            np.stack([(answered >= position).sum(axis=1) for position in reached], axis=1),
            np.stack([(one & wrong).sum(axis=1) for one in alone], axis=1),
            np.stack([(right & ~one).sum(axis=1) for one in alone], axis=1),
        )

    def stands_alone(self, policy: int) -> int | None:
        """Return the tier that answers whatever comes, if there is one."""
        thresholds = [*self.thresholds[policy], 0.0]
        first = next(position for position, threshold in enumerate(thresholds) if threshold != NEVER)
        return first if thresholds[first] == 0.0 else None


def grid(tiers: Sequence[Tier], design: Ints, *, may_abstain: bool = False) -> NDArray[np.float64]:
    """Return all thresholds to consider, shape (n_policies, n_tiers - 1), one more column if the last may abstain.

    In the last line no tier but the last ever answers, and that one always.
    """
    levels = np.linspace(0, 1, N_LEVELS if len(tiers) - 1 + may_abstain < 4 else FEW_LEVELS)
    passing = tiers if may_abstain else tiers[:-1]
    each = [np.unique(np.quantile(tier.confidence[design], levels).round(6)) for tier in passing]
    choices = [[0.0, *values[values > 0], NEVER] for values in each[: len(tiers) - 1]]
    if may_abstain:
        choices.append([*each[-1][each[-1] > 0][::-1], 0.0])  # one that never answers need not be asked
    return np.array([*product(*choices)])


def cost_of(tally: Tally) -> NDArray[np.float64]:
    """Return the cost of a text in units of the last tier, shape (n_policies,): every tier it reaches is paid.

    A text that nobody answers is taken to cost so many times the last tier, as if a person were the next one.
    """
    n_tiers = tally.n_worse.shape[1]
    prices = float(COST_RATIO) ** (np.arange(tally.n_reached.shape[1]) - (n_tiers - 1))
    cost: NDArray[np.float64] = tally.n_reached @ prices / tally.n_rows
    return cost


def frontier_of(designed: Tally) -> list[int]:
    """Return the policies that none beats in both cost and accuracy on the design rows, cheapest first, thinned."""
    cost, accuracy = cost_of(designed), designed.n_right / np.maximum(designed.n_given, 1)
    best, frontier = -1.0, []
    for policy in np.lexsort((-accuracy, cost)).tolist():
        if accuracy[policy] > best:
            best = float(accuracy[policy])
            frontier.append(policy)
    kept = np.unique(np.linspace(0, len(frontier) - 1, min(MOST_TESTED, len(frontier))).round().astype(int))
    return [frontier[position] for position in kept.tolist()]
