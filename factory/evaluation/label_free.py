"""How good a student is on texts that nobody labelled: estimates, and said to be.

Average thresholded confidence: Garg, Balakrishnan, Lipton, Neyshabur and Sedghi, "Leveraging unlabeled data to predict
out-of-distribution performance", ICLR 2022, arXiv:2201.04234. Prediction-powered intervals: Angelopoulos, Bates,
Fannjiang, Jordan and Zrnic, Science 382 (2023), tuned as in Angelopoulos, Duchi and Zrnic, "PPI++", arXiv:2311.01453.
"""

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.evaluation.calibration import apply_temperature
from factory.evaluation.metrics import NORMAL_QUANTILE, Estimate
from factory.evaluation.policies import Rights
from factory.evaluation.result import JsonResult, Number, Part
from factory.records import Predictions, Rows
from factory.spec import Model
from factory.store import Stage

Floats = NDArray[np.float64]


def thresholded_confidence(known: Floats, is_right: Rights, unknown: Floats) -> float:
    """Estimate accuracy on rows without labels by a threshold on the probability, learned on rows with labels.

    Args:
        known: Top probabilities of rows with labels, shape (n_known,).
        is_right: Whether these were answered right.
        unknown: Top probabilities of rows without labels, shape (n_unknown,).

    Returns:
        The share of the unknown rows above the threshold that as many known rows exceed as are right. Where the
        unknown rows are harder, its probabilities must show it: a student that is sure of nonsense fools this. It
        exaggerates a shift of a student whose probabilities mean what they say (0.39 for 0.64 in docs/log.md).

    Raises:
        ValueError: There are no rows of one kind.
    """
    if not len(known) or not len(unknown):
        raise ValueError(f"expected rows with and without labels, got {len(known)} and {len(unknown)}")
    n_wrong = int((~is_right).sum())
    ranked = np.sort(known)
    threshold = ranked[n_wrong] if n_wrong < len(ranked) else np.inf
    return float((unknown >= threshold).mean())


class Powered(Part):
    """An accuracy from a few labels and many guesses."""

    accuracy: Estimate
    labels_alone: Estimate
    """The same from the labels without the guesses."""
    n_labelled: int
    n_unlabelled: int
    labels_saved: Number
    """How many more labels an interval of this width would take without the guesses."""


def prediction_powered(is_right: Rights, guess: Floats, guess_unlabelled: Floats) -> Powered:
    """Estimate accuracy with a few labelled rows, and a guess of each row's chance to be right.

    Args:
        is_right: Whether the labelled rows were answered right, shape (n_labelled,).
        guess: The guess for these rows, such as the calibrated probability.
        guess_unlabelled: The guess for rows without labels, drawn like the labelled ones.

    Returns:
        An accuracy whose 95% interval holds however bad the guesses are: they only move its width, and never make it
        wider than the labels alone by more than chance.

    Raises:
        ValueError: There are fewer than two rows of one kind.
    """
    n, many = len(is_right), len(guess_unlabelled)
    if n < 2 or many < 2:
        raise ValueError(f"expected two rows of each kind at least, got {n} with and {many} without labels")
    right = is_right.astype(np.float64)
    spread = np.concatenate([guess, guess_unlabelled]).var(ddof=1)
    shared = float(np.cov(right, guess, ddof=1)[0, 1])
    power = float(np.clip(shared / ((1 + n / many) * spread), 0, 1)) if spread > 0 else 0.0
    value = float(power * guess_unlabelled.mean() + (right - power * guess).mean())
    variance = float((right - power * guess).var(ddof=1)) / n + power**2 * float(guess_unlabelled.var(ddof=1)) / many
    alone = float(right.var(ddof=1))
    saved = alone / variance - n if variance > 0 else 0.0
    return Powered(
        accuracy=_around(value, variance),
        labels_alone=_around(float(right.mean()), alone / n),
        n_labelled=n,
        n_unlabelled=many,
        labels_saved=max(0.0, saved),
    )


def _around(value: float, variance: float) -> Estimate:
    half = NORMAL_QUANTILE * float(np.sqrt(variance))
    return Estimate(value=value, low=max(0.0, value - half), high=min(1.0, value + half))


class LabelFreeParams(Model):
    """How out-of-fold probabilities become those of the released student."""

    calibration_temperature: Annotated[float, Field(gt=0)] = 1.0


class LabelFree(JsonResult):
    """Accuracy on real texts that nobody labelled: estimates."""

    file: ClassVar[str] = "label_free.json"

    n_pool: int
    """Texts of the pool that nothing was trained on."""
    thresholded: Number | None
    """Average thresholded confidence; null where the whole pool was trained on."""
    mean_confidence: Number | None
    """Mean probability of the answers: the accuracy, if they mean what they say; null likewise."""
    powered: Powered | None
    """With the gold rows there are; null without any."""

    @property
    def summary(self) -> str:
        """One line for a person."""
        if self.thresholded is None:
            return "the whole pool was trained on: nothing to estimate by"
        return f"estimated accuracy {self.thresholded:.3f} on {self.n_pool:,} texts without labels"


def estimate_without_labels(
    params: LabelFreeParams,
    *,
    pool: Predictions,
    oof: Predictions,
    rows: Rows,
    holdout: Rows | None = None,
    student: Predictions | None = None,
) -> LabelFree:
    """Estimate accuracy on the pool, by the training rows out of fold, and by gold rows where there are a few.

    Args:
        params: Temperature of the released student.
        pool: Its answers to the pool.
        oof: Out-of-fold predictions of the training rows, not calibrated.
        rows: Training rows; those of the pool among them say nothing about the others.
        holdout: Gold rows.
        student: Answers of the released student to them.

    Returns:
        The estimates; none where the whole pool was trained on.
    """
    labels = dict(zip(rows.kept["id"], rows.kept["label"], strict=True))
    fresh = [position for position, row_id in enumerate(pool.ids) if row_id not in labels]
    if len(fresh) < 2:
        return LabelFree(n_pool=len(fresh), thresholded=None, mean_confidence=None, powered=None)
    known = apply_temperature(oof.probs, params.calibration_temperature).max(axis=1)
    right = np.array([labels[row_id] == answer for row_id, answer in zip(oof.ids, oof.answers, strict=True)])
    sure = pool.probs[fresh].max(axis=1)
    powered = None
    if holdout is not None and student is not None and len(holdout.kept) > 1:
        gold = dict(zip(holdout.kept["id"], holdout.kept["label"], strict=True))
        is_right = np.array(
            [gold[row_id] == answer for row_id, answer in zip(student.ids, student.answers, strict=True)]
        )
        powered = prediction_powered(is_right, student.probs.max(axis=1), sure)
    return LabelFree(
        n_pool=len(fresh),
        thresholded=thresholded_confidence(known, right, sure),
        mean_confidence=float(sure.mean()),
        powered=powered,
    )


LABEL_FREE: Stage[LabelFree] = Stage("label-free", 1, LabelFreeParams, estimate_without_labels, LabelFree)
