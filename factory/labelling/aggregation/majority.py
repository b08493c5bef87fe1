"""Every vote counts the same."""

import numpy as np
from numpy.typing import NDArray

from factory.labelling.aggregation.consensus import Consensus
from factory.labelling.votes import Votes
from factory.spec import Model


class MajorityVoteParams(Model):
    """How votes are counted."""

    soft: bool = False
    """Count a voter's distribution, where there is one, in place of its label."""


def count_votes(params: MajorityVoteParams, votes: Votes) -> Consensus:
    """Return each label's share of the votes for an item; silence is no vote, and without votes shares are equal."""
    labels = votes.outcomes(soft=params.soft)[:, :, : len(votes.labels)]
    return Consensus(vote_shares(labels.sum(axis=1)), np.ones(len(votes.voters)))


def vote_shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide counts, shape (n_items, n_labels), by their sums; equal parts where there is nothing to count."""
    sums = counts.sum(axis=1, keepdims=True)
    equal = np.full_like(counts, 1 / counts.shape[1])
    return np.asarray(np.divide(counts, sums, out=equal, where=sums > 0))
