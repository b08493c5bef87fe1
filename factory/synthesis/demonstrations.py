"""Real rows to show in a prompt: near to what the prompt is about by meaning or by words, and unlike each other.

Found by the sentence encoder and by BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond", 2009; the library is bm25s, Lù, arXiv:2407.03618). The two orders become one by reciprocal rank fusion
(Cormack, Clarke and Büttcher, SIGIR 2009), and maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) chooses
from its head, so that what is shown is not one text four times.

Nothing here knows the holdout: rows come as an argument, and recipes give real rows for training only.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from factory.encoders import Encoder

RANK_OFFSET = 60
"""k of reciprocal rank fusion, as in the paper."""
CANDIDATES_PER_SHOWN = 4
"""MMR chooses from so many times as many as are shown."""
RELEVANCE = 0.3
"""Lambda of MMR: 1 looks at relevance alone, 0 at difference alone. All candidates are relevant already."""


def retrieve(queries: Sequence[str], texts: Sequence[str], n: int, *, encoder: Encoder) -> list[list[int]]:
    """Find texts to show for each query.

    Args:
        queries: What each prompt is about, in words.
        texts: Where to look.
        n: How many to show; fewer where there are fewer texts.
        encoder: Gives the vectors for the dense half.

    Returns:
        For each query positions in `texts`, each once, the most relevant first. Ties go to the earlier text.
    """
    n = min(n, len(texts))
    if not n or not queries:
        return [[] for _ in queries]
    vectors = encoder.encode(texts)
    dense: NDArray[np.float64] = (encoder.encode(queries) @ vectors.T).astype(np.float64)
    fused = reciprocal_ranks(dense) + reciprocal_ranks(_bm25(queries, texts))
    return [_mmr(scores, vectors, n) for scores in fused]


def reciprocal_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn scores, shape (n_queries, n_texts), into 1 / (k + rank); equal scores share the better rank."""
    n_better = [len(row) - np.searchsorted(np.sort(row), row, side="right") for row in scores]
    return np.asarray(1.0 / (RANK_OFFSET + 1 + np.array(n_better)))


def _bm25(queries: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
    """Return BM25 scores, shape (n_queries, n_texts); all 0 where no text has a word."""
    import bm25s

    words = [text.casefold().split() for text in texts]
    if not any(words):
        return np.zeros((len(queries), len(texts)))
    known = {word for text in words for word in text}
    index = bm25s.BM25()
    index.index(words, show_progress=False)
    asked = [[word for word in query.casefold().split() if word in known] for query in queries]
    nothing = np.zeros(len(texts))
    return np.array([index.get_scores(words) if words else nothing for words in asked], dtype=np.float64)


def _mmr(relevance: NDArray[np.float64], vectors: NDArray[np.float32], n: int) -> list[int]:
    """Choose `n` positions, one after the other, each relevant and unlike those before it."""
    head = np.argsort(-relevance, kind="stable")[: n * CANDIDATES_PER_SHOWN]
    span = float(np.ptp(relevance[head])) or 1.0
    worth = (relevance[head] - relevance[head].min()) / span
    alike = vectors[head] @ vectors[head].T
    chosen = [0]
    while len(chosen) < n:
        value = RELEVANCE * worth - (1 - RELEVANCE) * alike[:, chosen].max(axis=1)
        value[chosen] = -np.inf
        chosen.append(int(value.argmax()))
    return [int(head[one]) for one in chosen]
