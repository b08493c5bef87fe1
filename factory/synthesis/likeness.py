"""What makes written texts like real ones: the few to show in a prompt, and how they all look."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from factory.encoders import Encoder
from factory.synthesis.demonstrations import retrieve
from factory.synthesis.strategy import Shown
from factory.synthesis.style import Style, style_of

if TYPE_CHECKING:
    from datasets import Dataset

MOST_CANDIDATES = 500
"""Rows of a label that are searched; of more, as many are drawn at random. Encoding them takes seconds."""
MOST_CHARS = 600
"""A demonstration is cut off after so many: a prompt has other things to say."""


class Likeness:
    """Real rows, never those of the holdout, as prompts use them."""

    def __init__(self, rows: "Dataset", encoder: Encoder, *, seed: int) -> None:
        self._rows = rows
        self._encoder = encoder
        self._seed = seed

    @cached_property
    def style(self) -> Style | None:
        """How all of them look, with a label or without."""
        return style_of(self._rows["text"][:])

    @property
    def hints(self) -> str:
        """The same in a sentence; empty when they are too few to tell."""
        return self.style.hints if self.style else ""

    def near(self, label: str, topics: Sequence[str], n: int) -> list[tuple[Shown, ...]]:
        """Return rows of a label to show for each topic; none where the label has none."""
        found = np.flatnonzero(np.array([given == label for given in self._rows["label"]], dtype=bool))
        if len(found) > MOST_CANDIDATES:
            rng = np.random.default_rng([self._seed, *label.encode()])
            found = np.sort(rng.choice(found, MOST_CANDIDATES, replace=False))
        rows = self._rows.select(found)
        candidates = [Shown(one, in_line(text)) for one, text in zip(rows["id"], rows["text"], strict=True)]
        texts = [one.text for one in candidates]
        return [
            tuple(candidates[position] for position in chosen)
            for chosen in retrieve(topics, texts, n, encoder=self._encoder)
        ]


def in_line(text: str, most_chars: int = MOST_CHARS) -> str:
    """Write a text as one line of a prompt, cut off where it is very long."""
    return " ".join(text.split())[:most_chars]
