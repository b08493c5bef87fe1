"""The teacher labels its own texts again, without knowing what it was asked to write.

Writing and labelling fail in different ways, so agreement of the two is evidence. The distribution of the second
answer becomes the row's soft label.
"""

from enum import StrEnum
from typing import Any

from factory.labelling.annotate import SYSTEM, USER, AnnotateParams, Annotation, annotate_texts, end_early, ran_out
from factory.records import Origin, Rejection, Rows, TextRow, split, text_dataset
from factory.store import Stage
from factory.teacher import Abstain, Teacher


class OnDisagreement(StrEnum):
    """What happens to a text whose second label is not the one it was written for."""

    REJECT = "reject"
    RELABEL = "relabel"


class VerifyParams(AnnotateParams):
    """What verification depends on."""

    on_disagreement: OnDisagreement = OnDisagreement.REJECT


def verify(params: VerifyParams, *, rows: Rows, teacher: Teacher) -> Rows:
    """Keep the rows whose label the teacher gives again.

    Args:
        params: Task description and labels, and what to do on disagreement.
        rows: Generated rows with the label each was written for.
        teacher: Whom to ask; one call a row.

    Returns:
        Kept rows carry the teacher's distribution as `label_probs` (null when the server gives no log-probabilities).
        Rejected: `disagrees` with the probability of the intended label as score, or `abstain-*`. Relabelled rows are
        listed in the report. `is_complete` is false when the budget ended first.
    """
    answers = annotate_texts(params, rows.kept["text"], teacher, stage=VERIFY.name)
    verified: list[TextRow] = []
    rejections: dict[int, Rejection] = {}
    relabelled: list[dict[str, Any]] = []
    names = tuple(label.name for label in params.labels)
    for position, (row, answer) in enumerate(zip(rows.kept, answers, strict=True)):
        label, probs = row["label"], None
        if isinstance(answer, Abstain):
            rejections[position] = Rejection(f"abstain-{answer.reason}")
        else:
            probs = answer.probs
            if answer.label != row["label"]:
                if params.on_disagreement is OnDisagreement.REJECT:
                    rejections[position] = Rejection("disagrees", _intended(answer, row["label"], names))
                else:
                    label = answer.label
                    relabelled.append({"id": row["id"], "from": row["label"], "to": answer.label})
        verified.append(
            TextRow(
                text=row["text"],
                label=label,
                origin=Origin(row["origin"]),
                strategy=row["strategy"],
                teacher=teacher.identity,
                parents=tuple(row["parents"]),
                label_probs=probs,
                weight=row["weight"],
            )
        )
    result = split(text_dataset(verified), rejections, by=VERIFY.name, report={"relabelled": relabelled})
    return end_early(result) if ran_out(answers) else result


def _intended(answer: Annotation, label: str, names: tuple[str, ...]) -> float | None:
    """Return the probability the teacher gave to the label the text was written for."""
    return None if answer.probs is None else answer.probs[names.index(label)]


VERIFY: Stage[Rows] = Stage("verify", 1, VerifyParams, verify, Rows, files=(SYSTEM, USER))
