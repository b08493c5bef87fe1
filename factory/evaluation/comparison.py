"""Which student is released, and how it compares with the teacher, the baselines and the ceiling on gold rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from factory.errors import FactoryError
from factory.evaluation import metrics
from factory.evaluation.bounds import paired_p_value
from factory.evaluation.calibration import Calibration
from factory.evaluation.metrics import ABSTAINED, N_RESAMPLES, Columns, Estimate, Figure, Proba
from factory.evaluation.verdict import STUDENT, TEACHER, WHO, ConfusedPair, Contender, Difference, Evaluation, Regime
from factory.records import ABSTAIN, MAY_PASS, Predictions, Rows, texts_of
from factory.spec import Model
from factory.store import Stage

N_PAIRS, N_EXAMPLES = 10, 3


def choose(
    calibrations: Mapping[str, Calibration], *, preference: Sequence[str] = (), figure: Figure = "macro_f1"
) -> str:
    """Choose the student to release by its out-of-fold figures.

    The rule of one standard error (Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3): of all
    students within one standard error of the best, the first in the order of preference.

    Args:
        calibrations: Out-of-fold figures of each student.
        preference: Names, dearest first: the smaller and faster before the larger. Default: the order of
            `calibrations`, which is the order of the spec. Students it leaves out come last.
        figure: What is compared.

    Returns:
        The name of one student.

    Raises:
        FactoryError: There is none to choose from.
    """
    if not calibrations:
        raise FactoryError("choose: there are no students to choose from", hint="name at least one in the spec")
    figures: dict[str, Estimate] = {name: getattr(one, figure) for name, one in calibrations.items()}
    best = max(figures.values(), key=lambda estimate: estimate.value)
    enough = best.value - best.standard_error
    order = [*preference, *calibrations]
    return min((name for name in figures if figures[name].value >= enough), key=order.index)


class EvaluateParams(Model):
    """What the evaluation depends on besides rows and predictions."""

    labels: tuple[str, ...]
    """Spec order."""
    champion: str
    """Name of the student that was released."""
    regime: Regime = Regime.Z0
    seed: Annotated[int, Field(ge=0)] = 0
    n_resamples: Annotated[int, Field(ge=1)] = N_RESAMPLES
    margin: Annotated[float, Field(ge=0, le=1)] = 0.02
    """The student counts as no worse than the teacher when its accuracy is surely less than this below."""


@dataclass(frozen=True)
class _Answers:
    """What a contender said to some of the rows."""

    at: Columns
    """Positions of the rows it answered, ascending."""
    predicted: Columns
    """Its answers, -1 for an abstention."""
    proba: Proba | None = None


def evaluate(
    params: EvaluateParams,
    *,
    holdout: Rows | None = None,
    rows: Rows | None = None,
    teacher: Rows | None = None,
    **predictions: Predictions,
) -> Evaluation:
    """Compare the released student with everyone else.

    Args:
        params: Labels, regime, seed and margin.
        holdout: Gold rows; the only place where their labels are read.
        rows: Without a holdout: the synthetic rows that the predictions were made for, out of fold.
        teacher: Rows that the teacher labelled when asked directly, those on which it abstained among the rejected;
            it may have been asked a sample only.
        **predictions: By contender: `student` is the released artifact; others may be the other students,
            `nearest-description`, `majority`, `real-rows` and `ceiling`. Found by row id.

    Returns:
        All figures with 95% bootstrap intervals; same input, same bytes.

    Raises:
        FactoryError: There are no labelled rows, no `student`, or a contender lacks a row or a label.
    """
    examined = holdout if holdout is not None else rows
    if examined is None or not len(examined.kept):
        raise FactoryError("evaluate: there are no labelled rows", hint="hand in a holdout, or out-of-fold rows")
    if STUDENT not in predictions:
        raise FactoryError(f"evaluate: expected predictions of `{STUDENT}`, got {', '.join(predictions) or 'none'}")
    gold = _columns(examined.kept["label"], params.labels, "a gold row")
    ids = examined.kept["id"][:]
    answers = {name: _from_predictions(name, predictions[name], ids, params) for name in _ordered(predictions)}
    asked = None if teacher is None else _from_teacher(teacher, ids, params)
    if asked is not None and len(asked.at):
        answers[TEACHER] = asked
    student = answers[STUDENT]
    counts = metrics.confusion(gold, student.predicted, len(params.labels))[:, :-1]
    return Evaluation(
        gold=holdout is not None,
        regime=params.regime,
        champion=params.champion,
        labels=params.labels,
        n_rows=len(gold),
        n_resamples=params.n_resamples,
        left_open={} if teacher is None else _left_open(teacher),
        contenders=tuple(_contender(name, one, gold, params) for name, one in answers.items()),
        differences=tuple(
            _difference(name, student, one, gold, params) for name, one in answers.items() if name != STUDENT
        ),
        label_scores=metrics.label_scores(gold, student.predicted, params.labels),
        confusion=tuple(tuple(line) for line in counts.tolist()),
        confused_pairs=_confused_pairs(gold, student.predicted, texts_of(examined.kept), params.labels),
        reliability=metrics.reliability(gold, student.proba) if student.proba is not None else (),
    )


def _ordered(predictions: Mapping[str, Any]) -> list[str]:
    """Put the released student first, then students by name, then whom they are compared with."""
    last = [name for name in WHO if name != STUDENT]
    return sorted(predictions, key=lambda name: (name != STUDENT, last.index(name) if name in last else -1, name))


def _columns(labels: Sequence[str | None], known: tuple[str, ...], what: str) -> Columns:
    column: dict[str | None, int] = {label: index for index, label in enumerate(known)}
    unknown = sorted({str(label) for label in labels if label not in column})
    if unknown:
        raise FactoryError(f"evaluate: expected labels {', '.join(known)}; {what} has {', '.join(unknown)}")
    return np.array([column[label] for label in labels], dtype=np.int64)


def _from_predictions(name: str, made: Predictions, ids: Sequence[str], params: EvaluateParams) -> _Answers:
    if made.labels != params.labels:
        expected, got = ", ".join(params.labels), ", ".join(made.labels)
        raise FactoryError(f"evaluate: expected columns {expected} from `{name}`, got {got}")
    at = {row_id: index for index, row_id in enumerate(made.ids)}
    missing = [row_id for row_id in ids if row_id not in at]
    if missing:
        raise FactoryError(f"evaluate: `{name}` did not answer {len(missing)} of {len(ids)} rows, such as {missing[0]}")
    proba = made.probs[[at[row_id] for row_id in ids]]
    return _Answers(np.arange(len(ids)), proba.argmax(axis=1), proba)


def _left_open(teacher: Rows) -> dict[str, int]:
    reasons = Counter(reason.removeprefix(ABSTAIN) for reason in teacher.rejected["reason"])
    return {reason: reasons[reason] for reason in sorted(MAY_PASS) if reasons[reason]}


def _from_teacher(teacher: Rows, ids: Sequence[str], params: EvaluateParams) -> _Answers:
    """Match the teacher's answers by row id; abstentions are answers without a label, unless they may pass."""
    labels = _columns(teacher.kept["label"], params.labels, f"an answer of the {TEACHER}")
    said = dict(zip(teacher.kept["id"], labels.tolist(), strict=True))
    said |= {
        row_id: ABSTAINED
        for row_id, reason in zip(teacher.rejected["id"], teacher.rejected["reason"], strict=True)
        if reason.removeprefix(ABSTAIN) not in MAY_PASS
    }
    strangers = sorted(said.keys() - set(ids))
    if strangers:
        what = f"{len(strangers)} rows that are not examined, such as {strangers[0]}"
        raise FactoryError(f"evaluate: the {TEACHER} answered {what}")
    at = [position for position, row_id in enumerate(ids) if row_id in said]
    soft = dict(zip(teacher.kept["id"], teacher.kept["label_probs"], strict=True))
    proba = [soft.get(ids[position]) for position in at]
    # One row without a distribution, and there is no log loss or calibration error to speak of.
    known = np.array(proba, dtype=np.float64) if at and all(proba) else None
    return _Answers(np.array(at, dtype=np.int64), np.array([said[ids[position]] for position in at]), known)


def _contender(name: str, answers: _Answers, gold: Columns, params: EvaluateParams) -> Contender:
    shown, again = gold[answers.at], {"seed": params.seed, "n_resamples": params.n_resamples}
    proba = answers.proba
    return Contender(
        name=name,
        what=WHO.get(name, "another student") + (f", {params.champion}" if name == STUDENT else ""),
        n=len(shown),
        n_abstained=int((answers.predicted == ABSTAINED).sum()),
        accuracy=metrics.estimate("accuracy", shown, answers.predicted, **again),
        macro_f1=metrics.estimate("macro_f1", shown, answers.predicted, **again),
        ece=None if proba is None else metrics.expected_calibration_error(shown, proba),
        log_loss=None if proba is None else metrics.log_loss(shown, proba),
        brier=None if proba is None else metrics.brier(shown, proba),
    )


ONE_SIDED = 0.025
"""Level of the test of no worse: the lower half of a 95 % interval."""


def _difference(name: str, student: _Answers, other: _Answers, gold: Columns, params: EvaluateParams) -> Difference:
    """Compare on the rows of the other: the student answered all."""
    shown, ours, theirs = gold[other.at], student.predicted[other.at], other.predicted
    again = {"seed": params.seed, "n_resamples": params.n_resamples}
    accuracy = metrics.paired_difference("accuracy", shown, ours, theirs, **again)
    # Of a few rows on which nobody errs the bootstrap draws the same again and again: an interval without width.
    n_worse = int(((ours != shown) & (theirs == shown)).sum())
    n_better = int(((ours == shown) & (theirs != shown)).sum())
    is_shown = paired_p_value(n_worse, n_better, len(shown), params.margin) <= ONE_SIDED
    return Difference(
        other=name,
        n=len(shown),
        student_accuracy=metrics.accuracy(shown, ours),
        other_accuracy=metrics.accuracy(shown, theirs),
        accuracy=accuracy,
        macro_f1=metrics.paired_difference("macro_f1", shown, ours, theirs, **again),
        mcnemar_p=metrics.mcnemar(shown, ours, theirs),
        margin=params.margin,
        is_non_inferior=accuracy.low > -params.margin and is_shown,
    )


def _confused_pairs(
    gold: Columns, predicted: Columns, texts: Sequence[str], labels: tuple[str, ...]
) -> tuple[ConfusedPair, ...]:
    """Return the pairs of labels confused most often, with the first texts of each."""
    found: dict[tuple[int, int], list[str]] = {}
    for right, answer, text in zip(gold.tolist(), predicted.tolist(), texts, strict=True):
        if right != answer:
            found.setdefault((right, answer), []).append(text)
    most = sorted(found, key=lambda pair: (-len(found[pair]), pair))[:N_PAIRS]
    return tuple(
        ConfusedPair(
            gold=labels[right],
            predicted=labels[answer],
            n=len(found[right, answer]),
            examples=tuple(found[right, answer][:N_EXAMPLES]),
        )
        for right, answer in most
    )


EVALUATE: Stage[Evaluation] = Stage("evaluate", 3, EvaluateParams, evaluate, Evaluation)
