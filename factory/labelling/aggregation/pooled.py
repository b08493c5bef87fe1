"""The distributions of all voters multiplied: a label must be plausible to everybody.

The logarithmic opinion pool of Genest and Zidek, "Combining Probability Distributions: A Critique and an Annotated
Bibliography", Statistical Science 1(1), 1986, section 4. It learns nothing from the votes, so two voters are enough,
and it takes more than their labels from them: of a teacher that wavers between two labels and a description that
excludes one, the other is left. docs/log.md says what that is worth beside the teacher alone.

Multiplying takes every opinion for evidence of its own. Several prompts of one teacher are not: they know the same and
err together, and three that give a label 0.8 would make it 0.98. So the logarithms of one source are averaged first:
it has one say, however often it is asked.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from factory.labelling.aggregation.consensus import Consensus
from factory.labelling.votes import Votes
from factory.spec import Model

SMALLEST_PROB = 1e-6
"""No voter can exclude a label for good."""


class PooledParams(Model):
    """How far bare labels are believed."""

    trust: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Probability of the label that a voter without a distribution gives, or of those in a candidate set, together; the
    other labels share the rest."""


def pool_opinions(params: PooledParams, votes: Votes) -> Consensus:
    """Multiply what all voters think of an item; silence changes nothing, and without votes all labels are equal."""
    n_labels = len(votes.labels)
    probs = votes.outcomes(soft=True)[:, :, :n_labels]
    excluded = votes.is_label[:, :, None] & (probs == 0)
    n_excluded = excluded.sum(axis=2, keepdims=True)
    rest = (1 - params.trust) / np.maximum(n_excluded, 1)
    probs = np.where(excluded, rest, np.where(n_excluded > 0, probs * params.trust, probs))
    sources = np.array(votes.sources or votes.voters)
    n_heard = votes.is_label.astype(np.int64) @ (sources[:, None] == sources).astype(np.int64)
    weights = votes.is_label / np.maximum(n_heard, 1)
    logs = (weights[:, :, None] * np.log(np.maximum(probs, SMALLEST_PROB))).sum(axis=1)
    posterior = np.exp(logs - logs.max(axis=1, keepdims=True, initial=-np.inf))
    return Consensus(posterior / posterior.sum(axis=1, keepdims=True), votes.shares)
