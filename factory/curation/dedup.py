"""Drop rows that say what an earlier row says.

Near duplicates are found with semhash (github.com/MinishLab/semhash) by exact search:
its approximate index is filled by several threads and finds other neighbours from run to run. The time grows with the
square of the rows of a label: 4 s for 10,000 of them, 36 s for 30,000, on two cores.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.curation.texts import encode, fold
from factory.encoders import Encoder
from factory.events import Progressed, emit
from factory.records import Rejection, Rows, split
from factory.spec import Model
from factory.store import Stage

if TYPE_CHECKING:
    from datasets import Dataset


class DedupParams(Model):
    """When two texts say the same."""

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Cosine from which two texts of one label are duplicates. With MiniLM 0.95 keeps `table for two` beside `table
    for four` (0.82) and drops `how can I` beside `how do I cancel my card` (0.99): 1% of SNIPS, 10% of Banking77."""


def deduplicate(params: DedupParams, *, rows: Rows, encoder: Encoder) -> Rows:
    """Keep the first of rows that say the same; put the rows that matter most first.

    Near duplicates are looked for within a label: `lights on` and `lights off` are near, and worth keeping both. Each
    is near the kept row it is a duplicate of, never only near another duplicate.

    Args:
        params: The threshold.
        rows: Any rows; a missing label conflicts with none.
        encoder: Gives the vectors that are compared.

    Returns:
        Rejected: `conflicting-labels` (the same text under two labels, none of them kept), `duplicate` (the same text)
        and `near-duplicate`, scored with the cosine. The report lists under `matches` which kept row each repeats.
    """
    dataset = rows.kept
    rejections, same_as = _find_exact(dataset)
    left = [position for position in range(len(dataset)) if position not in rejections]
    vectors = encode(dataset.select(left)["text"][:], encoder, stage=DEDUP.name)
    by_label: dict[str | None, list[int]] = {}
    for index, label in enumerate(dataset.select(left)["label"]):
        by_label.setdefault(label, []).append(index)
    compared = 0
    for members in by_label.values():
        for index, first, score in _find_near(vectors[members], params.threshold):
            position = left[members[index]]
            rejections[position] = Rejection("near-duplicate", round(score, 6))
            same_as[position] = left[members[first]]
        compared += len(members)
        emit(Progressed(DEDUP.name, compared, len(left), "texts compared"))
    # A text may repeat a row that in turn was near an earlier one: point to the row that was kept.
    kept = {position: same_as.get(first, first) for position, first in same_as.items()}
    ids = dataset["id"][:]
    matches = [{"id": ids[position], "of": ids[kept[position]]} for position in sorted(kept)]
    return split(dataset, rejections, by=DEDUP.name, report={"matches": matches})


def _find_exact(dataset: "Dataset") -> tuple[dict[int, Rejection], dict[int, int]]:
    """Return rejections of repeated texts, and for each repeat the position of the first."""
    groups: dict[str, list[int]] = {}
    for position, text in enumerate(dataset["text"]):
        groups.setdefault(fold(text), []).append(position)
    labels = dataset["label"][:]
    rejections: dict[int, Rejection] = {}
    same_as: dict[int, int] = {}
    for positions in groups.values():
        if len({labels[position] for position in positions} - {None}) > 1:
            rejections.update(dict.fromkeys(positions, Rejection("conflicting-labels")))
            continue
        for position in positions[1:]:
            rejections[position] = Rejection("duplicate", 1.0)
            same_as[position] = positions[0]
    return rejections, same_as


def _find_near(vectors: NDArray[np.float32], threshold: float) -> Sequence[tuple[int, int, float]]:
    """Return (duplicate, the earlier one kept, cosine) for vectors of shape (n_texts, n_dimensions)."""
    from semhash import SemHash
    from vicinity import Backend

    # Positions stand for the texts: equal texts are gone by now, and only the vectors are compared.
    records: list[dict[str, Any]] = [{"position": position} for position in range(len(vectors))]
    index = SemHash.from_embeddings(
        vectors, records, model=_NoEncoder(), columns=["position"], ann_backend=Backend.BASIC
    )
    return [
        (found.record["position"], found.duplicate_of["position"], found.score)
        for found in index.self_deduplicate(threshold).filtered
    ]


class _NoEncoder:
    """Stands where semhash wants an encoder, so that it never downloads its own."""

    def encode(self, inputs: Sequence[Any], **_kwargs: Any) -> NDArray[np.float32]:
        raise NotImplementedError("the vectors are given")


DEDUP: Stage[Rows] = Stage("dedup", 2, DedupParams, deduplicate, Rows)
