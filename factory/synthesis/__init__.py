"""Strategies that write training texts.

To add a strategy: write `synthesis/<name>.py`, add a line to `STRATEGIES`, run `pytest tests/test_synthesis.py`.
"""

from collections.abc import Mapping

from factory.synthesis.attributes import ATTRIBUTES
from factory.synthesis.contrastive import CONTRASTIVE
from factory.synthesis.labels import LABELS
from factory.synthesis.rows import RowsOptions
from factory.synthesis.strategy import Strategy

STRATEGIES: Mapping[str, Strategy] = {
    "labels": LABELS,
    "attributes": ATTRIBUTES,
    "contrastive": CONTRASTIVE,
}
"""By the name a spec uses."""

TABLE_STRATEGIES: Mapping[str, type[RowsOptions]] = {"rows": RowsOptions}
"""Those of tables with labels, and what a spec may set."""
