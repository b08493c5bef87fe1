"""Rows that a person may look at, and in which order that helps most.

Vote entropy: Dagan and Engelson, "Committee-based sampling for training probabilistic classifiers", ICML 1995. Margin:
Scheffer, Decomain and Wrobel, "Active hidden Markov models for information extraction", IDA 2001. Information density:
Settles and Craven, "An analysis of active learning strategies for sequence labeling tasks", EMNLP 2008.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
TRAINED_ON = "trained on"


@dataclass(frozen=True)
class ReviewRow:
    """One row, and all that is known about its label."""

    id: str
    text: str
    votes: Mapping[str, str] = field(default_factory=dict)
    """Labels by who gave them; who said nothing is left out."""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    """By label, of students that did not see the row, or of all labellers; empty where nobody has any."""
    label: str | None = None
    """What holds if a person accepts the row."""
    strategy: str = ""
    """Which strategy of the teacher wrote the text; empty for real ones."""
    state: str = TRAINED_ON
    """Or `not labelled`, or why the row was dropped."""


class Order(StrEnum):
    """In which order rows are shown."""

    BEST = "best"
    DISAGREEMENT = "disagreement"
    UNCERTAINTY = "uncertainty"
    INFLUENCE = "influence"
    BUILT = "built"


EXPLAINED: Mapping[Order, str] = {
    Order.BEST: "Rows that labellers dispute, students doubt and many others resemble come first.",
    Order.DISAGREEMENT: "Rows on which teacher, students and other labellers disagree most come first.",
    Order.UNCERTAINTY: "Rows come first for which a student finds two labels nearly as likely.",
    Order.INFLUENCE: "Doubtful rows that resemble many others come first: one decision teaches about all of them.",
    Order.BUILT: "Rows come in the order they were made.",
}
"""One line for a person."""


def disagreement(rows: Sequence[ReviewRow]) -> Scores:
    """Measure how much the labellers of each row disagree.

    Args:
        rows: Any rows.

    Returns:
        Vote entropy, shape (n_rows,): 0 where all agree, 1 where each says something else.
    """
    return np.array([_entropy(Counter(row.votes.values())) for row in rows], dtype=np.float64)


def uncertainty(rows: Sequence[ReviewRow]) -> Scores:
    """Measure how near the two likeliest labels of each row are.

    Args:
        rows: Any rows; votes stand in where nobody gave probabilities.

    Returns:
        1 minus the margin, shape (n_rows,): 0 where one label is sure, 1 where two are as likely.
    """
    return np.array([1.0 - _margin(row) for row in rows], dtype=np.float64)


def density(texts: Sequence[str]) -> Scores:
    """Measure how much each text is like all others.

    Args:
        texts: Any texts.

    Returns:
        Mean cosine of character n-grams to all texts, shape (n_texts,), between 0 and 1. The time grows with their
        number alone: the mean of cosines is the cosine with the mean.
    """
    if len(texts) < 2:
        return np.ones(len(texts))
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, min_df=1)
    try:
        found = vectors.fit_transform(texts)
    except ValueError:
        return np.ones(len(texts))  # texts of marks and spaces alone share nothing
    return np.asarray(found @ np.asarray(found.mean(axis=0)).ravel()).ravel()


def orders(rows: Sequence[ReviewRow]) -> dict[Order, list[int]]:
    """Put rows into every order there is.

    Args:
        rows: In the order they were made.

    Returns:
        Positions of the rows by order; among equals the earlier row comes first.
    """
    disputed, doubted = disagreement(rows), uncertainty(rows)
    weighty = doubted * _ranked(density([row.text for row in rows]))
    scores = {
        Order.BEST: _ranked(disputed) + _ranked(doubted) + _ranked(weighty),
        Order.DISAGREEMENT: disputed + doubted / 1000,  # of equals the doubtful first
        Order.UNCERTAINTY: doubted,
        Order.INFLUENCE: weighty,
        Order.BUILT: np.zeros(len(rows)),
    }
    return {order: np.argsort(-score, kind="stable").tolist() for order, score in scores.items()}


def _entropy(votes: Counter[str]) -> float:
    n = votes.total()
    if len(votes) < 2:
        return 0.0
    shares = np.array([*votes.values()]) / n
    return float(-(shares * np.log(shares)).sum() / np.log(n))


def _margin(row: ReviewRow) -> float:
    given = [*row.probabilities.values()]
    if not given:
        counts = Counter(row.votes.values())
        given = [count / counts.total() for count in counts.values()]
    first, second = sorted([*given, 0.0, 0.0], reverse=True)[:2]
    return first - second


def _ranked(scores: Scores) -> Scores:
    """Return the share of rows with a lower score: what scores of different kinds have in common."""
    if not len(scores):
        return scores
    _, at, counts = np.unique(scores, return_inverse=True, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.asarray(below[at] / len(scores), dtype=np.float64)
