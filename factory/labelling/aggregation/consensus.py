"""What an aggregator returns: a distribution for each item, and how far each voter can be relied on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.labelling.votes import Votes
from factory.spec import Model


@dataclass(frozen=True)
class Consensus:
    """One answer out of many."""

    posterior: NDArray[np.float64]
    """Shape (n_items, n_labels), rows sum to 1; what the model believes without any vote where there is none."""
    weights: NDArray[np.float64]
    """Shape (n_voters,): 1, or the share of a vote that is left to a voter who repeats others."""


@dataclass(frozen=True)
class Aggregator:
    """A way to aggregate, with its parameters; all of them have defaults."""

    params: type[Model]
    run: Callable[[Any, Votes], Consensus]


def reliability(votes: Votes, consensus: Consensus) -> list[dict[str, Any]]:
    """Tell how often each voter is right, as far as the consensus knows.

    Args:
        votes: What was said.
        consensus: What became of it.

    Returns:
        For each voter: `voter`, `n_votes`, `accuracy` (the mean posterior of the labels it gave; null when it gave
        none) and `weight`.
    """
    found = []
    for column, voter in enumerate(votes.voters):
        items = np.flatnonzero(votes.is_label[:, column])
        right = consensus.posterior[items, votes.answers[items, column]]
        accuracy = round(float(right.mean()), 4) if len(items) else None
        weight = round(float(consensus.weights[column]), 4)
        found.append({"voter": voter, "n_votes": len(items), "accuracy": accuracy, "weight": weight})
    return found
