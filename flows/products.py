"""What the recipes hand on: the students, the one that was chosen, and all that a release is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.evaluation.audit import Audit
from factory.evaluation.explanations import Explanations
from factory.evaluation.learning_curve import LearningCurve
from factory.records import Predictions, Rows
from factory.release.export import Exported
from factory.release.measure import Speed
from factory.release.refusal import Refusal
from factory.release.robustness import Robustness
from factory.spec import Plugin
from factory.store import Artifact
from factory.students.training import FittedStudent
from flows.cascading import Tiers


@dataclass(frozen=True)
class Trained:
    """One student: its opinion of rows it did not see, the calibration that follows, and the model fitted on all."""

    plugin: Plugin
    oof: Artifact[Predictions]
    calibration: Artifact[Any]
    """`Calibration`, or of numbers `NumberFit`."""
    fitted: Artifact[FittedStudent]


@dataclass(frozen=True)
class Made:
    """All students, and the one that was chosen and exported."""

    students: Mapping[str, Trained]
    champion: str
    exported: Artifact[Exported]


@dataclass(frozen=True)
class Products:
    """What a build ends with; artifacts may be pending when it is only planned."""

    files: Mapping[str, Artifact[Rows]]
    rows: Artifact[Rows]
    """What people and teachers labelled: students are judged on it out of fold."""
    taught: Artifact[Rows]
    """What the students are fitted on: these, and rows that another student labelled."""
    made: Made
    evaluation: Artifact[Any]
    """`Evaluation`, or of numbers `NumberEvaluation`."""
    speed: Artifact[Speed]
    audit: Artifact[Audit]
    tiers: Tiers | None = None
    robustness: Artifact[Robustness] | None = None
    refusal: Artifact[Refusal] | None = None
    curves: tuple[Artifact[LearningCurve], ...] = ()
    """One for each round with a student in the loop."""
    explanations: Artifact[Explanations] | None = None
    """Of a table: which columns the student leans on."""
