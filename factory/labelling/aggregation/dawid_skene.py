"""Every voter has its own habits: which label it gives, or that it stays silent, for items of each true label.

Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", Applied Statistics 28
(1979); with pseudo-counts as in Kim and Ghahramani, "Bayesian Classifier Combination", AISTATS 2012, so that a voter
with three votes is not believed to be never wrong.

Most rules can only say one label, and all they know is when they say it: silence is an outcome that habits are learned
from. It is no evidence about an item, though, for silences go together: that ten rules did not fire says once that the
text is short. Nor do such rules tell how frequent labels are, so that is learned where others spoke. Rules alone are
still better served by MACE (docs/benchmarks-labelling.md), and `factory check` says so.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.labelling.aggregation.consensus import Consensus
from factory.labelling.aggregation.majority import vote_shares
from factory.labelling.votes import Votes
from factory.spec import Model

MOST_ITERATIONS = 200
TOLERANCE = 1e-6
"""EM ends when no posterior moves by more."""


class DawidSkeneParams(Model):
    """What is believed of voters before they have voted."""

    trust: Annotated[float, Field(gt=0)] = 1.0
    """Votes of each voter for each label that are taken to be right beforehand."""
    shrinkage: Annotated[float, Field(gt=0)] = 1.0
    """Votes of each voter for each label that are taken to depend on the voter's taste alone."""
    soft: bool = False
    """Count a voter's distribution, where there is one, in place of its label."""


@dataclass(frozen=True)
class Habits:
    """What EM found."""

    posterior: NDArray[np.float64]
    """Shape (n_items, n_labels)."""
    confusion: NDArray[np.float64]
    """Shape (n_voters, n_labels, n_labels + 1): what a voter does when a label is true; rows sum to 1."""


def solve_dawid_skene(params: DawidSkeneParams, votes: Votes) -> Consensus:
    """Estimate the habits of all voters and the label of each item together, from the majority vote on.

    Args:
        params: What is believed of voters beforehand.
        votes: What was said.

    Returns:
        Posteriors; three voters at least are needed to tell who is wrong.
    """
    weights = np.ones(len(votes.voters))
    outcomes = votes.outcomes(soft=params.soft)
    return Consensus(learn_habits(params, outcomes, weights).posterior, weights)


def learn_habits(
    params: DawidSkeneParams,
    outcomes: NDArray[np.float64],
    weights: NDArray[np.float64],
    start: NDArray[np.float64] | None = None,
) -> Habits:
    """Run EM.

    Args:
        params: What is believed of voters beforehand.
        outcomes: Shape (n_items, n_voters, n_labels + 1), as `Votes.outcomes` gives it.
        weights: Shape (n_voters,): the power to which a voter's likelihood is raised.
        start: Posteriors to begin with, shape (n_items, n_labels); default: the majority vote, by weight.

    Returns:
        Posteriors and the habits they follow from.
    """
    n_items, n_voters, n_outcomes = outcomes.shape
    n_labels = n_outcomes - 1
    shape = (n_items, n_voters * n_outcomes)
    flat = outcomes.reshape(shape)
    spoken = outcomes * (np.arange(n_outcomes) < n_labels)
    can_choose = (spoken.sum(axis=0) > 0).sum(axis=1) > 1
    tells_frequency = spoken[:, can_choose].sum(axis=(1, 2)) > 0
    taste = outcomes.sum(axis=0) + 1 / n_outcomes
    taste /= taste.sum(axis=1, keepdims=True)
    believed = params.shrinkage * taste[:, None, :] + params.trust * np.eye(n_labels, n_outcomes)
    if start is None:
        start = vote_shares(np.einsum("ijk,j->ik", spoken[:, :, :n_labels], weights))
    posterior = start
    confusion = believed
    for _ in range(MOST_ITERATIONS):
        counts = (posterior.T @ flat).reshape(n_labels, n_voters, n_outcomes).transpose(1, 0, 2) + believed
        confusion = counts / counts.sum(axis=2, keepdims=True)
        frequency = posterior[tells_frequency].sum(axis=0) + 1
        evidence = (weights[:, None, None] * np.log(confusion)).transpose(0, 2, 1).reshape(-1, n_labels)
        before, posterior = posterior, _softmax(np.log(frequency) + spoken.reshape(shape) @ evidence)
        if n_items == 0 or np.abs(posterior - before).max() < TOLERANCE:
            break
    return Habits(posterior, confusion)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
