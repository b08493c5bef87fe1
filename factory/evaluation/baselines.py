"""What a task scores without learning: the most frequent label, and the label whose description is nearest."""

from collections import Counter
from typing import Annotated

import numpy as np
from pydantic import Field

from factory.encoders import Encoder
from factory.events import Progressed, emit
from factory.records import Predictions, Rows
from factory.spec import Label, Model
from factory.store import Stage

ENCODE_AT_ONCE = 1024


class MajorityParams(Model):
    """Label names in spec order."""

    labels: tuple[str, ...]


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
    seen = Counter(train.kept["label"] if train is not None else ())
    counts = np.array([seen[label] + 1.0 for label in params.labels])
    probs = np.tile(counts / counts.sum(), (len(rows.kept), 1))
    return Predictions(labels=params.labels, ids=tuple(rows.kept["id"]), probs=probs)


def predict_nearest(params: NearestDescriptionParams, *, rows: Rows, encoder: Encoder) -> Predictions:
    """Answer each row with the label whose description is nearest to the text.

    Zero-shot classification by embedding: Chang et al., "Importance of Semantic Representation: Dataless
    Classification", AAAI 2008, with a sentence encoder for their vectors.

    Args:
        params: Labels with descriptions.
        rows: What to answer.
        encoder: Gives unit vectors of texts and descriptions.

    Returns:
        softmax(scale * cosine): an order of the labels, not calibrated probabilities.
    """
    from scipy.special import softmax

    texts = rows.kept["text"][:]
    anchors = encoder.encode([label.phrase for label in params.labels])
    probs = np.zeros((len(texts), len(params.labels)))
    for start in range(0, len(texts), ENCODE_AT_ONCE):
        block = slice(start, start + ENCODE_AT_ONCE)
        cosines = (encoder.encode(texts[block]) @ anchors.T).astype(np.float64)
        probs[block] = softmax(params.scale * cosines, axis=1)
        emit(Progressed(NEAREST_DESCRIPTION.name, min(block.stop, len(texts)), len(texts), "texts compared"))
    names = tuple(label.name for label in params.labels)
    return Predictions(labels=names, ids=tuple(rows.kept["id"]), probs=probs)


MAJORITY: Stage[Predictions] = Stage("majority", 1, MajorityParams, predict_majority, Predictions)
NEAREST_DESCRIPTION: Stage[Predictions] = Stage(
    "nearest-description", 1, NearestDescriptionParams, predict_nearest, Predictions
)
