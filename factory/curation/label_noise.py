"""Drop rows whose label a small student, trained on the other rows, finds hard to believe.

Confident learning: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 70 (2021), arXiv:1911.00068, as implemented in cleanlab.
"""

from collections import Counter
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.errors import FactoryError
from factory.records import Origin, Predictions, Rejection, Rows, split
from factory.spec import Model
from factory.store import Stage


class LabelNoiseParams(Model):
    """How suspicious to be."""

    filter_by: Literal[
        "prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given",
        "low_normalized_margin", "low_self_confidence",
    ] = "prune_by_noise_rate"  # fmt: skip
    """The rule of cleanlab's `find_label_issues`."""
    max_rejected_ratio: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Rows rejected at most; of more suspects the least believable go."""
    min_per_label: Annotated[int, Field(ge=0)] = 5
    """Rows of a label that stay, whatever the student believes."""
    origins: tuple[Origin, ...] = (Origin.SYNTHETIC, Origin.AUGMENTED)
    """Which rows may go. Labels of people stand. So do those of pool rows: voters agreed on them, and the rows that a
    student doubts are those it has most to learn from; without them it is up to 4 points worse (docs/log.md)."""


def reject_noise(params: LabelNoiseParams, *, rows: Rows, oof: Predictions) -> Rows:
    """Reject the rows whose label is probably wrong.

    Args:
        params: Rule and bounds.
        rows: Labelled rows.
        oof: Out-of-fold probabilities of a student for each row, found by id: made by a student that did not see it.

    Returns:
        Rejected: `label-noise`, scored with the probability of the row's own label. The report counts suspects, and
        those that a bound spared.

    Raises:
        FactoryError: A row has no label, a label the student does not know, or no probabilities.
    """
    given, probs = _align(rows, oof)
    suspects = _find_suspects(given, probs, params.filter_by)
    own = probs[np.arange(len(given)), given]
    allowed = int(params.max_rejected_ratio * len(given))
    left = Counter(given.tolist())
    rejections: dict[int, Rejection] = {}
    origins = rows.kept["origin"][:]
    for position in sorted(suspects, key=lambda position: (own[position], position)):
        label = int(given[position])
        if origins[position] not in params.origins:
            continue
        if len(rejections) < allowed and left[label] > params.min_per_label:
            rejections[position] = Rejection("label-noise", round(float(own[position]), 6))
            left[label] -= 1
    report = {"suspects": len(suspects), "spared": len(suspects) - len(rejections)}
    return split(rows.kept, rejections, by=LABEL_NOISE.name, report=report)


def own_probability(rows: Rows, oof: Predictions) -> NDArray[np.float64]:
    """Return what a student that did not see a row gives to its label, shape (n_rows,): the lower, the more suspect."""
    given, probs = _align(rows, oof)
    return probs[np.arange(len(given)), given]


def _align(rows: Rows, oof: Predictions) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the label column of each row, shape (n_rows,), and its probabilities, shape (n_rows, n_labels)."""
    at = {row_id: index for index, row_id in enumerate(oof.ids)}
    missing = [row_id for row_id in rows.kept["id"] if row_id not in at]
    if missing:
        raise FactoryError(
            f"label-noise: {len(missing)} of {len(rows.kept)} rows have no out-of-fold probabilities, such as row "
            f"{missing[0]}",
            hint="predict out of fold on the very rows that are filtered",
        )
    unknown = sorted({str(label) for label in rows.kept["label"]} - set(oof.labels))
    if unknown:
        raise FactoryError(
            f"label-noise: expected labels {', '.join(oof.labels)}, got {', '.join(unknown)}",
            hint="every row needs one of the labels the student was trained on",
        )
    column = {label: index for index, label in enumerate(oof.labels)}
    given = np.array([column[label] for label in rows.kept["label"]], dtype=np.int64)
    return given, oof.probs[[at[row_id] for row_id in rows.kept["id"]]]


def _find_suspects(given: NDArray[np.int64], probs: NDArray[np.float64], filter_by: str) -> list[int]:
    """Return positions of rows whose label cleanlab doubts; labels without a row are left out of its estimates."""
    present = np.unique(given)
    if len(present) < 2:
        return []
    from cleanlab.filter import find_label_issues

    # What the student gives to absent labels is shared out, so that the rows sum to 1 again.
    among = np.clip(probs[:, present], 1e-12, None)
    mask = find_label_issues(
        np.searchsorted(present, given),
        among / among.sum(axis=1, keepdims=True),
        filter_by=filter_by,
        min_examples_per_class=0,  # `min_per_label` decides
        n_jobs=1,  # processes cost more than they save below a million rows
    )
    return [int(position) for position in np.flatnonzero(mask)]


LABEL_NOISE: Stage[Rows] = Stage("label-noise", 3, LabelNoiseParams, reject_noise, Rows)
