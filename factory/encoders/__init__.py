"""Text to vectors. To add an encoder: write a class that fits `Encoder` and add a line to `ENCODERS`."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Encoder(Protocol):
    """A frozen text encoder."""

    @property
    def identity(self) -> str:
        """Name and weights hash: changes when vectors may change. Enters fingerprints."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-length vectors, shape (n_texts, n_dimensions)."""
