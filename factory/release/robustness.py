"""What changes of a text that leave its label alone do to the released student: perturbed gold rows."""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from factory.evaluation import metrics
from factory.evaluation.metrics import N_RESAMPLES, Columns, Estimate
from factory.evaluation.result import JsonResult, Part
from factory.events import Progressed, emit
from factory.records import Rows
from factory.release.export import Exported
from factory.release.predict import Predictor
from factory.spec import Model
from factory.store import Stage

TYPOS_PER_CHARS = 20
"""One wrong character in so many."""
MOST_ROWS = 1000
FILLER = "hello there, I hope you are well, I have had a long day and just wanted to write to you about something. "
NOT = "I do not mind waiting and it is not urgent. "


def _typo(text: str, rng: np.random.Generator) -> str:
    """Swap neighbouring characters, or drop or double one."""
    marks = list(text)
    for _ in range(max(1, len(text) // TYPOS_PER_CHARS) if len(text) > 1 else 0):
        at = int(rng.integers(len(marks) - 1))
        kind = int(rng.integers(3))
        if kind == 0:
            marks[at], marks[at + 1] = marks[at + 1], marks[at]
        elif kind == 1 and len(marks) > 2:
            del marks[at]
        else:
            marks.insert(at, marks[at])
    return "".join(marks)


def _unpunctuated(text: str, _: np.random.Generator) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[^\w\s]", "", text)).strip() or text


PERTURBATIONS: dict[str, Callable[[str, np.random.Generator], str]] = {
    "typos": _typo,
    "upper case": lambda text, _: text.upper(),
    "lower case": lambda text, _: text.lower(),
    "no punctuation": _unpunctuated,
    "longer": lambda text, _: FILLER + text,
    "negation elsewhere": lambda text, _: NOT + text,
}
"""Ways to change a text but not its label, by name; the last two add English sentences that say nothing of the task."""


class RobustnessParams(Model):
    """How it is measured."""

    seed: Annotated[int, Field(ge=0)] = 0
    n_resamples: Annotated[int, Field(ge=1)] = N_RESAMPLES


class Perturbed(Part):
    """What one perturbation does."""

    name: str
    accuracy: Estimate
    change: Estimate
    """Accuracy on perturbed minus unperturbed rows, paired."""
    example: str
    """A text that was answered right before and is not after; empty when there is none."""


class Robustness(JsonResult):
    """What all of them do."""

    file: ClassVar[str] = "robustness.json"

    n: int
    """Gold rows asked: all, or the first thousand."""
    perturbed: tuple[Perturbed, ...]

    @property
    def summary(self) -> str:
        """One line for a person."""
        if not self.perturbed:
            return "no gold rows to perturb"
        worst = min(self.perturbed, key=lambda one: one.change.value)
        return f"worst: {worst.name}, {100 * worst.change.value:+.1f} points on {self.n:,} rows"


def probe_robustness(params: RobustnessParams, *, exported: Exported, rows: Rows) -> Robustness:
    """Ask the exported folder about gold rows as they are and perturbed.

    Args:
        params: Seed and number of resamples.
        exported: What to ask.
        rows: Gold rows.

    Returns:
        Accuracy under each perturbation, and the change with its paired 95% bootstrap interval.
    """
    texts, labels = list(rows.kept["text"][:MOST_ROWS]), list(rows.kept["label"][:MOST_ROWS])
    if not texts:
        return Robustness(n=0, perturbed=())
    n_steps = len(PERTURBATIONS) + 1
    emit(Progressed(ROBUSTNESS.name, 0, n_steps, "perturbations"))
    with exported.on_disk() as folder:
        predictor = Predictor(folder)
        column = {label: position for position, label in enumerate(predictor.labels)}
        gold = np.array([column[label] for label in labels], dtype=np.int64)
        before = _answers(predictor, texts)
        perturbed = []
        for step, (name, change) in enumerate(PERTURBATIONS.items(), start=1):
            rng = np.random.default_rng([params.seed, step])
            changed = [change(text, rng) for text in texts]
            perturbed.append(_compare(name, gold, before, _answers(predictor, changed), changed, params))
            emit(Progressed(ROBUSTNESS.name, step + 1, n_steps, "perturbations"))
    return Robustness(n=len(texts), perturbed=tuple(perturbed))


ROBUSTNESS: Stage[Robustness] = Stage("robustness", 1, RobustnessParams, probe_robustness, Robustness)


def _answers(predictor: Predictor, texts: Sequence[str]) -> Columns:
    answers: Columns = predictor.predict_proba(texts).argmax(axis=1)
    return answers


def _compare(
    name: str, gold: Columns, before: Columns, after: Columns, texts: Sequence[str], params: RobustnessParams
) -> Perturbed:
    again = {"seed": params.seed, "n_resamples": params.n_resamples}
    lost = np.flatnonzero((before == gold) & (after != gold))
    return Perturbed(
        name=name,
        accuracy=metrics.estimate("accuracy", gold, after, **again),
        change=metrics.paired_difference("accuracy", gold, after, before, **again),
        example=texts[lost[0]] if len(lost) else "",
    )
