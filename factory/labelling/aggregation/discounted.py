"""Dawid-Skene in which voters who err together share a vote.

Five prompts of one LLM are wrong about the same items. Dawid-Skene takes each for a witness of its own, and five that
repeat each other outvote everybody. Here a voter's likelihood is raised to the power 1 / (1 + sum of its correlations
with the others): five copies count as one, independent voters in full. Sources that copy are found and discounted in
turn with the truth, as in Dong, Berti-Equille and Srivastava, "Integrating Conflicting Data: The Role of Source
Dependence", VLDB 2009; the weight is Kish's effective sample size ("Survey Sampling", 1965, section 5.4).
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.labelling.aggregation.consensus import Consensus
from factory.labelling.aggregation.dawid_skene import DawidSkeneParams, Habits, learn_habits
from factory.labelling.votes import Votes

FEWEST_SHARED = 5
"""Items two voters need in common before anything is said about them."""


class DiscountedParams(DawidSkeneParams):
    """What is believed beforehand, and how long weights and truth are looked for in turn."""

    rounds: Annotated[int, Field(ge=1, le=100)] = 5
    chance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Probability that any two of independent voters are taken for dependent."""


def solve_discounted(params: DiscountedParams, votes: Votes) -> Consensus:
    """Find who repeats whom and the label of each item in turn.

    The first weights are those of plain agreement, as if nobody agreed for being right. Otherwise near copies in the
    majority would define the truth, and what they share would not be seen to be an error.

    Args:
        params: What is believed beforehand.
        votes: What was said.

    Returns:
        Posteriors, and each voter's weight.
    """
    outcomes = votes.outcomes(soft=params.soft)
    weights = _weights(agreement(outcomes))
    habits = learn_habits(params, outcomes, weights)
    for _ in range(params.rounds):
        weights = _weights(shared_errors(outcomes, habits, chance=params.chance))
        habits = learn_habits(params, outcomes, weights, start=habits.posterior)
    return Consensus(habits.posterior, weights)


def agreement(outcomes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure how much more two voters agree than by chance: Cohen's kappa on the items both were asked about.

    Args:
        outcomes: Shape (n_items, n_voters, n_labels + 1).

    Returns:
        Shape (n_voters, n_voters), at most 1; 1 for voters who always say the same one thing, 0 without common items.
    """
    columns = outcomes.transpose(1, 2, 0)  # (n_voters, n_outcomes, n_items)
    asked = outcomes.sum(axis=2)
    shared = asked.T @ asked
    agreed = sum(columns[:, outcome] @ columns[:, outcome].T for outcome in range(columns.shape[1]))
    # What each says where the other was asked too.
    tastes = np.stack([columns[:, outcome] @ asked for outcome in range(columns.shape[1])])
    expected = (tastes * tastes.transpose(0, 2, 1)).sum(axis=0)
    n = np.maximum(shared, 1)
    observed, by_chance = agreed / n, expected / n**2
    kappa = np.divide(observed - by_chance, 1 - by_chance, out=np.ones_like(n), where=by_chance < 1 - 1e-9)
    return np.asarray(np.where(shared > 0, kappa, 0.0))


def shared_errors(outcomes: NDArray[np.float64], habits: Habits, *, chance: float) -> NDArray[np.float64]:
    """Measure how far two voters' deviations from their habits go together, given the truth.

    A deviation is what a voter did, one column an outcome, minus what its habits expect under a true label. Its
    expected product with another voter's, under the posterior, is zero if they are independent.

    Args:
        outcomes: Shape (n_items, n_voters, n_labels + 1).
        habits: Posteriors and confusion matrices.
        chance: Probability that any pair of independent voters gets more than 0.

    Returns:
        Shape (n_voters, n_voters), from 0 to 1: the lower confidence bound of the correlation (Fisher's z, Bonferroni
        over the pairs), because in a crowd most pairs share few items.
    """
    from scipy.stats import norm

    n_voters = outcomes.shape[1]
    asked = outcomes.sum(axis=2)
    together = np.zeros((n_voters, n_voters))
    spread = np.zeros((n_voters, n_voters))
    for label in range(habits.posterior.shape[1]):
        likely = habits.posterior[:, label]
        deviation = (outcomes - habits.confusion[None, :, label]) * asked[:, :, None]
        weighed = deviation * np.sqrt(likely)[:, None, None]
        columns = weighed.transpose(1, 0, 2).reshape(n_voters, -1)
        together += columns @ columns.T
        spread += (weighed**2).sum(axis=2).T @ asked  # of the first voter, where the second was asked too
    size = np.sqrt(spread * spread.T)
    correlation = np.divide(together, size, out=np.zeros_like(together), where=size > 1e-12)
    n_pairs = max(1, n_voters * (n_voters - 1) // 2)
    margin = norm.isf(chance / n_pairs) / np.sqrt(np.maximum(asked.T @ asked - 3, 1))
    bound = np.tanh(np.arctanh(np.clip(correlation, -0.9999, 0.9999)) - margin)
    return np.asarray(np.where(asked.T @ asked >= FEWEST_SHARED, np.clip(bound, 0, 1), 0.0))


def _weights(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    others = np.clip(correlation, 0, 1)
    np.fill_diagonal(others, 0)
    return np.asarray(1 / (1 + others.sum(axis=1)))
