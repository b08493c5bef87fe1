"""Calibration of two labels: what the log-odds of a student must become for its probabilities to come true.

Three rules, from the stiffest: a temperature; Platt's slope and shift (Platt, "Probabilistic outputs for support
vector machines", 1999); and, from 1,000 rows on, isotonic regression (Zadrozny and Elkan, KDD 2002). The isotonic one
is a line through the middles of its steps in log-odds, with slope 1 beyond the ends: no two rows that a student tells
apart become equal, and a difference in the last bit stays one. The rule with the least loss in five folds is taken; of
equal ones the stiffest.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from factory.evaluation.calibration import fit_temperature
from factory.evaluation.metrics import SMALLEST_PROBABILITY
from factory.evaluation.result import Number, Part

LEAST_FOR_STEPS = 1_000
"""Rows from which isotonic regression is tried: below, it follows chance."""
ROWS_OF_BIN = 50
"""Rows are first put together in bins of so many, in order of their log-odds."""
N_FOLDS = 5
LEAST_GAP = 0.02
"""Between two points of the line, in log-odds."""

Odds = NDArray[np.float64]


class OddsRule(Part):
    """What log-odds become; exactly this is in `config.json` of a release."""

    kind: Literal["temperature", "platt", "isotonic"]
    slope: Number = 1.0
    shift: Number = 0.0
    before: tuple[Number, ...] = ()
    """Of the isotonic rule: log-odds of the student at the points of the line, ascending."""
    after: tuple[Number, ...] = ()
    """What they become."""

    def of(self, odds: Odds) -> Odds:
        """Return the calibrated log-odds of the last label, shape (n,)."""
        if not self.before:
            return np.asarray(self.slope * odds + self.shift)
        inside = np.interp(odds, self.before, self.after)
        return np.asarray(inside + np.minimum(odds - self.before[0], 0) + np.maximum(odds - self.before[-1], 0))

    def apply(self, probs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities, shape (n_rows, 2)."""
        return probs_of(self.of(odds_of(probs)))


def odds_of(probs: NDArray[np.float64]) -> Odds:
    """Return the log-odds of the last of two labels, shape (n_rows,)."""
    logs = np.log(np.maximum(probs, np.finfo(np.float64).tiny))
    return np.asarray(logs[:, 1] - logs[:, 0])


def probs_of(odds: Odds) -> NDArray[np.float64]:
    """Return the probabilities of both labels, shape (n_rows, 2)."""
    from scipy.special import expit

    return np.stack([expit(-odds), expit(odds)], axis=1)


def choose_rule(
    probs: NDArray[np.float64], gold: NDArray[np.int64], weights: NDArray[np.float64], *, seed: int
) -> tuple[OddsRule, float]:
    """Choose and fit a rule.

    Args:
        probs: By a student that did not see the rows, shape (n_rows, 2).
        gold: Column of the right label, shape (n_rows,).
        weights: Of the rows, shape (n_rows,).
        seed: Decides the folds.

    Returns:
        The rule, and its log loss on folds that it was not fitted to.
    """
    fits = [_temperature, _platt, *([_isotonic] if len(gold) >= LEAST_FOR_STEPS else [])]
    odds, positive = odds_of(probs), gold.astype(np.float64)
    folds = np.random.default_rng(seed).permutation(len(gold)) % N_FOLDS
    losses = []
    for fit in fits:
        total = 0.0
        for fold in np.unique(folds):
            seen, held = folds != fold, folds == fold
            if not seen.any():  # of a single row, there is nobody else to learn from
                seen = held
            found = probs_of(fit(odds[seen], positive[seen], weights[seen]).of(odds[held]))
            right = np.maximum(found[np.arange(held.sum()), gold[held]], SMALLEST_PROBABILITY)
            total -= float(weights[held] @ np.log(right))
        losses.append(total / float(weights.sum()))
    best = int(np.argmin(np.round(losses, 6)))
    return fits[best](odds, positive, weights), losses[best]


def _temperature(odds: Odds, positive: Odds, weights: Odds) -> OddsRule:
    temperature = fit_temperature(probs_of(odds), positive.astype(np.int64), weights)
    return OddsRule(kind="temperature", slope=1 / temperature)


def _platt(odds: Odds, positive: Odds, weights: Odds) -> OddsRule:
    """Fit slope and shift; where the rows cannot tell, or the slope would turn the order around, a temperature."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(positive)) < 2:
        return _temperature(odds, positive, weights)
    # The weak penalty only matters where rows of both labels do not overlap, and the slope would grow without end.
    model = LogisticRegression(C=1e3).fit(odds[:, None], positive, sample_weight=weights)
    slope = float(model.coef_[0, 0])
    if slope <= 0:
        return _temperature(odds, positive, weights)
    return OddsRule(kind="platt", slope=slope, shift=float(model.intercept_[0]))


def _isotonic(odds: Odds, positive: Odds, weights: Odds) -> OddsRule:
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(odds, kind="stable")
    starts = np.arange(0, len(order), ROWS_OF_BIN)
    mass = np.add.reduceat(weights[order], starts)
    middle = np.add.reduceat((weights * odds)[order], starts) / mass
    share = np.add.reduceat((weights * positive)[order], starts) / mass
    fitted = np.asarray(isotonic_regression(share, sample_weight=mass))
    steps, member = np.unique(fitted, return_inverse=True)
    of_step = np.bincount(member, weights=mass)
    before = np.bincount(member, weights=mass * middle) / of_step
    # A step without a row of one label has seen too few, not none: as if it had half a row of each more.
    after = np.clip(steps, 0.5 / (of_step + 1), 1 - 0.5 / (of_step + 1))
    log_odds = np.log(after / (1 - after))
    kept = [0]
    for at in range(1, len(before)):
        if before[at] - before[kept[-1]] >= LEAST_GAP and log_odds[at] > log_odds[kept[-1]]:
            kept.append(at)
    return OddsRule(kind="isotonic", before=tuple(before[kept].tolist()), after=tuple(log_odds[kept].tolist()))
