"""How sure an LLM is of its own answer, asked whether it is right, as a probability that means what it says.

Madaan, Aggarwal et al., "AutoMix: Automatically Mixing Language Models", NeurIPS 2024, arXiv:2310.12963: a model
verifies its own answer with a short prompt, and a noisy verification is of use once it is calibrated. Here by Platt's
logistic curve (Platt, "Probabilistic Outputs for Support Vector Machines", 1999), because LLMs say yes too readily, and
a temperature alone mends no leaning.
"""

import math

import numpy as np
from numpy.typing import NDArray

from factory.evaluation.policies import Rights
from factory.evaluation.result import Number, Part

SMALLEST = 1e-4
"""A probability of yes is kept so far from 0 and 1."""
UNVERIFIED = math.nan
"""In place of a probability: the teacher said nothing usable about its answer. It is never sure enough."""
NOTHING_SAID = math.inf
"""The teacher gave no answer, so that there is nothing to verify: a student answers in its place whatever it says."""


class Verification(Part):
    """The curve from the probability of yes to that of being right."""

    slope: Number
    intercept: Number

    def confidence(self, yes: float | None) -> float:
        """Return the probability that an answer is right.

        Args:
            yes: The probability of yes, 0 to 1; None or not a number where the verification failed.

        Returns:
            0 to 1; 0 where it failed.
        """
        if yes is None or math.isnan(yes):
            return 0.0
        clipped = min(max(yes, SMALLEST), 1 - SMALLEST)
        return 1 / (1 + math.exp(-(self.slope * math.log(clipped / (1 - clipped)) + self.intercept)))


def fit_verification(yes: NDArray[np.float64], is_right: Rights) -> Verification:
    """Learn how often an answer is right, from what was said of it.

    Args:
        yes: Probabilities of yes, `UNVERIFIED` or `NOTHING_SAID`, shape (n_rows,); only probabilities count.
        is_right: Whether the answer was right, shape (n_rows,).

    Returns:
        The curve; a flat one where all answers were right, or none, or nothing was verified.
    """
    from sklearn.linear_model import LogisticRegression

    known = np.isfinite(yes)
    right = is_right[known]
    if right.all() or not right.any():  # also of no rows; a row of either kind is added, so that nothing is certain
        return Verification(slope=0.0, intercept=math.log((right.sum() + 1) / ((~right).sum() + 1)))
    clipped = np.clip(yes[known], SMALLEST, 1 - SMALLEST)
    model = LogisticRegression(C=1.0).fit(np.log(clipped / (1 - clipped))[:, None], right)
    return Verification(slope=float(model.coef_[0, 0]), intercept=float(model.intercept_[0]))


def confidences(verification: Verification, yes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of being right for each row, 1 where there was nothing to verify; shape (n_rows,)."""
    return np.array([1.0 if math.isinf(one) else verification.confidence(one) for one in yes.tolist()])
