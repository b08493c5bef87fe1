"""Words whose presence nearly decides the label: a student may learn them in place of the meaning.

Competency problems: Gardner et al., "Competency Problems: On Finding and Removing Artifacts in Language Data", EMNLP
2021, arXiv:2104.08646: if no word alone said anything, p(label | word) would be p(label); the z-statistic of the
one-sided proportion test says how far it is from that.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from statistics import NormalDist

from factory.curation.texts import fold
from factory.evaluation.result import Number, Part

WORD = re.compile(r"\w+(?:['’-]\w+)*")
DECIDES = 0.9
"""Share of the texts with a word that must have one label."""
LEAST_ROWS = 5
ALPHA = 0.01
"""Chance that one word is listed although all of them say nothing: Bonferroni over words and labels."""
STEM = 4
"""Words that begin with so many equal letters count as one: `playing` is in a description that says `play`."""


class Shortcut(Part):
    """A word that nearly decides a label."""

    word: str
    label: str
    n: int
    """Texts with the word."""
    precision: Number
    """Share of them that have the label."""
    share: Number
    """Share of the label's texts that have the word."""
    z: Number
    is_expected: bool
    """Whether name or description of the label say it: then it is the task, not an artefact."""


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return WORD.findall(fold(text))


def find_shortcuts(
    texts: Sequence[Collection[str]], labels: Sequence[str], described: dict[str, str], *, most: int
) -> tuple[Shortcut, ...]:
    """Find the words that nearly decide the label of generated texts.

    Args:
        texts: The words of each text.
        labels: The label of each.
        described: Name and description of each label, in spec order.
        most: Words listed for each label, those in most of its texts first.

    Returns:
        By label in spec order. A word is listed when its z-statistic is beyond what chance gives one word of all.
    """
    rows_of = Counter(labels)
    n_with: Counter[str] = Counter()
    together: Counter[tuple[str, str]] = Counter()
    for words, label in zip(texts, labels, strict=True):
        n_with.update(set(words))
        together.update((word, label) for word in set(words))
    tried = sum(1 for word, _ in together if n_with[word] >= LEAST_ROWS)
    bound = NormalDist().inv_cdf(1 - ALPHA / max(1, tried))
    found: dict[str, list[Shortcut]] = {label: [] for label in described}
    for (word, label), n_both in together.items():
        n, prior = n_with[word], rows_of[label] / len(labels)
        if n < LEAST_ROWS or prior == 1 or n_both / n < DECIDES:
            continue
        z = (n_both / n - prior) / (prior * (1 - prior) / n) ** 0.5
        if z > bound:
            is_expected = _says(words_of(described[label]), word)
            share = n_both / rows_of[label]
            found[label].append(
                Shortcut(word=word, label=label, n=n, precision=n_both / n, share=share, z=z, is_expected=is_expected)
            )
    return tuple(
        one for listed in found.values() for one in sorted(listed, key=lambda one: (-one.share, one.word))[:most]
    )


def _says(described: Sequence[str], word: str) -> bool:
    stem = word[:STEM] if len(word) >= STEM else None
    return any(word == other or stem == other[:STEM] for other in described)
