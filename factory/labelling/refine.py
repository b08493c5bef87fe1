"""Candidate sets are settled by a student: of the labels a teacher finds possible, it says which it is.

The distribution refinery of Xia et al., "Prompt Candidates, then Distill: A Teacher-Student Framework for LLM-driven
Data Annotation", ACL 2025, arXiv:2506.03857, as rounds of two stages: a student learns the distributions of the round
before (at first every candidate is as probable) and predicts rows it did not see; its probabilities, restricted to the
candidates, are the distributions of the next round. A teacher that is allowed to waver is less often wrong, and what
it leaves open other rows decide.
"""

import numpy as np

from factory.records import Predictions, Rows
from factory.spec import Model
from factory.store import Stage

SMALLEST_PROB = 1e-12
"""Of a candidate that the student excludes."""


class RefineParams(Model):
    """What the columns of candidate sets mean."""

    labels: tuple[str, ...]
    """Spec order."""


def refine(params: RefineParams, *, rows: Rows, opinion: Predictions) -> Rows:
    """Give each row the student's distribution over its candidates.

    Args:
        params: The labels.
        rows: Rows whose `label_probs` are candidate sets: what is above 0 is possible.
        opinion: Out-of-fold predictions of a student for all of them, found by row id.

    Returns:
        All rows, with the likeliest candidate as label; what was rejected before stays so. The report has the mean
        number of candidates, and how many labels are not the one the teacher named first.
    """
    given = opinion.of(rows.kept["id"], params.labels)
    possible = np.array(rows.kept["label_probs"][:], dtype=np.float64).reshape(given.shape) > 0
    probs = np.where(possible, np.maximum(given, SMALLEST_PROB), 0.0)
    probs /= probs.sum(axis=1, keepdims=True)
    labels = [params.labels[column] for column in probs.argmax(axis=1)]
    report = {
        **rows.report,
        "candidates": round(float(possible.sum(axis=1).mean()), 3) if len(possible) else None,
        "changed": sum(label != first for label, first in zip(labels, rows.kept["label"], strict=True)),
    }
    features = rows.kept.features
    kept = rows.kept.remove_columns(["label", "label_probs"])
    kept = kept.add_column("label", labels, feature=features["label"])
    kept = kept.add_column("label_probs", probs.tolist(), feature=features["label_probs"])
    return Rows(kept.select_columns(rows.kept.column_names), rows.rejected, report, is_complete=rows.is_complete)


REFINE: Stage[Rows] = Stage("refine", 1, RefineParams, refine, Rows)
