"""Which words led a student of texts astray: the explanations of single answers, as a panel of the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.evaluation.plots import Panel
from factory.evaluation.verdict import ConfusedPair
from factory.release.predict import Predictor
from factory.serving.explain import METHOD, explain_text

MOST_TEXTS = 8
WORDS = 5
"""Named of each text."""


def word_panels(folder: Path, pairs: Sequence[ConfusedPair]) -> tuple[Panel, ...]:
    """Explain the first mistake of each of the most confused pairs of labels.

    Args:
        folder: An exported student of texts.
        pairs: The most frequent first; the first `MOST_TEXTS` are shown.

    Returns:
        A table; nothing where there are no mistakes.
    """
    shown = [pair for pair in pairs if pair.examples][:MOST_TEXTS]
    if not shown:
        return ()
    predictor = Predictor(folder)
    lines = []
    for pair in shown:
        said = explain_text(pair.examples[0], predictor.predict)
        answered = f"{said['label']} ({100 * said['probability']:.0f} %)"
        lines.append((pair.examples[0], pair.gold, answered, _most_words(said)))
    note = (
        "Mistakes, one of each of the pairs confused most often. Each word is left out in turn; what the probability "
        f"of the answer loses by that is its weight ({METHOD}). Two words that say the same hide each other."
    )
    columns = ("text", "right", "answered", "because of")
    return (Panel("Words that led it astray", note, columns=columns, rows=tuple(lines)),)


def _most_words(said: Mapping[str, Any]) -> str:
    found = sorted((one for one in said["words"] if one["weight"] > 0), key=lambda one: -one["weight"])
    return ", ".join(f"{one['text']} (+{one['weight']:.2f})" for one in found[:WORDS]) or "no single word"
