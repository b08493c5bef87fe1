"""Golden tests: what a stage makes of a fixed input is pinned in `golden/<stage>.json` with the stage's version."""

import json
import os
from pathlib import Path
from typing import Any

from factory.records import Rows
from factory.store import Stage

FOLDER = Path(__file__).parent / "golden"


def check_golden(stage: Stage[Any], output: object) -> None:
    """Compare with the pinned output; `FACTORY_WRITE_GOLDEN=1 pytest` pins anew after the version was bumped."""
    path = FOLDER / f"{stage.name}.json"
    now = json.loads(json.dumps({"version": stage.version, "output": output}, allow_nan=False))
    if os.environ.get("FACTORY_WRITE_GOLDEN") == "1":
        path.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    pinned = json.loads(path.read_text(encoding="utf-8"))
    assert now == pinned, f"{stage.name} gives another output: if that is meant, bump its version and pin it anew"


def in_words(rows: Rows) -> dict[str, Any]:
    """Show rows as a golden file does."""
    kept = [[row["text"], row["label"]] for row in rows.kept]
    rejected = [[row["text"], row["label"], row["rejected_by"], row["reason"], row["score"]] for row in rows.rejected]
    return {"kept": kept, "rejected": rejected, "report": dict(rows.report)}
