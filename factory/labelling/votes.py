"""Who said what about which item: the votes that are aggregated into one answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ABSTAIN = -1
"""The voter saw the item and gave no label, which says something: a rule that is silent is not a rule that fires."""
NOT_ASKED = -2
"""The voter never saw the item, as in a crowd, which says nothing."""


@dataclass(frozen=True)
class Votes:
    """Answers of all voters to all items."""

    labels: tuple[str, ...]
    """Column order of every distribution: spec order."""
    voters: tuple[str, ...]
    """Names, all different."""
    answers: NDArray[np.int64]
    """Shape (n_items, n_voters): the column of a label, `ABSTAIN` or `NOT_ASKED`."""
    probs: NDArray[np.float64] | None = None
    """Shape (n_items, n_voters, n_labels): rows sum to 1, or to 0 where the voter gave no distribution."""
    sources: tuple[str, ...] = ()
    """Who speaks through each voter; several prompts of one teacher have one source. Empty: each for itself."""

    def __post_init__(self) -> None:
        if self.answers.ndim != 2 or self.answers.shape[1] != len(self.voters):
            raise ValueError(f"expected answers of {len(self.voters)} voters, got shape {self.answers.shape}")
        if self.sources and len(self.sources) != len(self.voters):
            raise ValueError(f"expected a source for each of {len(self.voters)} voters, got {len(self.sources)}")
        if len(set(self.voters)) < len(self.voters):
            raise ValueError(f"expected different voters, got {', '.join(self.voters)}")
        if self.answers.size and not (NOT_ASKED <= self.answers.min() and self.answers.max() < len(self.labels)):
            raise ValueError(f"expected answers from {NOT_ASKED} to {len(self.labels) - 1}, got others")
        if self.probs is not None and self.probs.shape != (*self.answers.shape, len(self.labels)):
            raise ValueError(f"expected distributions over {len(self.labels)} labels, got shape {self.probs.shape}")

    @property
    def shares(self) -> NDArray[np.float64]:
        """What is left of each voter's vote when each source has one; shape (n_voters,)."""
        sources = self.sources or self.voters
        return np.array([1 / sources.count(source) for source in sources])

    @property
    def is_label(self) -> NDArray[np.bool_]:
        """Where a voter gave a label; shape (n_items, n_voters)."""
        return self.answers >= 0

    def outcomes(self, *, soft: bool = False) -> NDArray[np.float64]:
        """Spread each answer over what a voter can do: give one of the labels, or stay silent when asked.

        Args:
            soft: Count a voter's distribution, where there is one, in place of its label.

        Returns:
            Shape (n_items, n_voters, n_labels + 1), the last column silence; sums are 1, and 0 where nobody asked.
        """
        n_labels = len(self.labels)
        mass = np.zeros((*self.answers.shape, n_labels + 1))
        asked = self.answers != NOT_ASKED
        items, voters = np.nonzero(asked)
        mass[items, voters, self.answers[asked]] = 1.0  # ABSTAIN is -1, the last column
        if soft and self.probs is not None:
            spread = self.is_label & (self.probs.sum(axis=2) > 0)
            mass[spread, :n_labels] = self.probs[spread]
        return mass

    def said(self, item: int) -> dict[str, str]:
        """Return the labels that one item was given, by voter."""
        given = zip(self.voters, self.answers[item].tolist(), strict=True)
        return {voter: self.labels[answer] for voter, answer in given if answer >= 0}


def side_by_side(parts: Sequence[Votes]) -> Votes:
    """Put the voters of several parts beside each other; all parts have the same items and labels."""
    first = parts[0]
    probs = None
    if any(part.probs is not None for part in parts):
        shape = (len(first.answers), -1, len(first.labels))
        none = [np.zeros((*part.answers.shape, len(first.labels))) for part in parts]
        given = [blank if part.probs is None else part.probs for part, blank in zip(parts, none, strict=True)]
        probs = np.concatenate(given, axis=1).reshape(shape)
    voters = tuple(voter for part in parts for voter in part.voters)
    sources = tuple(source for part in parts for source in part.sources or part.voters)
    return Votes(first.labels, voters, np.concatenate([part.answers for part in parts], axis=1), probs, sources)
