"""Filters over rows: each keeps some, rejects the others with a reason, and loses none.

To add a filter: write `curation/<name>.py` with a `Stage`, add a line to `FILTERS`, run
`pytest tests/test_curation.py`.
"""

from collections.abc import Mapping

from factory.curation.dedup import DEDUP
from factory.curation.description import DESCRIPTION
from factory.curation.label_noise import LABEL_NOISE
from factory.curation.leakage import LEAKAGE
from factory.records import Rows
from factory.store import Stage

FILTERS: Mapping[str, Stage[Rows]] = {
    "dedup": DEDUP,
    "leakage": LEAKAGE,
    "label-noise": LABEL_NOISE,
    "description": DESCRIPTION,
}
"""By the name a spec uses; a spec's `params` are those of the stage, and each of them has a default."""
