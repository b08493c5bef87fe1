"""Which words of a text spoke for its label: each is left out in turn, and the fall of the probability is its weight.

Leave-one-out, as in Li, Monroe and Jurafsky, "Understanding Neural Networks through Representation Erasure",
arXiv:1612.08220. It needs nothing but the model's answers, so it works for every student, and it shows what the model
does with the text, not why people would agree. Two words that say the same hide each other: without either, the other
still speaks.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_PIECES = 64
"""Runs of the model for one explanation: the words of a longer text are left out in groups of neighbours."""
# Chinese and Japanese are written without spaces: each of their characters is a piece.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


@dataclass(frozen=True)
class Piece:
    """A word, or neighbouring words, of a text."""

    start: int
    """Of the first character in the text."""
    end: int
    """Behind the last."""


def cut(text: str) -> list[Piece]:
    """Cut a text into at most `MAX_PIECES` words or groups of words, in order."""
    words = [match.span() for match in _WORD.finditer(text)]
    size = -(-len(words) // MAX_PIECES)
    groups = [words[first : first + size] for first in range(0, len(words), size)] if words else []
    return [Piece(group[0][0], group[-1][1]) for group in groups]


def without_each(text: str, pieces: Sequence[Piece]) -> list[str]:
    """Return the text without each piece in turn."""
    return [text[: piece.start] + text[piece.end :] for piece in pieces]


def weigh(probability: float, without: Sequence[float]) -> list[float]:
    """Return what each piece added to the probability of the label: below 0 where it spoke for another label."""
    return [probability - left for left in without]


METHOD = f"leave-one-out, at most {MAX_PIECES} pieces"


def explain_text(text: str, predict: Callable[[Sequence[str]], Sequence[Any]]) -> dict[str, Any]:
    """Answer a text and weigh its words.

    Args:
        text: The text.
        predict: Answers texts, with `probabilities`.

    Returns:
        Label, probability, `method`, and `words` in order with their place and weight.
    """
    pieces = cut(text)
    answer, *left = predict([text, *without_each(text, pieces)])
    return explanation(text, pieces, answer, left)


def explanation(text: str, pieces: Sequence[Piece], answer: Any, left: Sequence[Any]) -> dict[str, Any]:
    """Put together what is said of a text: `left` are the answers to it without each piece."""
    label = answer["label"]
    weights = weigh(answer["probability"], [one["probabilities"][label] for one in left])
    words = [
        {"text": text[one.start : one.end], "start": one.start, "end": one.end, "weight": weight}
        for one, weight in zip(pieces, weights, strict=True)
    ]
    return {"label": label, "probability": answer["probability"], "method": METHOD, "words": words}
