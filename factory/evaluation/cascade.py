"""The cascade of a task: its tiers, their thresholds, what is promised of them, and how they fare.

How thresholds are chosen: `factory.evaluation.thresholds`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.errors import FactoryError
from factory.evaluation import metrics
from factory.evaluation.metrics import Estimate
from factory.evaluation.policies import NEVER, Cascades, Ints, Tier
from factory.evaluation.promise import promise_of, rows_needed
from factory.evaluation.result import JsonResult, Number, Part
from factory.evaluation.thresholds import Search, search
from factory.evaluation.verification import NOTHING_SAID, UNVERIFIED, Verification
from factory.records import ABSTAIN, MAY_PASS, Predictions, Rows
from factory.spec import CascadeSpec, Model
from factory.spec_release import TEACHER_TIER
from factory.store import Stage


class TierRule(Part):
    """A tier in the order of asking."""

    name: str
    threshold: Number | None
    """It answers where its calibrated probability is at least this; null for the last, which answers the rest. Where
    the last has one, nobody answers what is below."""
    share: Number
    """Of the test rows, those it answered."""


class CurvePoint(Part):
    """Some thresholds, and what they give on the test rows, by which they were not chosen."""

    thresholds: tuple[Number | None, ...]
    """One for each tier but the last, and for that too where it verifies its answers; null where it never answers."""
    last_share: Number
    """Of the test rows, those that reach the last tier."""
    accuracy: Estimate
    """On the rows that are answered."""
    p_value: Number | None
    """Of the hypothesis that these thresholds break the promise; null where the testing had ended before."""
    is_certified: bool


class CascadeChoice(JsonResult):
    """A cascade with its promise, and how it fared on the rows that tested it."""

    file: ClassVar[str] = "cascade.json"

    rule: tuple[TierRule, ...]
    """Tiers that answer something; where nothing was certified, the last tier alone."""
    is_certified: bool
    promise: str
    """In words, with what it assumes."""
    delta: Number
    truth: Literal["gold", "teacher"]
    """Whose labels the rows have."""
    n_design: int
    n_test: int
    n_needed: int
    """Rows in all without which no thresholds could be certified, even if none erred."""
    accuracy: Estimate
    last_share: Estimate
    abstained: Estimate | None = None
    """Of the test rows, the share that nobody answers; accuracy is of the others. Null where nothing is verified."""
    versus_best: Estimate
    """Accuracy minus that of the best tier, on the same test rows."""
    tiers: dict[str, Estimate]
    """Accuracy of each tier alone, on the test rows."""
    curve: tuple[CurvePoint, ...]
    """From the cheapest to the dearest."""
    verification: Verification | None = None
    """What makes a confidence of the last tier's verification; null where nothing is verified."""

    @property
    def calls_teacher(self) -> bool:
        """Whether a text may reach the teacher."""
        return self.rule[-1].name == TEACHER_TIER

    @property
    def summary(self) -> str:
        """One line for a person."""
        tiers = ", ".join(f"{one.name} {100 * one.share:.0f} %" for one in self.rule)
        tiers += "" if self.abstained is None else f", nobody {100 * self.abstained.value:.0f} %"
        kind = "certified" if self.is_certified else "not certified"
        return f"{tiers}: accuracy {self.accuracy.value:.3f}, {kind} on {self.n_test:,} rows"


class CascadeParams(Model):
    """What the choice depends on besides rows and answers."""

    labels: tuple[str, ...]
    goal: CascadeSpec
    truth: Literal["gold", "teacher"]
    seed: Annotated[int, Field(ge=0)] = 0


def choose_thresholds(
    tiers: Sequence[Tier], goal: CascadeSpec, *, truth: Literal["gold", "teacher"] = "gold", seed: int = 0
) -> CascadeChoice:
    """Choose thresholds as `search` does, and say what they give; `truth` is whose labels say what is right."""
    found = search(tiers, goal, seed=seed)
    cascades, test = found.cascades, found.test
    return CascadeChoice(
        rule=_rule(cascades, found.chosen, test),
        is_certified=bool(found.certified),
        promise=promise_of(goal, [tier.name for tier in tiers], truth),
        delta=goal.delta,
        truth=truth,
        n_design=len(found.design),
        n_test=len(test),
        n_needed=rows_needed(goal),
        **_measured(cascades, found.chosen, test),
        curve=tuple(_point(found, policy, goal) for policy in found.frontier),
        verification=found.verification,
    )


def _rule(cascades: Cascades, policy: int, test: Ints) -> tuple[TierRule, ...]:
    """Leave out tiers that never answer, and those that nothing reaches."""
    answered, _ = cascades.answers(policy, test)
    thresholds = [*cascades.thresholds[policy].tolist(), 0.0]
    last = min(thresholds.index(0.0), len(cascades.tiers) - 1)
    return tuple(
        TierRule(
            name=cascades.tiers[position].name,
            threshold=None if thresholds[position] == 0 else thresholds[position],
            share=float((answered == position).mean()),
        )
        for position in range(last + 1)
        if thresholds[position] != NEVER
    )


def _measured(cascades: Cascades, policy: int, test: Ints) -> dict[str, Estimate | dict[str, Estimate] | None]:
    (answered, is_right), n_tiers = cascades.answers(policy, test), len(cascades.tiers)
    alone = {tier.name: tier.is_right[test].astype(np.int64) for tier in cascades.tiers}
    every = np.ones(len(test), dtype=np.int64)
    given = answered < n_tiers if (answered < n_tiers).any() else every.astype(bool)  # else all of them count as wrong
    right = is_right[given].astype(np.int64)
    best = max((one[given] for one in alone.values()), key=lambda one: int(one.sum()))
    may_abstain = cascades.thresholds.shape[1] == n_tiers

    def share(rows: NDArray[np.bool_]) -> Estimate:
        return metrics.estimate("accuracy", every, rows.astype(np.int64), seed=0)

    return {
        "accuracy": metrics.estimate("accuracy", every[given], right, seed=0),
        "last_share": share(answered >= n_tiers - 1),
        "abstained": share(answered == n_tiers) if may_abstain else None,
        "versus_best": metrics.paired_difference("accuracy", every[given], right, best, seed=0),
        "tiers": {name: metrics.estimate("accuracy", every, one, seed=0) for name, one in alone.items()},
    }


def _point(found: Search, policy: int, goal: CascadeSpec) -> CurvePoint:
    cascades, test = found.cascades, found.test
    (answered, is_right), n_tiers = cascades.answers(policy, test), len(cascades.tiers)
    given = answered < n_tiers if (answered < n_tiers).any() else np.ones(len(test), dtype=bool)
    right = is_right[given].astype(np.int64)
    return CurvePoint(
        thresholds=tuple(None if one == NEVER else one for one in cascades.thresholds[policy].tolist()),
        last_share=float((answered >= n_tiers - 1).mean()),
        accuracy=metrics.estimate("accuracy", np.ones(len(right), dtype=np.int64), right, seed=0),
        p_value=found.p_values.get(policy),
        is_certified=policy in found.certified,
    )


def cascade(
    params: CascadeParams,
    *,
    rows: Rows,
    teacher: Rows | None = None,
    verified: Rows | None = None,
    **predictions: Predictions,
) -> CascadeChoice:
    """Choose the thresholds of a task's cascade.

    Args:
        params: Labels and the promise.
        rows: Rows that no tier was fitted on, with the labels that `params.truth` names.
        teacher: What the teacher says to these rows, where it is a tier. Rows it may answer another time are left out;
            where it has no usable answer, it counts as wrong.
        verified: What it says of these answers (`factory.labelling.self_verify`), where they are verified. Again rows
            are left out that it may still say something of; where that is of no use, it is never sure enough.
        **predictions: Calibrated answers of each student that is a tier, found by row id.

    Returns:
        The thresholds.

    Raises:
        FactoryError: A tier lacks answers to a row, or there are too few rows.
    """
    label = dict(zip(rows.kept["id"], rows.kept["label"], strict=True))
    said: dict[str, str | None] = {}
    yes: dict[str, float] = {}
    if TEACHER_TIER in params.goal.tiers:
        if teacher is None:
            raise FactoryError("cascade: the teacher is a tier, and its answers were not handed in")
        said |= dict(zip(teacher.kept["id"], teacher.kept["label"], strict=True))
        said |= dict.fromkeys(_unusable(teacher))
        if params.goal.self_verification:
            yes = _yes_of(verified)
            said = {row_id: answer for row_id, answer in said.items() if answer is None or row_id in yes}
        label = {row_id: gold for row_id, gold in label.items() if row_id in said}
    tiers = [
        _teacher_tier(said, label, yes) if name == TEACHER_TIER else _student_tier(name, predictions, label)
        for name in params.goal.tiers
    ]
    return choose_thresholds(tiers, params.goal, truth=params.truth, seed=params.seed)


def _unusable(asked: Rows) -> list[str]:
    """Return the rows whose answer is of no use; those that may be answered another time are not among them."""
    refused = zip(asked.rejected["id"], asked.rejected["reason"], strict=True)
    return [row_id for row_id, reason in refused if reason.removeprefix(ABSTAIN) not in MAY_PASS]


def _yes_of(verified: Rows | None) -> dict[str, float]:
    """Return the probability of yes of each row that was verified."""
    if verified is None:
        raise FactoryError("cascade: the teacher's answers are to be verified, and no verification was handed in")
    probs = zip(verified.kept["id"], verified.kept["label_probs"], strict=True)
    return {row_id: float(yes) for row_id, (yes, _) in probs} | dict.fromkeys(_unusable(verified), UNVERIFIED)


def _teacher_tier(said: Mapping[str, str | None], label: Mapping[str, str], yes: Mapping[str, float]) -> Tier:
    right = np.array([said[row_id] == gold for row_id, gold in label.items()], dtype=bool)
    sure = [NOTHING_SAID if said[row_id] is None else yes.get(row_id, 1.0) for row_id in label]
    return Tier(TEACHER_TIER, np.array(sure), right)


def _student_tier(name: str, predictions: Mapping[str, Predictions], label: Mapping[str, str]) -> Tier:
    if name not in predictions:
        raise FactoryError(f"cascade: expected the answers of the tier {name}, got {', '.join(predictions) or 'none'}")
    made = predictions[name]
    at = {row_id: position for position, row_id in enumerate(made.ids)}
    missing = [row_id for row_id in label if row_id not in at]
    if missing:
        raise FactoryError(f"cascade: {name} did not answer {len(missing)} of {len(label)} rows, such as {missing[0]}")
    probs = made.probs[[at[row_id] for row_id in label]].reshape(-1, len(made.labels))
    answers = [made.labels[column] for column in probs.argmax(axis=1)] if len(probs) else []
    right = np.array([answer == gold for answer, gold in zip(answers, label.values(), strict=True)], dtype=bool)
    return Tier(name, probs.max(axis=1, initial=0.0), right)


CASCADE: Stage[CascadeChoice] = Stage("cascade", 2, CascadeParams, cascade, CascadeChoice)
