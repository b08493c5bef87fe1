"""Drop rows too near to a protected one: a student must not be examined on what it was taught.

Also called contamination. Protected are the holdout, of which only the texts are read here, and rows that
people labelled, which a teacher likes to repeat.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.curation.texts import encode, fold
from factory.encoders import Encoder
from factory.records import Rejection, Rows, split
from factory.spec import Model
from factory.store import Stage

COMPARE_AT_ONCE = 1024


class LeakageParams(Model):
    """When a row is too near to a protected one."""

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Cosine from which a row leaks. With MiniLM, 0.95 is met by 0.4% of SNIPS and 5% of Banking77 training rows."""


def remove_leaks(params: LeakageParams, *, rows: Rows, encoder: Encoder, **protected: Rows) -> Rows:
    """Reject the rows that equal or nearly equal a protected text.

    Args:
        params: The threshold.
        rows: Any rows. Seeds that shall be learned from are added after this stage: here they would be found.
        encoder: Gives the vectors that are compared.
        **protected: Protected rows by any name, such as `holdout` and `seeds`, or none. Only texts and ids are read.

    Returns:
        Rejected: `leakage-exact` (equal after folding) and `leakage-near`, scored with the cosine. The report lists
        under `matches` the protected row each leaks, and how many texts of which name were protected.
    """
    guarded = [
        (name, row_id, text)
        for name in sorted(protected)
        for row_id, text in zip(protected[name].kept["id"], protected[name].kept["text"], strict=True)
    ]
    report: dict[str, Any] = {"protected": {name: len(protected[name].kept) for name in sorted(protected)}}
    if not guarded or not len(rows.kept):
        return split(rows.kept, {}, by=LEAKAGE.name, report={**report, "matches": []})
    texts = rows.kept["text"][:]
    found = _find_near(texts, [text for _, _, text in guarded], encoder, params.threshold)
    found |= _find_exact(texts, {fold(text): index for index, (_, _, text) in reversed([*enumerate(guarded)])})
    rejections = {
        position: Rejection("leakage-exact" if exact else "leakage-near", score)
        for position, (_, score, exact) in found.items()
    }
    ids = rows.kept["id"][:]
    report["matches"] = [
        {"id": ids[position], "of": guarded[found[position][0]][1], "in": guarded[found[position][0]][0]}
        for position in sorted(found)
    ]
    return split(rows.kept, rejections, by=LEAKAGE.name, report=report)


def _find_exact(texts: list[str], guarded: Mapping[str, int]) -> dict[int, tuple[int, float, bool]]:
    """Return (protected index, 1, exact) for each text that equals a protected one after folding."""
    folded = ((position, guarded.get(fold(text))) for position, text in enumerate(texts))
    return {position: (index, 1.0, True) for position, index in folded if index is not None}


def _find_near(
    texts: list[str], guarded: list[str], encoder: Encoder, threshold: float
) -> dict[int, tuple[int, float, bool]]:
    """Return (nearest protected index, cosine, not exact) for each text at or above the threshold."""
    ours = encode(texts, encoder, stage=LEAKAGE.name)
    theirs = encode(guarded, encoder, stage=LEAKAGE.name)
    found: dict[int, tuple[int, float, bool]] = {}
    for start in range(0, len(ours), COMPARE_AT_ONCE):
        cosines: NDArray[np.float32] = ours[start : start + COMPARE_AT_ONCE] @ theirs.T
        nearest = cosines.argmax(axis=1)
        best = cosines[np.arange(len(cosines)), nearest]
        for offset in np.flatnonzero(best >= threshold):
            score = round(min(float(best[offset]), 1.0), 6)
            found[start + int(offset)] = (int(nearest[offset]), score, False)
    return found


LEAKAGE: Stage[Rows] = Stage("leakage", 2, LeakageParams, remove_leaks, Rows)
