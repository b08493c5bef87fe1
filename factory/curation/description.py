"""Drop the rows whose label's description is not what the text is near to.

For sets that a model wrote and nobody labelled again: there the label is a wish, and the description is the only other
thing that is known of it. The judge is dataless classification: Chang et al., "Importance of Semantic Representation:
Dataless Classification", AAAI 2008, with a sentence encoder. Where descriptions alone are often wrong, it does harm.
"""

from collections import Counter
from typing import Annotated

from pydantic import Field

from factory.curation.label_noise import own_probability
from factory.records import Origin, Predictions, Rejection, Rows, split
from factory.spec import Model
from factory.store import Stage


class DescriptionParams(Model):
    """How much of a set may be trusted."""

    rejected_ratio: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Rows that go, those furthest from the description of their label first."""
    min_per_label: Annotated[int, Field(ge=0)] = 5
    """Rows of a label that stay, wherever they lie."""


def reject_distant(params: DescriptionParams, *, rows: Rows, opinion: Predictions) -> Rows:
    """Reject the rows that lie furthest from the description of their own label, beside the others.

    Args:
        params: Bounds.
        rows: Labelled rows.
        opinion: Of the nearest description about each row, found by id: the `nearest-description` stage.

    Returns:
        Rejected: `far-from-description`, scored with what the descriptions give to the row's own label.
    """
    own = own_probability(rows, opinion)
    ids, labels, origins = (rows.kept[column][:] for column in ("id", "label", "origin"))
    left = Counter(labels)
    wanted = int(params.rejected_ratio * len(own))
    rejections: dict[int, Rejection] = {}
    for position in sorted(range(len(own)), key=lambda position: (own[position], ids[position])):
        if len(rejections) == wanted:
            break
        label = labels[position]
        if origins[position] != Origin.GOLD and left[label] > params.min_per_label:
            rejections[position] = Rejection("far-from-description", round(float(own[position]), 6))
            left[label] -= 1
    return split(rows.kept, rejections, by=DESCRIPTION.name)


DESCRIPTION: Stage[Rows] = Stage("description", 1, DescriptionParams, reject_distant, Rows)
