"""Thresholds of a cascade, chosen so that a promise about it holds with a stated confidence.

A text is answered by the first tier that is sure enough; what no tier is sure about goes to the last. Which thresholds
keep a promise is a question of many hypotheses, "these thresholds break it", and those that are rejected may be used:
Angelopoulos, Bates, Candès, Jordan and Lei, "Learn then Test", arXiv:2110.01052. Which to test, and in what order, is
learned from a part of the rows that takes no part in the test, cheap and good ones first: Laufer-Goldshtein, Fisch,
Barzilay and Jaakkola, "Efficiently Controlling Multiple Risks with Pareto Testing", ICLR 2023, arXiv:2210.07913. Each
is tested only if all before it were rejected, so that all of them together err with probability delta at most.

What is assumed: the rows are exchangeable with the texts that will come. Labels of people make it a promise about the
truth, labels of the teacher one about agreeing with the teacher.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from factory.errors import FactoryError
from factory.evaluation.bounds import paired_p_value, rate_p_value
from factory.evaluation.policies import Cascades, Ints, Tally, Tier, cost_of, frontier_of, grid
from factory.evaluation.promise import DESIGN_SHARE
from factory.spec import CascadeSpec


@dataclass(frozen=True)
class Search:
    """Which thresholds were tried, which passed, and which are taken."""

    cascades: Cascades
    design: Ints
    """Rows that decided what is tested."""
    test: Ints
    frontier: tuple[int, ...]
    """Policies that were to be tested, cheapest first."""
    p_values: Mapping[int, float]
    """Of those whose turn came."""
    certified: tuple[int, ...]
    chosen: int
    """The last tier alone where nothing was certified."""


def search(tiers: Sequence[Tier], goal: CascadeSpec, *, seed: int = 0) -> Search:
    """Find thresholds that keep a promise with confidence 1 - delta.

    Args:
        tiers: Two or more, cheapest first, on the same rows, none of which a tier was fitted or calibrated on.
        goal: The promise: accuracy at least, accuracy within so much of every tier's, share that reaches the last
            tier at most; all that are given hold at once.
        seed: Decides which rows design and which test.

    Returns:
        The cheapest of the certified thresholds, or the most accurate when only the share is bounded.

    Raises:
        FactoryError: There are fewer than two tiers, or fewer than three rows.
    """
    n_rows = len(tiers[0].is_right) if tiers else 0
    if len(tiers) < 2 or n_rows < 3:
        raise FactoryError(f"cascade: expected two tiers and three rows at least, got {len(tiers)} and {n_rows}")
    order = np.random.default_rng(seed).permutation(n_rows)
    n_design = max(1, round(DESIGN_SHARE * n_rows))
    design, test = np.sort(order[:n_design]), np.sort(order[n_design:])
    cascades = Cascades(tiers, grid(tiers, design))
    designed, tested = cascades.tally(design), cascades.tally(test)
    frontier = frontier_of(designed)
    in_order = sorted(frontier, key=lambda one: -_safety(designed, goal, one))
    p_values = _test(cascades, tested, in_order, goal)
    certified = tuple(one for one in frontier if p_values.get(one, 1.0) <= goal.delta)
    right, cost = tested.n_right, cost_of(tested)
    cheapest = max(certified, key=lambda one: (-cost[one], right[one]), default=None)
    best = max(certified, key=lambda one: (right[one], -cost[one]), default=None)
    chosen = cheapest if goal.bounds_loss else best
    last_alone = len(cascades.thresholds) - 1  # the grid ends where no tier but the last ever answers
    return Search(
        cascades, design, test, tuple(frontier), p_values, certified, last_alone if chosen is None else chosen
    )


def _safety(tally: Tally, goal: CascadeSpec, policy: int) -> float:
    """Return by how many standard errors the promise is kept on the design rows, in the worst of its parts."""
    n_rows = tally.n_rows
    events = [n for n, _ in _events(tally, goal, policy)]
    spread = [max(bound * (1 - bound) * n_rows, 1 / 4) ** 0.5 for bound in goal.rates]
    standing = [(bound * n_rows - n) / one for bound, n, one in zip(goal.rates, events, spread, strict=True)]
    if goal.loss_margin is not None:
        lost = tally.n_worse[policy] - tally.n_better[policy]
        apart = tally.n_worse[policy] + tally.n_better[policy]
        standing += ((goal.loss_margin * n_rows - lost) / np.sqrt(apart + 1)).tolist()
    return float(min(standing))


def _events(tally: Tally, goal: CascadeSpec, policy: int) -> list[tuple[int, float]]:
    """Return what must be rare, in order of `goal.rates`: how often it was seen, and the bound."""
    seen = [tally.n_rows - int(tally.n_right[policy])] if goal.accuracy is not None else []
    seen += [int(tally.n_last[policy])] if goal.teacher_share is not None else []
    return [*zip(seen, goal.rates, strict=True)]


def _test(cascades: Cascades, tally: Tally, order: Sequence[int], goal: CascadeSpec) -> dict[int, float]:
    """Test policies one after the other until one fails; return their p-values."""
    # A promise of several parts is broken if one part is, so the p-value of the whole is the largest of the parts.
    p_values: dict[int, float] = {}
    for policy in order:
        parts = [rate_p_value(n, tally.n_rows, bound) for n, bound in _events(tally, goal, policy)]
        if goal.loss_margin is not None:
            pairs = zip(tally.n_worse[policy].tolist(), tally.n_better[policy].tolist(), strict=True)
            alone = cascades.stands_alone(policy)  # it cannot lose against itself
            parts += [
                paired_p_value(worse, better, tally.n_rows, goal.loss_margin)
                for position, (worse, better) in enumerate(pairs)
                if position != alone
            ]
        p_values[policy] = max(parts, default=0.0)
        if p_values[policy] > goal.delta:
            break
    return p_values
