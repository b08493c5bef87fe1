"""The teacher labels texts: names with descriptions in the prompt, an `enum` schema around the answer.

How the teacher is asked decides everything. The prompt must ask for exactly what the schema then forces: one that ended
in `Label:` made the embedded model want a bare name where the schema put a quotation mark, and it was right on 0.42 of
100 AG News rows; asked for the label in double quotes, on 0.70 (docs/log.md).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from factory.events import Progressed, emit
from factory.labelling.distribution import label_distribution, written
from factory.prompts import render
from factory.records import Origin, Rejection, Rows, TextRow, split, text_dataset
from factory.spec import Label, Model
from factory.store import Stage
from factory.teacher import Abstain, Message, Reply, Request, Teacher, ask

PROMPTS = Path(__file__).parent / "prompts"
SYSTEM = PROMPTS / "label_system.v2.jinja"
USER = PROMPTS / "label_user.v2.jinja"
TOP_LOGPROBS = 20
"""The most that OpenAI's own API reports."""


class AnnotateParams(Model):
    """What the labelling prompt depends on."""

    description: str
    labels: tuple[Label, ...]
    max_tokens: Annotated[int, Field(ge=1)] = 64


class Annotation(Model):
    """The teacher's label for one text, with the distribution where the server gave log-probabilities."""

    label: str
    probs: tuple[float, ...] | None


def annotate_texts(
    params: AnnotateParams, texts: Sequence[str], teacher: Teacher, *, stage: str
) -> list[Annotation | Abstain]:
    """Ask the teacher for the label of each text.

    Args:
        params: Task description and labels.
        texts: What to label.
        teacher: Whom to ask; one call a text.
        stage: Name under which progress is reported.

    Returns:
        One annotation or abstention a text, in order.
    """
    done = 0

    def count(_position: int, _answer: Reply | Abstain) -> None:
        nonlocal done
        done += 1
        emit(Progressed(stage, done, len(texts), "labels"))

    requests = label_requests(params, texts)
    names = tuple(label.name for label in params.labels)
    return [
        answer if isinstance(answer, Abstain) else parse_label(answer, names)
        for answer in ask(teacher, requests, on_reply=count)
    ]


def label_requests(params: AnnotateParams, texts: Sequence[str]) -> list[Request]:
    """Write the labelling prompt of each text; all share the system message, so a server computes it once."""
    labels = [{"quoted": written(label.name), "phrase": label.phrase} for label in params.labels]
    system = Message("system", render(SYSTEM, description=params.description, labels=labels))
    schema = {"type": "string", "enum": [label.name for label in params.labels]}
    return [
        Request(
            messages=(system, Message("user", render(USER, text=text))),
            max_tokens=params.max_tokens,
            schema=schema,
            top_logprobs=TOP_LOGPROBS,
        )
        for text in texts
    ]


def parse_label(reply: Reply, labels: Sequence[str]) -> Annotation | Abstain:
    """Read a label from a reply; anything but exactly one known label is an abstention with the raw text."""
    if reply.finish_reason == "length":
        return Abstain("truncated", reply.text)
    try:
        answer = json.loads(reply.text)
    except (ValueError, RecursionError):  # ten thousand opening brackets are valid enough to nest
        return Abstain("unparseable", reply.text)
    if answer not in labels:
        return Abstain("unknown-label", reply.text)
    return Annotation(label=answer, probs=label_distribution(reply.logprobs, labels))


def annotate(params: AnnotateParams, *, rows: Rows, teacher: Teacher) -> Rows:
    """Give each row the teacher's label; rows on which it abstains are rejected with the reason.

    Args:
        params: Task description and labels.
        rows: Any rows; labels they have are neither shown nor kept.
        teacher: Whom to ask; one call a row.

    Returns:
        Kept rows are silver. `is_complete` is false when the budget ended first.
    """
    answers = annotate_texts(params, rows.kept["text"], teacher, stage=ANNOTATE.name)
    labelled, rejections = [], {}
    for position, (row, answer) in enumerate(zip(rows.kept, answers, strict=True)):
        if isinstance(answer, Abstain):
            rejections[position] = Rejection(f"abstain-{answer.reason}")
        label, probs = (None, None) if isinstance(answer, Abstain) else (answer.label, answer.probs)
        labelled.append(
            TextRow(
                text=row["text"],
                label=label,
                origin=Origin.SILVER,
                teacher=teacher.identity,
                label_probs=probs,
            )
        )
    result = split(text_dataset(labelled), rejections, by=ANNOTATE.name)
    return end_early(result) if ran_out(answers) else result


def ran_out(answers: Sequence[object]) -> bool:
    """Tell whether the budget left some requests unanswered."""
    return any(isinstance(answer, Abstain) and answer.reason == "budget" for answer in answers)


def end_early(rows: Rows) -> Rows:
    """Mark rows as what a budget allowed, to be completed when it is raised."""
    return Rows(rows.kept, rows.rejected, {**rows.report, "stopped": "budget"}, is_complete=False)


ANNOTATE: Stage[Rows] = Stage("annotate", 2, AnnotateParams, annotate, Rows, files=(SYSTEM, USER))
