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
from dataclasses import dataclass, replace

import numpy as np

from factory.errors import FactoryError
from factory.evaluation.bounds import paired_p_value, rate_p_value
from factory.evaluation.policies import Cascades, Ints, Tally, Tier, cost_of, frontier_of, grid
from factory.evaluation.promise import DESIGN_SHARE
from factory.evaluation.verification import Verification, confidences, fit_verification
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
    verification: Verification | None
    """What made confidences of the last tier's verifications, learned on the design rows."""


def search(tiers: Sequence[Tier], goal: CascadeSpec, *, seed: int = 0) -> Search:
    """Find thresholds that keep a promise with confidence 1 - delta.

    Args:
        tiers: Two or more, cheapest first, on the same rows, none of which a tier was fitted or calibrated on. With
            self-verification the confidence of the last is what it said of its answers (`factory.evaluation.
            verification`), and it may abstain: accuracy and loss are then those of the texts that are answered.
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
    verification = None
    if goal.self_verification:
        said, last_right = tiers[-1].confidence, tiers[-1].is_right
        verification = fit_verification(said[design], last_right[design])
        tiers = [*tiers[:-1], replace(tiers[-1], confidence=confidences(verification, said))]
    cascades = Cascades(tiers, grid(tiers, design, may_abstain=goal.self_verification))
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
    taken = last_alone if chosen is None else chosen
    return Search(cascades, design, test, tuple(frontier), p_values, certified, taken, verification)


def _safety(tally: Tally, goal: CascadeSpec, policy: int) -> float:
    """Return by how many standard errors the promise is kept on the design rows, in the worst of its parts."""
    standing = [
        (bound * n_of - n) / max(bound * (1 - bound) * n_of, 1 / 4) ** 0.5
        for n, n_of, bound in _events(tally, goal, policy)
    ]
    if goal.loss_margin is not None:
        lost = tally.n_worse[policy] - tally.n_better[policy]
        apart = tally.n_worse[policy] + tally.n_better[policy]
        standing += ((goal.loss_margin * tally.n_given[policy] - lost) / np.sqrt(apart + 1)).tolist()
    return float(min(standing))


def _events(tally: Tally, goal: CascadeSpec, policy: int) -> list[tuple[int, int, float]]:
    """Return what must be rare, in order of `goal.rates`: how often it was seen, on how many rows, and the bound."""
    # Given which rows are answered, how many of them are wrong is binomial: a text without an answer is no wrong one.
    n_given = int(tally.n_given[policy])
    seen = [(n_given - int(tally.n_right[policy]), n_given)] if goal.accuracy is not None else []
    seen += [(int(tally.n_last[policy]), tally.n_rows)] if goal.teacher_share is not None else []
    return [(n, n_of, bound) for (n, n_of), bound in zip(seen, goal.rates, strict=True)]


def _test(cascades: Cascades, tally: Tally, order: Sequence[int], goal: CascadeSpec) -> dict[int, float]:
    """Test policies one after the other until one fails; return their p-values."""
    # A promise of several parts is broken if one part is, so the p-value of the whole is the largest of the parts.
    p_values: dict[int, float] = {}
    for policy in order:
        parts = [rate_p_value(n, n_of, bound) for n, n_of, bound in _events(tally, goal, policy)]
        if goal.loss_margin is not None:
            pairs = zip(tally.n_worse[policy].tolist(), tally.n_better[policy].tolist(), strict=True)
            alone = cascades.stands_alone(policy)  # it cannot lose against itself
            parts += [
                paired_p_value(worse, better, int(tally.n_given[policy]), goal.loss_margin)
                for position, (worse, better) in enumerate(pairs)
                if position != alone
            ]
        p_values[policy] = max(parts, default=0.0)
        if p_values[policy] > goal.delta:
            break
    return p_values
