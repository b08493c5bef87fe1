"""A voter either knows the label or answers from habit, whatever the item.

Hovy, Berg-Kirkpatrick, Vaswani and Hovy, "Learning Whom to Trust with MACE", NAACL 2013, with their variational Bayes
and priors. Silence is no answer here: a rule that can only say one label is told from guessing by its agreement alone.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.labelling.aggregation.consensus import Consensus
from factory.labelling.votes import Votes
from factory.spec import Model

KNOWS_PRIOR = 0.5
"""Beta prior of knowing, on both sides."""
HABIT_PRIOR = 10.0
"""Dirichlet prior of the habit."""


class MaceParams(Model):
    """How long to look for the best explanation."""

    restarts: Annotated[int, Field(ge=1, le=1000)] = 10
    """Random beginnings; the one that explains the votes best wins."""
    iterations: Annotated[int, Field(ge=1, le=10_000)] = 50
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class _Ballots:
    """The votes as a list: item, voter and label of each."""

    items: NDArray[np.int64]
    voters: NDArray[np.int64]
    labels: NDArray[np.int64]
    shape: tuple[int, int, int]
    """Items, voters and labels there are."""


@dataclass(frozen=True)
class _Explained:
    posterior: NDArray[np.float64]
    log_likelihood: float
    knew: NDArray[np.float64]
    """For each vote, the probability that the voter knew."""


def solve_mace(params: MaceParams, votes: Votes) -> Consensus:
    """Estimate how often each voter knows and the label of each item together.

    Args:
        params: How long to look.
        votes: What was said.

    Returns:
        Posteriors under equally frequent labels.
    """
    items, voters = np.nonzero(votes.is_label)
    shape = (*votes.answers.shape, len(votes.labels))
    ballots = _Ballots(items, voters, votes.answers[items, voters], shape)
    rng = np.random.default_rng(params.seed)
    runs = (_explain_from(rng, ballots, params.iterations) for _ in range(params.restarts))
    best = max(runs, key=lambda run: run.log_likelihood)
    return Consensus(best.posterior, np.ones(len(votes.voters)))


def _explain_from(rng: np.random.Generator, ballots: _Ballots, iterations: int) -> _Explained:
    """Run variational EM from one random beginning."""
    _, n_voters, n_labels = ballots.shape
    knows = rng.uniform(1, 1.5, size=(n_voters, 2))
    habit = rng.uniform(1, 1.5, size=(n_voters, n_labels))
    found = _explain(ballots, knows / knows.sum(axis=1, keepdims=True), habit / habit.sum(axis=1, keepdims=True))
    for _ in range(iterations):
        n_votes = np.bincount(ballots.voters, minlength=n_voters)
        n_known = np.bincount(ballots.voters, found.knew, minlength=n_voters)
        n_habit = np.zeros((n_voters, n_labels))
        np.add.at(n_habit, (ballots.voters, ballots.labels), 1 - found.knew)
        knows = _expected_log(np.stack([n_known, n_votes - n_known], axis=1) + KNOWS_PRIOR)
        found = _explain(ballots, knows, _expected_log(n_habit + HABIT_PRIOR))
    return found


def _explain(ballots: _Ballots, knows: NDArray[np.float64], habit: NDArray[np.float64]) -> _Explained:
    """Compute the posterior of each item, shape (n_items, n_labels), and who knew."""
    n_items, _, n_labels = ballots.shape
    at = np.arange(len(ballots.items))
    guessed = knows[ballots.voters, 1] * habit[ballots.voters, ballots.labels]
    likelihood = np.repeat(guessed[:, None], n_labels, axis=1)
    likelihood[at, ballots.labels] += knows[ballots.voters, 0]
    logits = np.zeros((n_items, n_labels))
    np.add.at(logits, ballots.items, np.log(likelihood))
    top = logits.max(axis=1, keepdims=True)
    posterior = np.exp(logits - top)
    sums = posterior.sum(axis=1, keepdims=True)
    posterior /= sums
    right = likelihood[at, ballots.labels]
    knew = posterior[ballots.items, ballots.labels] * knows[ballots.voters, 0] / right
    return _Explained(posterior, float((np.log(sums) + top).sum()), knew)


def _expected_log(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exp(E[log p]) under Dirichlet rows, which variational Bayes puts in place of the mean."""
    from scipy.special import digamma

    return np.asarray(np.exp(digamma(counts) - digamma(counts.sum(axis=1, keepdims=True))))
