"""The teacher labels texts: names with descriptions in the prompt, an `enum` schema around the answer.

How the teacher is asked decides everything. The prompt must ask for exactly what the schema then forces: one that ended
in `Label:` made the embedded model want a bare name where the schema put a quotation mark, and it was right on 0.42 of
100 AG News rows; asked for the label in double quotes, on 0.70 (docs/log.md).

The first tokens of a label usually tell it from all others, and a teacher that writes no more labels 1.4 times as many
texts a minute. Texts whose reply ends before that are asked again in full.
"""

import json
import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import Field

from factory.events import Progressed, emit
from factory.labelling.distribution import QUOTE, label_distribution, written
from factory.prompts import render
from factory.records import Origin, Rejection, Rows, TextRow, split, text_dataset
from factory.spec import Label, Model
from factory.store import Stage
from factory.teacher import Abstain, Message, Reply, Request, Teacher
from factory.teacher.forecast import n_shared
from factory.teacher.missing import note_missing
from factory.teacher.repair import REPAIR, Answered, ask_and_read

PROMPTS = Path(__file__).parent / "prompts"
SYSTEM = PROMPTS / "label_system.v2.jinja"
USER = PROMPTS / "label_user.v2.jinja"
TOP_LOGPROBS = 20
"""The most that OpenAI's own API reports."""
CHARS_PER_TOKEN = 4
"""Of label names, about; where they have more tokens than that, the teacher is asked twice."""


class AnnotateParams(Model):
    """What the labelling prompt depends on."""

    description: str
    labels: tuple[Label, ...]
    max_tokens: Annotated[int, Field(ge=1)] = 64
    """For a whole label, where its first tokens do not tell it from the others."""

    @property
    def names(self) -> tuple[str, ...]:
        """Label names in spec order."""
        return tuple(label.name for label in self.labels)


class Annotation(Model):
    """The teacher's label for one text, with the distribution where the server gave log-probabilities."""

    label: str
    probs: tuple[float, ...] | None


Judgement = Answered[Annotation]
"""What the teacher says of one text, and the replies it was read from."""


def annotate_texts(params: AnnotateParams, texts: Sequence[str], teacher: Teacher, *, stage: str) -> list[Judgement]:
    """Ask the teacher for the label of each text; once more where the reply names none.

    Args:
        params: Task description and labels.
        texts: What to label.
        teacher: Whom to ask; one call a text, as a rule.
        stage: Name under which progress is reported.

    Returns:
        One judgement a text, in order.
    """
    answered: set[int] = set()

    def count(position: int, _answer: Reply | Abstain) -> None:
        answered.add(position)
        emit(Progressed(stage, len(answered), len(texts), "labels"))

    requests = label_requests(params, texts, n_tokens=telling_tokens(params.names))
    read = partial(parse_label, labels=params.names)
    return ask_and_read(teacher, requests, read, most_tokens=params.max_tokens, on_reply=count)


def telling_tokens(names: Sequence[str]) -> int:
    """Guess how many tokens of a reply tell each label from all others, the quotation mark included."""
    spelled = sorted(written(name) for name in names)
    # In sorted order the longest prefix that two labels share is one of two neighbours.
    shared = max(n_shared(one, other) for one, other in pairwise(spelled))
    return 1 + math.ceil((shared + 1 - len(QUOTE)) / CHARS_PER_TOKEN)


def label_requests(params: AnnotateParams, texts: Sequence[str], *, n_tokens: int) -> list[Request]:
    """Write the labelling prompt of each text; all share the system message, so a server computes it once."""
    labels = [{"quoted": written(label.name), "phrase": label.phrase} for label in params.labels]
    system = Message("system", render(SYSTEM, description=params.description, labels=labels))
    schema = {"type": "string", "enum": list(params.names)}
    return [
        Request(
            messages=(system, Message("user", render(USER, text=text))),
            max_tokens=n_tokens,
            schema=schema,
            top_logprobs=TOP_LOGPROBS,
        )
        for text in texts
    ]


def parse_label(reply: Reply, labels: Sequence[str]) -> Annotation | Abstain:
    """Read a label from a reply, whole or cut off where only one label begins so; anything else is an abstention."""
    if reply.finish_reason == "length":
        meant = [label for label in labels if written(label).startswith(reply.text)]
        if len(meant) != 1:
            return Abstain("truncated", reply.text)
        return Annotation(label=meant[0], probs=label_distribution(reply.logprobs, labels))
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
        Kept rows are silver. `is_complete` is false when the budget ended first or the teacher was out of reach.
    """
    judgements = annotate_texts(params, rows.kept["text"], teacher, stage=ANNOTATE.name)
    labelled, rejections = [], {}
    for position, (row, judgement) in enumerate(zip(rows.kept, judgements, strict=True)):
        answer = judgement.answer
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
                replies=(*row["replies"], *judgement.replies),
            )
        )
    result = split(text_dataset(labelled), rejections, by=ANNOTATE.name)
    return note_missing(result, [judgement.answer for judgement in judgements])


ANNOTATE: Stage[Rows] = Stage("annotate", 5, AnnotateParams, annotate, Rows, files=(SYSTEM, USER, REPAIR))
