"""A router: a logistic regression on sentence vectors that tells, from the text alone, whether the small tier will do.

As RouteLLM (Ong et al., arXiv:2406.18665) and OrchestraLLM (Lee et al., arXiv:2311.09758) route between LLMs: it learns
which tier was right, and asks no tier before it decides. A cascade has seen the small tier's own probability; what that
is worth is the difference between the areas under the two cost-quality curves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from factory.evaluation.metrics import Estimate, with_interval
from factory.evaluation.policies import Rights

STRENGTH = 1.0
"""Inverse L2 penalty."""
N_RESAMPLES = 1000


@dataclass(frozen=True)
class Router:
    """Scores a text by how likely the small tier is right on it."""

    weights: NDArray[np.float64]
    bias: float

    def score(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability that the small tier is right, shape (n_texts,)."""
        scores: NDArray[np.float64] = 1 / (1 + np.exp(-(vectors @ self.weights + self.bias)))
        return scores


def fit_router(vectors: NDArray[np.float32], is_right: Rights) -> Router:
    """Learn on which texts the small tier is right.

    Args:
        vectors: Unit vectors of rows the tier was not fitted on, shape (n_rows, n_dimensions).
        is_right: Whether its answer was right, shape (n_rows,).

    Returns:
        The router; one that gives every text the same score where the tier was always right, or never.
    """
    from sklearn.linear_model import LogisticRegression

    if is_right.all() or not is_right.any():
        return Router(np.zeros(vectors.shape[1]), float(np.log((is_right.sum() + 1) / ((~is_right).sum() + 1))))
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit(vectors, is_right)
    return Router(model.coef_[0].astype(np.float64), float(model.intercept_[0]))


def area(score: NDArray[np.float64], small: Rights, large: Rights) -> float:
    """Return the mean accuracy over all shares of texts that the large tier may answer, those of low score first.

    Ties are broken by the order of the rows.
    """
    return float(_areas(score, small, large, np.ones((1, len(score))))[0])


def area_difference(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], small: Rights, large: Rights, *, seed: int
) -> Estimate:
    """Compare two scores by the area under their cost-quality curves.

    Args:
        ours: A score for each row; the lower, the sooner the large tier answers it.
        theirs: Another score.
        small: Where the small tier is right.
        large: Where the large tier is right.
        seed: Same seed, same interval.

    Returns:
        Ours minus theirs with a paired 95% bootstrap interval over rows.
    """
    n_rows = len(ours)
    drawn = np.random.default_rng(seed).multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=N_RESAMPLES)
    weights = np.vstack([np.ones((1, n_rows)), drawn])
    gain = _areas(ours, small, large, weights) - _areas(theirs, small, large, weights)
    return with_interval(float(gain[0]), gain[1:])


def _areas(
    score: NDArray[np.float64], small: Rights, large: Rights, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return an area for each line of row weights, shape (n_lines,)."""
    order = np.argsort(score, kind="stable")
    weight = weights[:, order]
    total = weight.sum(axis=1, keepdims=True)
    gain = weight * (large[order].astype(float) - small[order].astype(float))
    # A row handed over at a share s of the texts counts for all larger shares: 1 - s, its own half included.
    left = 1 - (np.cumsum(weight, axis=1) - weight / 2) / total
    base = (weight * small[order]).sum(axis=1) / total[:, 0]
    areas: NDArray[np.float64] = base + (gain * left).sum(axis=1) / total[:, 0]
    return areas
