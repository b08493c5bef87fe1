"""How much of what prompts asked for is in the texts that came, and stayed.

Strategies that draw attributes let the teacher name concrete things of each label, and ask for texts about some of
them. A thing that no training text mentions was drawn in vain, or what was written about it was rejected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from factory.evaluation.shortcuts import words_of

LEAST_LETTERS = 3
"""Shorter words say little: a thing is mentioned where all its longer words are, or all if it has no longer ones."""


@dataclass(frozen=True)
class LabelCoverage:
    """Of one label."""

    label: str
    n_things: int
    """Different ones that the teacher named."""
    n_mentioned: int
    """Of them, those in at least one training text of the label."""
    n_texts: int
    """Training texts of the label."""
    n_about: int
    """Of them, those that mention at least one of the things."""
    missing: tuple[str, ...]
    """Things that no text mentions, as they were named."""


def coverage_of(
    things: Mapping[str, Sequence[str]], texts: Sequence[str], labels: Sequence[str]
) -> tuple[LabelCoverage, ...]:
    """Look for the things in the texts.

    Args:
        things: By label, as the teacher named them; one named twice counts once.
        texts: Those that the teacher wrote and that are trained on.
        labels: The label of each.

    Returns:
        A line for each label for which things were named, in their order. A mention is found by its words alone, so
        that of a paraphrase is missed: shares are lower bounds.
    """
    words: dict[str, list[set[str]]] = {label: [] for label in things}
    for text, label in zip(texts, labels, strict=True):
        if label in words:
            words[label].append(set(words_of(text)))
    found = []
    for label, named in things.items():
        different = {frozenset(_telling(thing)): thing for thing in reversed(named)}
        different.pop(frozenset(), None)
        about = {thing: sum(thing <= text for text in words[label]) for thing in different}
        missing = [name for thing, name in different.items() if not about[thing]]
        found.append(
            LabelCoverage(
                label=label,
                n_things=len(different),
                n_mentioned=len(different) - len(missing),
                n_texts=len(words[label]),
                n_about=sum(any(thing <= text for thing in different) for text in words[label]),
                missing=tuple(reversed(missing)),
            )
        )
    return tuple(one for one in found if one.n_things)


def _telling(thing: str) -> list[str]:
    words = words_of(thing)
    return [word for word in words if len(word) >= LEAST_LETTERS] or words
