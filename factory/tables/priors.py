"""What a teacher believes of each column before any row is labelled.

A prior is a curve for each column: how much more likely each label is at a few anchor points than at the column's
average. The curves add up to the logits of a scorecard. Asking a language model what single columns tell, in place of
answers row by row, as in Zhu et al., "Incorporating LLM Priors into Tabular Learners", 2023, arXiv:2311.11628.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

PRIORS_FILE = "priors.json"
Point = float | str
"""A number, or a value of a category or an ordinal column; `yes` and `no` of a boolean one."""
YES, NO = "yes", "no"
PROTECTED = "is protected: what a teacher thinks of it shall not count"
"""The note of a column that is not asked about."""
LOWER_HIGHER = ("lower", "higher")
"""The labels of priors about a number: than usual."""


@dataclass(frozen=True)
class Prior:
    """What is believed of one column."""

    column: str
    points: tuple[Point, ...]
    """Anchor points, numbers ascending; empty where nobody could judge."""
    effects: tuple[tuple[float, ...], ...]
    """Logit of each label at each point less its mean over the points, shape (n_points, n_labels)."""
    weight: float
    """Share of the effects that is believed, 0 to 1; 0 where nobody could judge."""
    uncertainty: float
    """Standard deviation between the ways of asking, in logits, mean over the points."""
    note: str = ""
    """Why the weight is 0."""


@dataclass(frozen=True)
class Priors:
    """What is believed of all columns of a table; the result of the stage `priors`."""

    labels: tuple[str, ...]
    """Spec order."""
    priors: tuple[Prior, ...]
    """One a column that can be judged, in spec order."""
    n_asked: int = 0
    n_abstained: int = 0
    is_complete: bool = True
    stopped: str = ""
    """Why answers are missing that may still come: `budget` or `unavailable`."""

    @property
    def report(self) -> dict[str, Any]:
        """What a build says of a stage that is not finished."""
        return {"stopped": self.stopped} if self.stopped else {}

    @property
    def summary(self) -> str:
        """One line for a person."""
        n_kept = sum(prior.note == PROTECTED for prior in self.priors)
        n_mute = sum(prior.weight == 0 for prior in self.priors) - n_kept
        line = f"{len(self.priors) - n_mute - n_kept} columns judged in {self.n_asked:,} answers"
        line += f", {self.n_abstained} of them useless" if self.n_abstained else ""
        line += f", {n_mute} columns nobody could judge" if n_mute else ""
        return f"{line}, {n_kept} protected columns not asked about" if n_kept else line

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Read what `as_json` returned."""
        priors = tuple(
            Prior(**{**one, "points": tuple(one["points"]), "effects": tuple(map(tuple, one["effects"]))})
            for one in saved["priors"]
        )
        return cls(**{**saved, "labels": tuple(saved["labels"]), "priors": priors})

    def save(self, folder: Path) -> None:
        """Write `priors.json`."""
        text = json.dumps(self.as_json(), ensure_ascii=False, indent=1, allow_nan=False)
        (folder / PRIORS_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls.from_json(json.loads((folder / PRIORS_FILE).read_text(encoding="utf-8")))
