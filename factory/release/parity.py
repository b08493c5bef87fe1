"""Does the exported graph say what the student says? Compared on validation rows and on texts made to break things."""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from factory.errors import ArtifactError
from factory.evaluation.result import Number, Part

TOLERANCE = 1e-3
"""Largest allowed difference of a probability between the student in Python and its float32 graph."""

HOSTILE_TEXTS: dict[str, str] = {
    "empty": "",
    "spaces": " \t\n ",
    "one-character": "a",
    "long": "the quick brown fox, " * 5_000,
    "one-long-word": "x" * 20_000,
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 play 🎵🎵🎵",
    "right-to-left": "شغّل بعض الموسيقى עכשיו",
    "chinese": "请播放一些爵士乐",
    "control-characters": "play\x00some\x07\x1b[31mjazz\x7f\u200b\ufeff",
    "combining-marks": "e" + "\u0301" * 300 + " cafe\u0301 ｆｕｌｌ ﬁ",
    "capitals": "ÄÖÜẞ İSTANBUL ǅ",
    "markup": "<script>alert('x')</script> [CLS] [SEP] [PAD] {{ text }} %s",
}

STEP = 1e-5
"""Differences are rounded up to this: below it they are noise that differs between processors, and runs."""

Difference = Annotated[float, AfterValidator(lambda value: round(math.ceil(value / STEP) * STEP, 5))]


class Int8Trial(Part):
    """One int8 recipe on the validation rows."""

    recipe: str
    size_mb: Number
    """Size of the graph."""
    accuracy: Number
    largest_difference: Difference
    """From the float32 graph, of a probability."""
    accepted: bool


class Parity(Part):
    """How the graph was compared with the student, and which graph ships."""

    n_rows: int
    n_hostile: int
    largest_difference: Difference
    """Of a calibrated probability, between the student in Python and the float32 graph; at most 0.001."""
    worst: str
    """Row id, or name of the hostile text, with that difference; empty when all differences are noise."""
    float32_accuracy: Number | None
    """On the validation rows; null without any."""
    int8: tuple[Int8Trial, ...]
    """Recipes tried, in order; empty for graphs without an encoder."""
    ships: str
    """`float32`, or the recipe of the int8 graph in the folder."""


def largest_difference(
    expected: NDArray[np.float64], found: NDArray[np.float64], ids: Sequence[str], *, student: str
) -> tuple[float, str]:
    """Find where two probability matrices differ most.

    Args:
        expected: From the student in Python, shape (n_texts, n_labels).
        found: From the exported graph, of the same shape.
        ids: What each text is called.
        student: What the student is called in the error.

    Returns:
        The largest absolute difference and the id of its text, empty when the difference is below `STEP`.

    Raises:
        ArtifactError: It is above `TOLERANCE`, or not a number.
    """
    differences = np.abs(expected - found).max(axis=1)
    # A NaN is the worst of all, and `argmax` finds it first.
    position = int(differences.argmax())
    worst = float(differences[position])
    if not worst <= TOLERANCE:
        raise ArtifactError(
            f"{student}: expected model.onnx to give the student's probabilities within {TOLERANCE}, "
            f"text {ids[position]!r} differs by {worst:.3g}",
            hint="the student's `to_onnx` and `predict_proba` disagree: mend one of them; nothing was released",
        )
    return worst, ids[position] if worst > STEP else ""


def calibrated(probs: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return softmax(log p / T) without the clipping of `evaluation.calibration`, which would count as a difference."""
    scaled = probs ** (1.0 / temperature)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))
