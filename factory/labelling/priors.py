"""The teacher judges columns instead of rows: what would it answer if it knew a single cell?

One short question an anchor point, answered with a label; the log-probabilities of the labels make a graded answer of
one call. What the teacher says of a column on average, such as a liking for one label, is taken out: only differences
between the points of a column count, so the questions are their own content-free calibration. Asked in several ways;
the median over them counts, and how far they are apart is kept as uncertainty.

Of a number that is to be predicted the question is whether it is higher or lower than usual.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.events import Progressed, emit
from factory.labelling.asking import MOST_LABEL_TOKENS, TOP_LOGPROBS, parse_label, telling_tokens
from factory.labelling.distribution import written
from factory.prompts import render
from factory.records import Rows
from factory.spec import Label, Model
from factory.spec_table import ColumnKind, Table
from factory.store import Stage
from factory.tables.points import QUANTILES, Anchors, anchors_of
from factory.tables.priors import LOWER_HIGHER, Point, Prior, Priors
from factory.teacher import Abstain, Message, Reply, Request, Teacher
from factory.teacher.forecast import Forecast, forecast
from factory.teacher.repair import REPAIR, ask_and_read

PROMPTS = Path(__file__).parent / "prompts"
SYSTEM = PROMPTS / "prior_system.v1.jinja"
USER = PROMPTS / "prior_user.v1.jinja"
NUMBER_SYSTEM = PROMPTS / "prior_number_system.v1.jinja"
NUMBER_USER = PROMPTS / "prior_number_user.v1.jinja"
MOST_LOGIT = 3.0
"""Effects are cut there: no single cell makes a label twenty times as likely, whatever a teacher says."""
MOST_GUESSED = 4
"""Values of a category of which nothing is known when a plan is made."""
LEAST_LOGIT = 1e-3
"""A curve smaller than this is none."""


class PriorsParams(Model):
    """What the questions depend on."""

    description: str
    table: Table
    n_wordings: Annotated[int, Field(ge=1, le=2)] = 2
    """How many orders of the labels each question is asked in."""

    @property
    def answers(self) -> tuple[Label, ...]:
        """What may be answered: the labels, or `lower` and `higher`."""
        return self.table.labels or tuple(Label(name=name) for name in LOWER_HIGHER)


@dataclass(frozen=True)
class _Question:
    """One anchor point, asked about in one wording."""

    column: int
    point: int
    wording: int
    request: Request


def judge_columns(params: PriorsParams, *, teacher: Teacher, rows: Rows | None = None) -> Priors:
    """Ask what each column tells about the label.

    Args:
        params: Description, columns and labels.
        teacher: Whom to ask; one short call an anchor point and wording.
        rows: Real rows that show which numbers and values there are; their labels are neither needed nor looked at.

    Returns:
        One prior a column. A column with answers for fewer than two points has weight 0 and says why. `is_complete` is
        false when answers are missing that may still come.
    """
    anchors = anchors_of(params.table, rows)
    questions = _questions(params, anchors)
    answered: set[int] = set()

    def count(position: int, _answer: Reply | Abstain) -> None:
        answered.add(position)
        emit(Progressed(PRIORS.name, len(answered), len(questions), "answers"))

    names = tuple(label.name for label in params.answers)
    judgements = ask_and_read(
        teacher,
        [one.request for one in questions],
        lambda reply: parse_label(reply, names),
        most_tokens=MOST_LABEL_TOKENS,
        on_reply=count,
    )
    logits = [np.full((params.n_wordings, len(one.points), len(names)), np.nan) for one in anchors]
    abstained = []
    for question, judgement in zip(questions, judgements, strict=True):
        if isinstance(judgement.answer, Abstain):
            abstained.append(judgement.answer)
            continue
        probs = judgement.answer.probs or _certain(judgement.answer.label, names)
        logits[question.column][question.wording, question.point] = np.log(probs)
    priors = tuple(_prior(one, found) for one, found in zip(anchors, logits, strict=True))
    reasons = {one.reason for one in abstained if one.may_pass}
    return Priors(
        names,
        priors,
        len(questions) - len(abstained),
        len(abstained),
        is_complete=not reasons,
        stopped="budget" if "budget" in reasons else "unavailable" if reasons else "",
    )


def forecast_priors(params: PriorsParams, rows: Rows | None = None, *, are_to_come: bool = False) -> Forecast:
    """Estimate what the questions would cost; where rows are to come, what only they can tell is guessed."""
    anchors = [_guessed(one) if are_to_come else one for one in anchors_of(params.table, rows)]
    questions = _questions(params, anchors)
    names = [label.name for label in params.answers]
    return forecast([one.request for one in questions], completion_tokens=telling_tokens(names))


def _guessed(anchors: Anchors) -> Anchors:
    """Return points that only rows could tell, for a plan that has none yet."""
    kind = anchors.column.kind
    n_points = len(QUANTILES) if kind.is_number else MOST_GUESSED if kind is ColumnKind.CATEGORY else 0
    is_open = not anchors.points and not anchors.column.protected
    return replace(anchors, points=("unknown",) * n_points) if is_open else anchors


def _questions(params: PriorsParams, anchors: Sequence[Anchors]) -> list[_Question]:
    """Write the questions, wording by wording and column by column: neighbours share most of their prompt."""
    labels = [{"quoted": written(label.name), "phrase": label.phrase} for label in params.answers]
    names = [label.name for label in params.answers]
    target = params.table.target
    asked_of = {"target": target.description or target.column.replace("_", " "), "unit": target.unit}
    system_prompt, user_prompt = (SYSTEM, USER) if params.table.labels else (NUMBER_SYSTEM, NUMBER_USER)
    found = []
    for wording in range(params.n_wordings):
        shown = labels[::-1] if wording else labels
        system = Message("system", render(system_prompt, description=params.description, labels=shown, **asked_of))
        for column, one in enumerate(anchors):
            for place, point in enumerate(one.points):
                phrase = one.column.phrase
                asked = render(user_prompt, phrase=phrase, usual=_usual(one), value=_shown(point), **asked_of)
                request = Request(
                    messages=(system, Message("user", asked)),
                    max_tokens=telling_tokens(names),
                    schema={"type": "string", "enum": list(names)},
                    top_logprobs=TOP_LOGPROBS,
                )
                found.append(_Question(column, place, wording, request))
    return found


def _shown(point: Point) -> str:
    return point if isinstance(point, str) else f"{point:.6g}"


def _usual(anchors: Anchors) -> str:
    """Say between what numbers a column usually lies, so that a single one can be called low or high."""
    numbers = anchors.points if anchors.column.kind.is_number else ()
    return f"{_shown(numbers[0])} to {_shown(numbers[-1])}" if numbers else ""


def _certain(label: str, names: Sequence[str]) -> tuple[float, ...]:
    """Stand in for a distribution where the server gives none: as sure as an effect can be."""
    odds = np.exp(MOST_LOGIT / 2)
    return tuple(float((odds if name == label else 1.0) / (odds + len(names) - 1)) for name in names)


def _prior(anchors: Anchors, logits: NDArray[np.float64]) -> Prior:
    """Make one curve of all answers about a column, shape (n_wordings, n_points, n_labels), NaN where none came."""
    name = anchors.column.name
    if not anchors.points:
        return Prior(name, (), (), 0.0, 0.0, anchors.note)
    is_said = np.asarray(~np.isnan(logits).any(axis=2))
    can_compare = is_said.sum(axis=1) >= 2
    if not can_compare.any():
        return Prior(name, (), (), 0.0, 0.0, "the teacher gave fewer than two usable answers")
    logits, is_said = logits[can_compare], is_said[can_compare]
    is_known, is_shared = is_said.any(axis=0), is_said.all(axis=0)
    logits = logits - logits.mean(axis=2, keepdims=True)
    # Each way of asking is compared with itself, over points that all have; what it leans to goes out with its mean.
    shared = is_said & is_shared if is_shared.any() else is_said
    level = np.array([one[said].mean(axis=0) for one, said in zip(logits, shared, strict=True)])
    curves = (logits - level[:, None])[:, is_known]
    effects = np.nanmedian(curves, axis=0)
    apart = float(np.nanmean(np.nanstd(curves, axis=0)))
    effects = np.clip(effects - effects.mean(axis=0), -MOST_LOGIT, MOST_LOGIT)
    size = float(np.sqrt(np.mean(effects**2)))
    if size < LEAST_LOGIT:
        return Prior(name, (), (), 0.0, round(apart, 4), "the teacher sees no difference")
    points = tuple(point for point, has in zip(anchors.points, is_known, strict=True) if has)
    told = tuple(tuple(round(float(one), 4) for one in row) for row in effects)
    # Ways of asking that agree leave a curve whole; differences as large as the curve itself halve it.
    return Prior(name, points, told, round(size**2 / (size**2 + apart**2), 4), round(apart, 4))


PROMPT_FILES = (SYSTEM, USER, NUMBER_SYSTEM, NUMBER_USER, REPAIR)
PRIORS: Stage[Priors] = Stage("priors", 3, PriorsParams, judge_columns, Priors, files=PROMPT_FILES)
