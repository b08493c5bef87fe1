"""All thresholds a cascade may have, counted on some rows: which tier answers, what is right, what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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

    @cached_property
    def answered_by(self) -> NDArray[np.int8]:
        """Position of the tier that answers, n_tiers where nobody does; shape (n_policies, n_rows)."""
        n_passing = self.thresholds.shape[1]
        answered = np.full((len(self.thresholds), len(self.tiers[0].is_right)), n_passing, dtype=np.int8)
        for position in reversed(range(n_passing)):
            sure = self.tiers[position].confidence[None, :] >= self.thresholds[:, position, None]
            answered[sure] = position
        return answered

    def is_right(self, policy: int) -> Rights:
        """Return which rows these thresholds get right; a row that nobody answers is not right."""
        each = np.stack([*(tier.is_right for tier in self.tiers), np.zeros_like(self.tiers[0].is_right)])
        right: Rights = each[self.answered_by[policy], np.arange(each.shape[1])]
        return right

    def tally(self, rows: Ints) -> Tally:
        """Count on some rows."""
        answered, last = self.answered_by[:, rows], len(self.tiers) - 1
        right = np.zeros(answered.shape, dtype=bool)
        for position, tier in enumerate(self.tiers):
            right |= (answered == position) & tier.is_right[rows]
        alone = [tier.is_right[rows] for tier in self.tiers]
        wrong = ~right & (answered <= last)
        reached = range(self.thresholds.shape[1] + 1)
        return Tally(
            n_rows=len(rows),
            n_given=(answered <= last).sum(axis=1),
            n_right=right.sum(axis=1),
            n_last=(answered >= last).sum(axis=1),
            n_reached=np.stack([(answered >= position).sum(axis=1) for position in reached], axis=1),
            n_worse=np.stack([(one & wrong).sum(axis=1) for one in alone], axis=1),
            n_better=np.stack([(right & ~one).sum(axis=1) for one in alone], axis=1),
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
