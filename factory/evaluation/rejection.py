"""From which score on a text is taken to belong to one of the labels."""

import math

import numpy as np
from numpy.typing import NDArray


def rejection_threshold(scores: NDArray[np.float64], rate: float) -> float:
    """Choose a threshold under which a text like these falls with probability `rate` at most.

    Split conformal: of n + 1 exchangeable scores each is equally likely to be among the lowest.

    Args:
        scores: Of rows that belong to the labels and were not trained on; the higher, the more familiar.
        rate: False rejections that are accepted, 0 to 1.

    Returns:
        The score to refuse below; minus infinity where there are too few rows to refuse any.

    Raises:
        ValueError: A score is not a number.
    """
    if np.isnan(scores).any():
        raise ValueError("a score is not a number")
    rank = math.floor(rate * (len(scores) + 1))
    return float(np.sort(scores)[rank - 1]) if rank else -math.inf
