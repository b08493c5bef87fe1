"""Below which familiarity a released student refuses a text, because it seems to belong to none of its labels."""

import json
from typing import Annotated, ClassVar

from pydantic import Field

from factory.errors import FactoryError
from factory.evaluation.rejection import rejection_threshold
from factory.evaluation.result import JsonResult, Number
from factory.records import Rows
from factory.release.export import Exported
from factory.release.predict import REJECTING_VERSION, Predictor, familiarity
from factory.spec import Model
from factory.store import Stage

MOST_TEXTS = 2000


class RefusalParams(Model):
    """How much may be refused."""

    rate: Annotated[float, Field(gt=0, le=0.5)]


class Refusal(JsonResult):
    """The rule."""

    file: ClassVar[str] = "refusal.json"

    rate: Number
    """Share of texts like these that may be refused."""
    n: int
    """Texts the threshold stands on."""
    below: Number

    @property
    def summary(self) -> str:
        """One line for a person."""
        return f"familiarity below {self.below:.3f}, {100 * self.rate:g} % of {self.n:,} real texts"


def choose_refusal(params: RefusalParams, *, exported: Exported, rows: Rows, seen: Rows) -> Refusal:
    """Choose the threshold on real texts that the student was not fitted on; no labels are needed.

    Args:
        params: Share of them that may be refused.
        exported: What will be asked.
        rows: Real texts; at most 2,000 of them are asked.
        seen: Training rows, left out.

    Returns:
        The threshold.

    Raises:
        FactoryError: There are too few texts for so small a share.
    """
    known = set(seen.kept["id"])
    pairs = zip(rows.kept["id"], rows.kept["text"], strict=True)
    texts = [text for row_id, text in pairs if row_id not in known][:MOST_TEXTS]
    if params.rate * (len(texts) + 1) < 1:
        raise FactoryError(
            f"refuse: {len(texts)} real texts that nothing was trained on are too few to refuse {params.rate:.0%} of",
            hint="a larger data.pool or data.calibration, or a larger share",
        )
    with exported.on_disk() as folder:
        scores = familiarity(Predictor(folder).predict_logits(texts))
    return Refusal(rate=params.rate, n=len(texts), below=rejection_threshold(scores, params.rate))


def with_refusal(config: bytes, refusal: Refusal) -> bytes:
    """Return an artifact's config.json with the rule; programs that do not know such rules refuse the file."""
    rule = {"score": "energy", "below": refusal.below}
    changed = {**json.loads(config), "format_version": REJECTING_VERSION, "rejection": rule}
    return (json.dumps(changed, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


REFUSAL: Stage[Refusal] = Stage("refusal", 1, RefusalParams, choose_refusal, Refusal)
