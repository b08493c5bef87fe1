"""What a task scores without learning: the most frequent label, and the label whose description is nearest."""

from collections import Counter
from typing import Annotated

import numpy as np
from pydantic import Field

from factory.encoders import Encoder
from factory.encoders.nearest import nearest_probs
from factory.records import Predictions, Rows
from factory.spec import Label, Model
from factory.store import Stage


class MajorityParams(Model):
    """Label names in spec order."""

    labels: tuple[str, ...]


class MeanParams(Model):
    """The mean has no parameters."""


class NearestDescriptionParams(Model):
    """What the descriptions say."""

    labels: tuple[Label, ...]
    scale: Annotated[float, Field(gt=0)] = 20.0
    """Factor on cosines before the softmax; 20 is what sentence-transformers trains with. It changes no answer."""


def predict_majority(params: MajorityParams, *, rows: Rows, train: Rows | None = None) -> Predictions:
    """Answer every row with the label frequencies of the training rows.

    Args:
        params: Label names.
        rows: What to answer.
        train: Labelled rows to count; without them, and on a tie, the answer is the first label of the spec.

    Returns:
        The same probabilities for each row: (count + 1) / (n + n_labels), as Laplace would have it.
    """
    seen = Counter(train.kept["label"][:] if train is not None else ())
    counts = np.array([seen[label] + 1.0 for label in params.labels])
    probs = np.tile(counts / counts.sum(), (len(rows.kept), 1))
    return Predictions(labels=params.labels, ids=tuple(rows.kept["id"]), probs=probs)


def predict_mean(params: MeanParams, *, rows: Rows, train: Rows) -> Predictions:
    """Answer every row with the mean of the training rows; for a number nothing simpler is known."""
    mean = float(np.mean(train.kept["label"][:]))
    return Predictions(labels=(), ids=tuple(rows.kept["id"]), probs=np.full((len(rows.kept), 1), mean))


def predict_nearest(params: NearestDescriptionParams, *, rows: Rows, encoder: Encoder) -> Predictions:
    """Answer each row with the label whose description is nearest to the text.

    Args:
        params: Labels with descriptions.
        rows: What to answer.
        encoder: Gives unit vectors of texts and descriptions.

    Returns:
        softmax(scale * cosine): an order of the labels, not calibrated probabilities.
    """
    phrases = [label.phrase for label in params.labels]
    stage = NEAREST_DESCRIPTION.name
    probs = nearest_probs(rows.kept["text"][:], phrases, encoder, scale=params.scale, stage=stage)
    names = tuple(label.name for label in params.labels)
    return Predictions(labels=names, ids=tuple(rows.kept["id"]), probs=probs)


MAJORITY: Stage[Predictions] = Stage("majority", 1, MajorityParams, predict_majority, Predictions)
MEAN: Stage[Predictions] = Stage("mean", 1, MeanParams, predict_mean, Predictions)
NEAREST_DESCRIPTION: Stage[Predictions] = Stage(
    "nearest-description", 1, NearestDescriptionParams, predict_nearest, Predictions
)
