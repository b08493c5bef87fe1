"""How real texts look: casing, end marks, length. LLM text differs from them in all three, whatever it says.

A pure function of texts; what it finds becomes one sentence of a prompt, and casing is mended mechanically besides.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from factory.spec import Model

Ratio = Annotated[float, Field(ge=0, le=1)]

LEAST_TEXTS = 8
"""Fewer texts say nothing about how texts look."""
NEARLY_ALL, NEARLY_NONE = 0.98, 0.05
END_MARKS = (".", "!", "?", "…", "。", "！", "？")


class Style(Model):
    """What can be counted of how texts look."""

    n_texts: Annotated[int, Field(ge=1)]
    lower_ratio: Ratio
    """Share of texts without a capital letter."""
    marked_ratio: Ratio
    """Share of texts that end in a sentence mark."""
    words: tuple[int, int, int]
    """Words of a short, a median and a long text: the 10%, 50% and 90% quantiles."""

    @property
    def is_lower(self) -> bool:
        """Whether texts have no capital letters."""
        return self.lower_ratio >= NEARLY_ALL

    @property
    def hints(self) -> str:
        """Say it in one sentence to the teacher."""
        said = []
        if self.is_lower:
            said.append("all in lower case")
        elif self.lower_ratio >= 0.5:
            said.append("mostly in lower case")
        if self.marked_ratio <= NEARLY_NONE:
            said.append("without a mark at the end")
        elif self.marked_ratio >= NEARLY_ALL:
            said.append("with a mark at the end")
        short, median, long = self.words
        length = (
            f"{short} to {long} words long, half of them under {median + 1}" if short < long else f"{long} words long"
        )
        return f"Real texts are {', '.join([*said, length])}."

    def in_casing(self, text: str) -> str:
        """Return a text as real ones are cased: lower-cased where they all are, else as it is."""
        return text.lower() if self.is_lower else text


def style_of(texts: Sequence[str]) -> Style | None:
    """Count how texts look.

    Args:
        texts: Real texts.

    Returns:
        Their style; None where they are fewer than `LEAST_TEXTS`.
    """
    if len(texts) < LEAST_TEXTS:
        return None
    short, median, long = np.quantile([len(text.split()) for text in texts], (0.1, 0.5, 0.9), method="nearest")
    return Style(
        n_texts=len(texts),
        lower_ratio=sum(text == text.lower() for text in texts) / len(texts),
        marked_ratio=sum(text.rstrip().endswith(END_MARKS) for text in texts) / len(texts),
        words=(int(short), int(median), int(long)),
    )
