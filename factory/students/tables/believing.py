"""The most probable weights of an additive model, where something was believed of them before there were rows.

A Gaussian prior whose mean is not 0: the weight of all the teacher's curves together is expected to be `trust`. Its
spread says how many rows it takes to believe otherwise, so how far the teacher is trusted is learned with the rest.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.students.folds import assign_folds
from factory.students.linear import ABSENT_LOGIT, MAX_CHOICE_ROWS, softmax
from factory.students.tables.targets import Answers

Array = NDArray[np.float64]
BIAS_PENALTY = 1e-4
MOST_STEPS = 2_000
N_FOLDS = 5
MOST_GAIN = 30.0
"""In log-likelihood; beyond it a share is 0 or 1."""
NOISE = 0.5
"""Variance of a number around what is predicted, where that of the number is 1."""
LOGIT_SPREAD = float(np.pi / np.sqrt(3))
"""Standard deviation of the logistic distribution: weights of logits are so much larger than those of a number of
spread 1 that follows the columns as closely."""


@dataclass(frozen=True)
class Expected:
    """What is believed of the weights of logits before rows are seen."""

    trust: float
    """Mean of the weight that all curves share."""
    doubt: float
    """Its standard deviation."""
    column_doubt: float
    """Standard deviation of how far the weight of one curve is from it."""
    strength: float
    """Variance of the weights of columns, whose mean is 0."""

    @property
    def of_a_number(self) -> "Expected":
        """What is believed where the weights are not of logits."""
        return Expected(
            self.trust / LOGIT_SPREAD,
            self.doubt / LOGIT_SPREAD,
            self.column_doubt / LOGIT_SPREAD,
            self.strength / LOGIT_SPREAD**2,
        )


@dataclass(frozen=True)
class Weights:
    """What was found."""

    curves: Array
    """Of each curve, shape (n_curves,)."""
    own: Array
    """Of the columns themselves, shape (n_features, n_targets)."""
    bias: Array
    """Shape (n_targets,)."""

    def scores(self, curves: Array, own: Array) -> Array:
        """Return the sums for some rows, shape (n, n_targets)."""
        return np.asarray(np.einsum("ijk,j->ik", curves, self.curves) + own @ self.own + self.bias)

    def mixed(self, other: "Weights", share: float) -> "Weights":
        """Return the weights whose sums are these by a share, and another's by the rest."""
        kept = 1 - share
        return Weights(
            share * self.curves + kept * other.curves,
            share * self.own + kept * other.own,
            share * self.bias + kept * other.bias,
        )


def believed_as_far_as_rows_say(
    curves: Array, own: Array, answers: Answers, n_labels: int, expected: Expected, *, seed: int
) -> Weights:
    """Mix the weights found with the curves and those found without, by how well each foretells rows it has not seen.

    The share is that of pseudo-Bayesian model averaging (Yao et al., "Using Stacking to Average Bayesian Predictive
    Distributions", Bayesian Analysis 2018): one half where few rows cannot tell, 0 or 1 where many can. Sums of sums
    are sums, so the result is as additive as both.

    Args:
        curves: See `most_probable`.
        own: See there.
        answers: See there.
        n_labels: See there.
        expected: See there.
        seed: Decides the folds.

    Returns:
        The weights.
    """
    with_curves = most_probable(curves, own, answers, n_labels, expected)
    if not curves.shape[1]:
        return with_curves
    without = most_probable(curves[:, :0], own, answers, n_labels, expected)
    without = Weights(np.zeros(curves.shape[1]), without.own, without.bias)
    share = _share_of_first(curves, own, answers, n_labels, expected, seed)
    return with_curves.mixed(without, share)


def _share_of_first(curves: Array, own: Array, answers: Answers, n_labels: int, expected: Expected, seed: int) -> float:
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(answers.values))[:MAX_CHOICE_ROWS])
    levels = answers.values[drawn].astype(np.int64).tolist() if n_labels else [0] * len(drawn)
    # A row with a soft label comes several times: all of it is held out at once.
    folds = assign_folds(answers.rows[drawn].tolist(), levels, N_FOLDS, seed=seed)
    gain = 0.0
    for fold in np.unique(folds).tolist():
        seen, held = drawn[folds != fold], drawn[folds == fold]
        told, asked = _some(answers, seen), _some(answers, held)
        if len(told.values) < 2 or told.values.min() == told.values.max():
            continue
        scale = float(np.std(told.values)) if not n_labels else 1.0
        for sign, some in ((1.0, curves), (-1.0, curves[:, :0])):
            found = most_probable(some[seen], own[seen], told, n_labels, expected).scores(some[held], own[held])
            loss = (
                _labels(asked, np.ones(n_labels, dtype=bool))
                if n_labels
                else _number(asked.values / scale, asked.weights)
            )
            gain -= sign * loss(found / scale)[0]
    return float(1 / (1 + np.exp(-np.clip(gain, -MOST_GAIN, MOST_GAIN))))


def _some(answers: Answers, positions: NDArray[np.intp]) -> Answers:
    return Answers(answers.rows[positions], answers.values[positions], answers.weights[positions])


def most_probable(curves: Array, own: Array, answers: Answers, n_labels: int, expected: Expected) -> Weights:
    """Find the weights with the highest posterior density.

    Args:
        curves: Of each training row and curve what it gives to each target, shape (n, n_curves, n_targets).
        own: Features of the columns, shape (n, n_features).
        answers: What is to be learned, n of them; their `rows` play no part.
        n_labels: Targets; 0 for one number.
        expected: What is believed of the weights.

    Returns:
        The weights; those of a number are in its unit. A label without rows gets a tiny constant probability.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

    n_curves, n_targets = curves.shape[1:]
    expected = expected if n_labels else expected.of_a_number
    middle, scale, wanted = 0.0, 1.0, answers.values
    present = np.ones(n_targets, dtype=bool)
    if n_labels:
        # Without this, a label that no row has would pull its weights for ever.
        present = np.bincount(answers.values.astype(np.intp), minlength=n_labels) > 0
    else:
        middle = float(np.average(answers.values, weights=answers.weights))
        scale = float(np.sqrt(np.average((answers.values - middle) ** 2, weights=answers.weights)))
        wanted = (answers.values - middle) / scale
    loss = _labels(answers, present) if n_labels else _number(wanted, answers.weights)
    # Two logits share what one difference would carry, so each has half the weight and twice the penalty.
    penalty = (2.0 if n_labels else 1.0) / expected.strength
    n_shared = 1 + n_curves
    shape = (own.shape[1], n_targets)

    def objective(found: Array) -> tuple[float, Array]:
        shared, each = found[0], found[1:n_shared]
        weights, bias = found[n_shared:-n_targets].reshape(shape), found[-n_targets:]
        value, slope = loss(np.einsum("ijk,j->ik", curves, shared + each) + own @ weights + bias)
        per_curve = np.einsum("ijk,ik->j", curves, slope)
        off = (shared - expected.trust) / expected.doubt
        value += 0.5 * (off**2 + float(np.square(each).sum()) / expected.column_doubt**2)
        value += 0.5 * (penalty * float(np.square(weights).sum()) + BIAS_PENALTY * float(np.square(bias).sum()))
        gradient = [
            [per_curve.sum() + off / expected.doubt],
            per_curve + each / expected.column_doubt**2,
            (own.T @ slope + penalty * weights).ravel(),
            slope.sum(axis=0) + BIAS_PENALTY * bias,
        ]
        return value, np.concatenate(gradient)

    start = np.zeros(n_shared + own.shape[1] * n_targets + n_targets)
    start[0] = expected.trust
    with threadpool_limits(limits=1):  # the matrices are small: see `fit_head`
        found: Any = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS})
    bias = found.x[-n_targets:] * scale + middle
    bias[~present] = ABSENT_LOGIT
    return Weights(
        (found.x[0] + found.x[1:n_shared]) * scale, found.x[n_shared:-n_targets].reshape(shape) * scale, bias
    )


def _labels(answers: Answers, present: NDArray[np.bool_]) -> Any:
    """Return cross-entropy and its slope as a function of the logits, over the labels that some row has."""
    columns, rows = answers.values.astype(np.intp), np.arange(len(answers.values))

    def loss(logits: Array) -> tuple[float, Array]:
        probs = softmax(np.where(present, logits, -np.inf))
        slope = probs * answers.weights[:, None]
        slope[rows, columns] -= answers.weights
        told = np.maximum(probs[rows, columns], np.finfo(np.float64).tiny)
        return float(-(np.log(told) * answers.weights).sum()), slope

    return loss


def _number(wanted: Array, weights: Array) -> Any:
    """Return half the squared error over its variance, and its slope."""

    def loss(found: Array) -> tuple[float, Array]:
        missed = found[:, 0] - wanted
        return float(0.5 * (weights * missed**2).sum() / NOISE), (weights * missed / NOISE)[:, None]

    return loss
