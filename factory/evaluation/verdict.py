"""The verdict: numbers as an evaluation stores them, and the words a person reads first."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import ClassVar

from factory.evaluation.metrics import Bin, Estimate, LabelScore
from factory.evaluation.result import JsonResult, Number, Part

STUDENT, TEACHER = "student", "teacher"
WHO = {
    STUDENT: "the released artifact",
    TEACHER: "the LLM asked directly",
    "nearest-description": "no learning: nearest label description",
    "majority": "no learning: most frequent label",
    "real-rows": "the same student trained on the task's real labelled rows alone",
    "ceiling": "the same student trained on the real labelled rows of data.ceiling",
}

OPEN_BECAUSE = {
    "budget": "the budget was used up",
    "unavailable": "it could not be reached",
    "deadline": "its time ran out",
}


class Regime(StrEnum):
    """What people brought to the task."""

    Z0 = "Z0"
    Z1 = "Z1"
    FS = "FS"
    AUG = "AUG"

    @property
    def words(self) -> str:
        """What the regime means."""
        return {
            Regime.Z0: "descriptions of the labels only",
            Regime.Z1: "descriptions and unlabelled real texts",
            Regime.FS: "descriptions and a few labelled examples",
            Regime.AUG: "descriptions and real labelled rows, varied",
        }[self]


class Contender(Part):
    """One of those compared, on the rows it answered."""

    name: str
    what: str
    n: int
    n_abstained: int
    """Rows without an answer; they count as wrong."""
    accuracy: Estimate
    macro_f1: Estimate
    ece: Number | None
    """Null when there are no probabilities."""
    log_loss: Number | None
    brier: Number | None


class Difference(Part):
    """The released student minus another contender, on the rows both answered."""

    other: str
    n: int
    student_accuracy: Number
    other_accuracy: Number
    accuracy: Estimate
    macro_f1: Estimate
    mcnemar_p: Number
    margin: Number
    is_non_inferior: bool
    """The lower end of the accuracy interval is above minus the margin, and an exact test of the same rows agrees."""


class Score(Part):
    """A figure of one contender that the order of all rows decides, or their distance from the right number."""

    contender: str
    figure: str
    """auc, average_precision, log_loss, brier; of numbers r2, mae, rmse."""
    estimate: Estimate
    minus: Estimate | None
    """The released student's figure minus this one, on the same rows; null for the student itself."""


class ConfusedPair(Part):
    """Rows of one label that the released student gives another."""

    gold: str
    predicted: str
    n: int
    examples: tuple[str, ...]


class Evaluation(JsonResult):
    """The verdict in numbers."""

    file: ClassVar[str] = "evaluation.json"

    gold: bool
    """False when there was no holdout: then all figures are out-of-fold estimates on the synthetic rows."""
    regime: Regime
    champion: str
    labels: tuple[str, ...]
    n_rows: int
    n_resamples: int
    left_open: dict[str, int]
    """Rows that the teacher did not answer and may another time, by reason; they count as no mistakes of its."""
    contenders: tuple[Contender, ...]
    """The released student first."""
    differences: tuple[Difference, ...]
    label_scores: tuple[LabelScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Rows: gold label; columns: the released student's answer; both in spec order."""
    confused_pairs: tuple[ConfusedPair, ...]
    reliability: tuple[Bin, ...]
    scores: tuple[Score, ...] = ()
    """Of tables only."""

    @property
    def student(self) -> Contender:
        """The released student."""
        return self.contenders[0]

    @property
    def versus_teacher(self) -> Difference | None:
        """The released student minus the teacher, if the teacher was asked."""
        return next((difference for difference in self.differences if difference.other == TEACHER), None)

    @property
    def left_open_sentence(self) -> str:
        """Why the teacher was measured on fewer rows than wanted; empty when it was not."""
        if not self.left_open:
            return ""
        why = ", ".join(f"{OPEN_BECAUSE[reason]} ({n:,})" for reason, n in self.left_open.items())
        return f"The teacher did not answer {sum(self.left_open.values()):,} rows, which count for neither: {why}."

    @property
    def summary(self) -> str:
        """One line for a person."""
        accuracy, kind = self.student.accuracy, "gold" if self.gold else "synthetic"
        return (
            f"{self.champion}: accuracy {accuracy.value:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f}) "
            f"on {self.n_rows:,} {kind} rows"
        )


@dataclass(frozen=True)
class VerdictLine:
    """A line of the table of contenders, ready to be shown."""

    name: str
    rows: str
    accuracy: str
    macro_f1: str
    calibration_error: str
    log_loss: str
    minus: str
    """Accuracy of the student minus this one's, on the same rows, in percentage points."""

    def __iter__(self) -> Iterator[str]:
        return iter(astuple(self))


VERDICT_COLUMNS = ("", "rows", "accuracy, %", "macro-F1, %", "ECE, %", "log loss", "student minus this, points")
"""Headings of `verdict_table`."""


def verdict_table(evaluation: Evaluation) -> list[VerdictLine]:
    """Write the contenders as lines of text, the released student first; intervals are 95%."""
    differences = {difference.other: difference for difference in evaluation.differences}
    return [
        VerdictLine(
            name=f"{one.name} ({evaluation.champion})" if one.name == STUDENT else one.name,
            rows=f"{one.n:,}",
            accuracy=in_percent(one.accuracy),
            macro_f1=in_percent(one.macro_f1),
            calibration_error="" if one.ece is None else f"{100 * one.ece:.1f}",
            log_loss="" if one.log_loss is None else f"{one.log_loss:.3f}",
            minus=in_points(differences[one.name].accuracy) if one.name in differences else "",
        )
        for one in evaluation.contenders
    ]


def verdict_sentence(evaluation: Evaluation) -> str:
    """Say in two or three sentences how good the student is, how sure that is, and how it compares with the teacher."""
    student = evaluation.student
    accuracy = f"{in_percent(student.accuracy)} %"
    if not evaluation.gold:
        return (
            f"{evaluation.champion} answers {accuracy} of {student.n:,} synthetic rows right, out of fold. "
            "There was no holdout, so this is an estimate, and usually too high for real texts: "
            "label some real rows to learn more."
        )
    said = f"{evaluation.champion} answers {accuracy} of {student.n:,} gold rows right (95 % interval)."
    difference = evaluation.versus_teacher
    if difference is None:
        return f"{said} {evaluation.left_open_sentence or 'The teacher was not asked.'}"
    return f"{said} {_against_teacher(difference)} {evaluation.left_open_sentence}".rstrip()


def _against_teacher(difference: Difference) -> str:
    ours, theirs = 100 * difference.student_accuracy, 100 * difference.other_accuracy
    margin = f"{100 * difference.margin:g} points"
    if difference.accuracy.low > 0:
        verdict = "better than the teacher"
    elif difference.is_non_inferior:
        verdict = f"no more than {margin} worse than the teacher"
    elif difference.accuracy.high < -difference.margin:
        verdict = f"worse than the teacher by more than {margin}"
    elif difference.accuracy.high < 0:
        verdict = f"worse than the teacher, and perhaps by more than {margin}"
    else:
        verdict = f"not shown to be within {margin} of the teacher: ask about more rows to know"
    return (
        f"On the {difference.n:,} rows the teacher was asked too, it is right on {ours:.1f} %, the teacher on "
        f"{theirs:.1f} %: {in_points(difference.accuracy)} points, {verdict}."
    )


def in_percent(estimate: Estimate) -> str:
    """Write an estimate in percent with its interval."""
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def in_points(estimate: Estimate) -> str:
    """Write a difference in percentage points with its interval; every number has a sign."""
    # Adding zero makes -0.0 a 0.0.
    value, low, high = (round(100 * one, 1) + 0.0 for one in (estimate.value, estimate.low, estimate.high))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
