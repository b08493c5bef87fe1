"""When two texts are the same: folding, and vectors of many texts with progress."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from factory.encoders import Encoder
from factory.events import Progressed, emit

APOSTROPHES = re.compile(r"['’`´]")
MARKS = re.compile(r"[.,;!?…\"“”„«»¿¡]")
# Other punctuation carries meaning: `:)` is not `:(`, `C#` is not `C`, `-5` is not `5`.

ENCODE_AT_ONCE = 1024


def fold(text: str) -> str:
    """Reduce a text to what tells it from others: NFKC, no case, no sentence marks, no quotes, single spaces."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    # A text of nothing but marks keeps them: `?` and `!` are two texts.
    return " ".join(MARKS.sub(" ", APOSTROPHES.sub("", plain)).split()) or " ".join(plain.split())


def encode(texts: Sequence[str], encoder: Encoder, *, stage: str) -> NDArray[np.float32]:
    """Encode texts in blocks, reporting progress under the name of a stage; shape (n_texts, n_dimensions)."""
    blocks = []
    for start in range(0, len(texts), ENCODE_AT_ONCE):
        blocks.append(encoder.encode(texts[start : start + ENCODE_AT_ONCE]))
        emit(Progressed(stage, min(start + ENCODE_AT_ONCE, len(texts)), len(texts), "texts encoded"))
    return np.concatenate(blocks) if blocks else np.zeros((0, 1), dtype=np.float32)
