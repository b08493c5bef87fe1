"""Text to vectors.

To add an encoder: write `encoders/<name>.py` with a function that opens it, add a line to `ENCODERS`, run
`pytest tests/test_encoders.py`. Any other sentence-transformers model works by its hub id or its folder.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from factory.encoders import minilm, mpnet, transformer
from factory.spec import DEFAULT_ENCODER as DEFAULT_ENCODER  # for whoever opens one


class Encoder(Protocol):
    """Text to vectors: all that filters need."""

    @property
    def identity(self) -> str:
        """Name and weights hash: changes when vectors may change. Enters fingerprints."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-length vectors, shape (n_texts, n_dimensions)."""


class OpenEncoder(Encoder, Protocol):
    """An encoder that students can look into, to tune, distil and export it."""

    @property
    def folder(self) -> Path:
        """Where the weights, `tokenizer.json` and `config.json` are."""

    @property
    def max_length(self) -> int:
        """Tokens after which a text is cut off."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, cut off after `max_length`, not padded."""

    def module(self) -> Any:
        """Return a new `torch.nn.Module`: (input_ids, attention_mask) to unit-length vectors, for ONNX export."""


ENCODERS: dict[str, Callable[[], OpenEncoder]] = {
    DEFAULT_ENCODER: minilm.open_minilm,
    mpnet.NAME: mpnet.open_mpnet,
}


def encoder_problem(name: str) -> str:
    """Say why there can be no such encoder; empty when there may be. Nothing is read, unpacked or downloaded."""
    return "" if name in ENCODERS else transformer.named_problem(name, list(ENCODERS))


def load_encoder(name: str = DEFAULT_ENCODER) -> OpenEncoder:
    """Open an encoder; cheap, for weights are read at the first `encode`.

    Args:
        name: A name in `ENCODERS`, the folder of a sentence-transformers model, or a hub id.

    Returns:
        The encoder; one and the same object for the same, unchanged files in one process, so that texts which several
        students ask for are encoded once.

    Raises:
        ArtifactMissing: It is not on this machine and may not be downloaded.
        ArtifactCorrupt: The folder is not a sentence-transformers model of a supported shape.
    """
    return ENCODERS[name]() if name in ENCODERS else transformer.open_named(name)
