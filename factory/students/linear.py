"""The head that all text students share: multinomial logistic regression on soft labels.

Fitting to the teacher's distribution instead of its answer is distillation in the sense of Hinton et al.,
"Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from factory.students.folds import assign_folds
from factory.students.targets import Targets

Setting = TypeVar("Setting")

SMALLEST_PROB = 1e-3
"""Entries of a soft label below this are not worth a row of their own."""
ABSENT_LOGIT = -12.0
"""Logit of a label without any training row; logits of the others have mean 0, so its probability stays below 1e-5."""
MAX_CHOICE_ROWS = 2000
"""Rows used to choose a hyperparameter; more would change the choice little and cost minutes."""


@dataclass(frozen=True)
class LinearHead:
    """Weights and bias of a softmax layer, float32 as in the exported graph."""

    weights: NDArray[np.float32]
    """Shape (n_features, n_labels)."""
    bias: NDArray[np.float32]
    """Shape (n_labels,)."""

    def predict_proba(self, features: Any) -> NDArray[np.float64]:
        """Return probabilities for dense or sparse features, shape (n_rows, n_labels)."""
        return softmax(np.asarray(features @ self.weights.astype(np.float64)) + self.bias)

    def save(self, path: Path) -> None:
        """Write an npz file; numpy stamps its members with a fixed date, so equal heads give equal bytes."""
        np.savez(path, weights=self.weights, bias=self.bias)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(weights=arrays["weights"], bias=arrays["bias"])


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Turn logits into probabilities, row by row."""
    shifted = np.exp(np.asarray(logits, dtype=np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def fit_head(features: Any, targets: Targets, strength: float) -> LinearHead:
    """Fit a softmax layer with an L2 penalty.

    A row with a soft label counts as one row for each of its labels, weighted by their probabilities: the same loss as
    cross-entropy against the distribution.

    Args:
        features: Dense or CSR matrix, shape (n_rows, n_features).
        targets: Labels of the rows, at least two different ones.
        strength: Inverse of the penalty, above 0 (scikit-learn's C).

    Returns:
        The head; labels without rows get a tiny constant probability.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

    probs = targets.probs * (targets.probs >= SMALLEST_PROB) * targets.weights[:, None]
    rows, columns = np.nonzero(probs)
    model = LogisticRegression(C=strength, max_iter=5000)
    # The matrices are small: on a busy machine more threads wait for each other ten times as long as they work.
    with threadpool_limits(limits=1):
        model.fit(features[rows], columns, sample_weight=probs[rows, columns])
    # With two labels scikit-learn keeps the difference of their logits only; half to each side gives mean 0.
    is_binary = len(model.classes_) == 2
    coefficients = np.vstack([-model.coef_, model.coef_]) / 2 if is_binary else model.coef_
    intercepts = np.concatenate([-model.intercept_, model.intercept_]) / 2 if is_binary else model.intercept_
    weights = np.zeros((features.shape[1], targets.probs.shape[1]), dtype=np.float32)
    bias = np.full(targets.probs.shape[1], ABSENT_LOGIT, dtype=np.float32)
    weights[:, model.classes_] = (coefficients - coefficients.mean(axis=0)).T
    bias[model.classes_] = intercepts - intercepts.mean()
    return LinearHead(weights, bias)


def choose(
    settings: Sequence[Setting],
    fit: Callable[[Setting, NDArray[np.intp]], LinearHead],
    features: Any,
    targets: Targets,
    *,
    seed: int,
) -> Setting:
    """Choose the most cautious setting that is about as good as the best on held-out rows, in three folds.

    About as good: its weighted cross-entropy is at most one standard error above the smallest (Breiman et al.,
    "Classification and Regression Trees", 1984, section 3.4.3). Training rows come from a teacher, texts to answer do
    not: what fits the former best is not what does best on the latter.

    Args:
        settings: What to choose from, most cautious first; the first is taken when there are too few rows to tell.
        fit: Fits a head on the rows at the given positions.
        features: Features of all rows.
        targets: Labels of all rows.
        seed: Decides the folds and, above 2,000 rows, which of them are used.

    Returns:
        One of the settings.
    """
    counts = np.bincount(targets.columns)
    if len(settings) == 1 or counts[counts > 0].min() < 2:
        return settings[0]
    n_rows = len(targets.columns)
    sample = np.sort(np.random.default_rng(seed).permutation(n_rows)[:MAX_CHOICE_ROWS])
    folds = assign_folds(range(len(sample)), targets.columns[sample].tolist(), 3, seed=seed)

    def losses(setting: Setting) -> NDArray[np.float64]:
        held_out = np.zeros(len(sample))
        for fold in range(3):
            held = sample[folds == fold]
            probs = fit(setting, sample[folds != fold]).predict_proba(features[held])
            crossed = -(targets.probs[held] * np.log(np.clip(probs, 1e-12, None))).sum(axis=1)
            held_out[folds == fold] = crossed * targets.weights[held]
        return held_out

    found = [losses(setting) for setting in settings]
    best = min(found, key=lambda one: float(one.sum()))
    allowed = float(best.sum()) + float(best.std()) * len(sample) ** 0.5
    return next(setting for setting, one in zip(settings, found, strict=True) if one.sum() <= allowed)


def fit_chosen_head(features: Any, targets: Targets, strengths: Sequence[float], *, seed: int) -> LinearHead:
    """Fit a head with the strength that `choose` takes; see there."""

    def fit(strength: float, positions: NDArray[np.intp]) -> LinearHead:
        return fit_head(features[positions], targets[positions], strength)

    return fit_head(features, targets, choose(strengths, fit, features, targets, seed=seed))
