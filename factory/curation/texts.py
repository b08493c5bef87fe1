"""What filters look at: folded texts, and vectors of many texts with progress."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from factory.encoders import Encoder
from factory.events import Progressed, emit
from factory.texts import fold

__all__ = ["encode", "fold"]

ENCODE_AT_ONCE = 1024


def encode(texts: Sequence[str], encoder: Encoder, *, stage: str) -> NDArray[np.float32]:
    """Encode texts in blocks, reporting progress under the name of a stage; shape (n_texts, n_dimensions)."""
    blocks = []
    for start in range(0, len(texts), ENCODE_AT_ONCE):
        blocks.append(encoder.encode(texts[start : start + ENCODE_AT_ONCE]))
        emit(Progressed(stage, min(start + ENCODE_AT_ONCE, len(texts)), len(texts), "texts encoded"))
    return np.concatenate(blocks) if blocks else np.zeros((0, 1), dtype=np.float32)
