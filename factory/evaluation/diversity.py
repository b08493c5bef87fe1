"""How varied texts are, and how much of real texts they cover."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""Unit-length vectors of texts, shape (n_texts, n_dimensions)."""


def distinct(texts: list[list[str]], n: int, *, most_words: int) -> float:
    """Return the share of n-grams that are different ones.

    Distinct-n: Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models", NAACL 2016,
    arXiv:1510.03055. It falls with the number of words (Liu et al., "Rethinking and Refining the Distinct Metric",
    ACL 2022), so that only sets of equally many can be compared: hence the bound.

    Args:
        texts: Each text as its words.
        n: Words in a row that are counted as one thing.
        most_words: Words after which the texts are no longer read.

    Returns:
        0 to 1; 0 when no text has n words.
    """
    seen: list[tuple[str, ...]] = []
    n_words = 0
    for words in texts:
        words = words[: most_words - n_words]
        n_words += len(words)
        seen += zip(*(words[start:] for start in range(n)), strict=False)
    return len(set(seen)) / len(seen) if seen else 0.0


def similarity(vectors: Vectors, *, near: float) -> tuple[float, float, int]:
    """Compare texts with each other.

    Args:
        vectors: Of at least two texts.
        near: Cosine from which two texts are near duplicates.

    Returns:
        The mean cosine of each text to its nearest other one; of all pairs; and how many texts have a near duplicate
        before them.
    """
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1.0)
    n_rows = len(vectors)
    pairwise = (float(cosines.sum(dtype=np.float64)) + n_rows) / (n_rows * (n_rows - 1))
    n_near = int((np.tril(cosines, -1) >= near).any(axis=1).sum())
    return float(cosines.max(axis=1).mean()), pairwise, n_near


def covered(real: Vectors, generated: Vectors, *, k: int) -> NDArray[np.bool_]:
    """Tell which real texts have a generated one as near as their k-th nearest real one.

    Coverage: Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020,
    arXiv:2002.09797; the balls are those of Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing
    Generative Models", NeurIPS 2019, arXiv:1904.06991.

    Args:
        real: Vectors of more than k real texts.
        generated: Vectors of generated texts.
        k: Which neighbour gives the radius.

    Returns:
        Shape (n_real,). Of two samples of one distribution, equally large, all but 1/2^k are covered (lemma 2 there).
    """
    among = real @ real.T
    np.fill_diagonal(among, -np.inf)
    radius = np.partition(among, -k, axis=1)[:, -k]
    reached: NDArray[np.bool_] = (real @ generated.T).max(axis=1) >= radius
    return reached


def length_features(texts: list[str], words: list[list[str]]) -> NDArray[np.float64]:
    """Return what is known of texts whose words are hidden, shape (n_texts, 4): log lengths and their squares."""
    logs: Any = np.log1p([[len(text), len(one)] for text, one in zip(texts, words, strict=True)])
    centred = (logs - logs.mean(axis=0)) / (logs.std(axis=0) + 1e-9)
    return np.hstack([centred, centred**2])
