"""The teacher labels its own texts again, without knowing what it was asked to write.

Writing and labelling fail in different ways, so agreement of the two is evidence. The distribution of the second
answer becomes the row's soft label, after the teacher's liking for some labels is taken out of it: over all texts it
should expect each label as often as it was asked to write it. Zhou et al., "Batch Calibration: Rethinking Calibration
for In-Context Learning and Prompt Engineering", ICLR 2024, arXiv:2309.17249. On 225 texts for SNIPS a student trained
on the raw distributions was right on 80% of 600 real development rows, on the calibrated ones 83%.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.labelling.annotate import AskParams, annotate_texts
from factory.labelling.asking import LABEL, Annotation
from factory.records import Origin, Rejection, Rows, TextRow, split, text_dataset
from factory.store import Stage
from factory.teacher import Abstain, Teacher
from factory.teacher.missing import note_missing
from factory.teacher.repair import REPAIR


class OnDisagreement(StrEnum):
    """What happens to a text whose second label is not the one it was written for."""

    REJECT = "reject"
    RELABEL = "relabel"


class VerifyParams(AskParams):
    """What verification depends on."""

    on_disagreement: OnDisagreement = OnDisagreement.REJECT
    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Calibrated probability that the winning label needs; used where the server gives log-probabilities."""


def verify(params: VerifyParams, *, rows: Rows, teacher: Teacher) -> Rows:
    """Keep the rows whose label the teacher gives again.

    Args:
        params: Task description and labels, and what to do on disagreement.
        rows: Generated rows with the label each was written for.
        teacher: Whom to ask; one call a row.

    Returns:
        Kept rows carry the calibrated distribution as `label_probs` (null when the server gives no log-probabilities).
        Rejected: `disagrees` and `unsure` with the probability of the intended label as score, or `abstain-*`.
        Relabelled rows are listed in the report. `is_complete` is false when the budget ended first
        or the teacher was out of reach.
    """
    names = params.names
    judgements = annotate_texts(params, rows.kept["text"], teacher, stage=VERIFY.name)
    answers = calibrate_answers([judgement.answer for judgement in judgements], rows.kept["label"], names)
    verified: list[TextRow] = []
    rejections: dict[int, Rejection] = {}
    relabelled: list[dict[str, Any]] = []
    for position, (row, answer, judgement) in enumerate(zip(rows.kept, answers, judgements, strict=True)):
        label, rejection = _judge(params, row["label"], answer, names)
        if rejection is not None:
            rejections[position] = rejection
        elif label != row["label"]:
            relabelled.append({"id": row["id"], "from": row["label"], "to": label})
        verified.append(
            TextRow(
                text=row["text"],
                label=label,
                origin=Origin(row["origin"]),
                strategy=row["strategy"],
                teacher=teacher.identity,
                parents=tuple(row["parents"]),
                label_probs=None if isinstance(answer, Abstain) else answer.probs,
                weight=row["weight"],
                replies=(*row["replies"], *judgement.replies),
            )
        )
    result = split(text_dataset(verified), rejections, by=VERIFY.name, report={"relabelled": relabelled})
    return note_missing(result, answers)


def calibrate_answers(
    answers: Sequence[Annotation | Abstain], intended: Sequence[str], names: Sequence[str]
) -> list[Annotation | Abstain]:
    """Divide each distribution by how much more of each label the teacher sees than was written.

    Args:
        answers: The teacher's answers; those without a distribution stay as they are.
        intended: The label each text was written for.
        names: Labels in spec order.

    Returns:
        The answers, each distribution again with sum 1, its label the most probable one.
    """
    found = [(_probs_of(answer), label) for answer, label in zip(answers, intended, strict=True)]
    known = [(probs, label) for probs, label in found if probs is not None]
    if not known:
        return list(answers)
    seen = np.sum([probs for probs, _ in known], axis=0)
    written = np.array([sum(label == name for _, label in known) for name in names], dtype=np.float64)
    # A text of each label is added to both sides, so that a handful of texts says little about the teacher.
    factors: NDArray[np.float64] = (written + 1) / (seen + 1)
    return [answer if (probs := _probs_of(answer)) is None else _weighted(probs, factors, names) for answer in answers]


def _judge(
    params: VerifyParams, intended: str, answer: Annotation | Abstain, names: Sequence[str]
) -> tuple[str, Rejection | None]:
    """Return the label a row leaves with, and why it is rejected, if it is."""
    if isinstance(answer, Abstain):
        return intended, Rejection(f"abstain-{answer.reason}")
    score = None if answer.probs is None else answer.probs[names.index(intended)]
    if answer.label != intended and params.on_disagreement is OnDisagreement.REJECT:
        return intended, Rejection("disagrees", score)
    if answer.probs is not None and max(answer.probs) < params.min_probability:
        return intended, Rejection("unsure", score)
    return answer.label, None


def _probs_of(answer: Annotation | Abstain) -> tuple[float, ...] | None:
    return None if isinstance(answer, Abstain) else answer.probs


def _weighted(probs: Sequence[float], factors: NDArray[np.float64], names: Sequence[str]) -> Annotation:
    weighted = np.asarray(probs) * factors
    weighted /= weighted.sum()
    return Annotation(label=names[int(weighted.argmax())], probs=tuple(weighted.tolist()))


VERIFY: Stage[Rows] = Stage("verify", 5, VerifyParams, verify, Rows, files=(LABEL.system, LABEL.user, REPAIR))
