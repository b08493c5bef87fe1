"""The label whose description is nearest to a text: a classifier that needs no training and no teacher."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.encoders import Encoder
from factory.events import Progressed, emit

ENCODE_AT_ONCE = 1024


def nearest_probs(
    texts: Sequence[str], phrases: Sequence[str], encoder: Encoder, *, scale: float, stage: str
) -> NDArray[np.float64]:
    """Compare texts with label descriptions.

    Zero-shot classification by embedding: Chang et al., "Importance of Semantic Representation: Dataless
    Classification", AAAI 2008, with a sentence encoder for their vectors.

    Args:
        texts: What to label.
        phrases: A description for each label.
        encoder: Gives unit vectors of both.
        scale: Factor on cosines before the softmax; it changes no answer.
        stage: Name under which progress is reported.

    Returns:
        softmax(scale * cosine), shape (n_texts, n_phrases): an order of the labels, not calibrated probabilities.
    """
    anchors = encoder.encode(phrases)
    probs = np.zeros((len(texts), len(phrases)))
    for start in range(0, len(texts), ENCODE_AT_ONCE):
        block = slice(start, start + ENCODE_AT_ONCE)
        probs[block] = nearest_of(encoder.encode(texts[block]), anchors, scale=scale)
        emit(Progressed(stage, min(block.stop, len(texts)), len(texts), "texts compared"))
    return probs


def nearest_of(vectors: NDArray[Any], anchors: NDArray[Any], *, scale: float) -> NDArray[np.float64]:
    """Compare vectors of texts with those of descriptions: softmax(scale * cosine), shape (n_texts, n_anchors)."""
    from scipy.special import softmax

    probs: NDArray[np.float64] = softmax(scale * (vectors @ anchors.T).astype(np.float64), axis=1)
    return probs
