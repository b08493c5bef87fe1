"""What every strategy is given, and what becomes of the replies it gets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from factory.events import Progressed, emit
from factory.records import Origin, Rejection, Rows, TextRow, split, text_dataset
from factory.spec import Label, Model
from factory.store import Stage
from factory.synthesis.parse import is_refusal, texts_in
from factory.teacher import Abstain, Reply, Request, Teacher
from factory.teacher.forecast import Forecast
from factory.teacher.missing import note_missing
from factory.teacher.repair import Answered, ask_and_read

MAX_CHARS = 4_000
"""A generated text longer than this is a reply that ran away."""


class WriteParams(Model):
    """What a strategy is asked to write, the same for all; `options` are the strategy's own."""

    description: str
    labels: tuple[Label, ...]
    wanted: tuple[Annotated[int, Field(ge=0)], ...]
    """Texts to write for each label, in label order; some will be rejected later."""
    round: Annotated[int, Field(ge=0)]
    """Rounds ask for different texts, not for the same ones again."""
    seed: int
    options: Model


@dataclass(frozen=True)
class Strategy:
    """An entry of `STRATEGIES`."""

    stage: Stage[Rows]
    options: type[Model]
    """The part of the stage's params that a spec may set."""
    forecast: Callable[[WriteParams], Forecast]
    """What a round is likely to cost."""


@dataclass(frozen=True)
class Asked:
    """One request of a strategy and the label it asks texts for."""

    label: str
    request: Request


def draw(params: WriteParams, label: Label) -> np.random.Generator:
    """Return a generator of its own for each label and round, so that one label's prompts never move another's."""
    return np.random.default_rng([params.seed, params.round, *label.name.encode()])


def write_all(asked: Sequence[Asked], teacher: Teacher, *, strategy: str) -> Rows:
    """Ask, and turn every line of every reply into a row.

    Args:
        asked: Requests with the label each asks texts for.
        teacher: Whom to ask.
        strategy: Name of the strategy, for rows and progress.

    Returns:
        Kept rows are synthetic, with the label they were written for. Rejected are refusals, texts that are too long,
        and replies that had no text twice (one row that holds what came instead). `is_complete` is false when the
        budget ended first or the teacher was out of reach.
    """
    n_done = n_texts = 0

    def count(_position: int, answer: Reply | Abstain) -> None:
        nonlocal n_done, n_texts
        n_done += 1
        n_texts += len(texts_in(answer)) if isinstance(answer, Reply) else 0
        emit(Progressed(strategy, n_done, len(asked), "calls", f"{n_texts:,} texts"))

    requests = [one.request for one in asked]
    most_tokens = max((request.max_tokens for request in requests), default=0)
    answers = ask_and_read(teacher, requests, _with_texts, most_tokens=most_tokens, on_reply=count)
    return rows_from([one.label for one in asked], answers, strategy=strategy, teacher=teacher.identity)


def _with_texts(reply: Reply) -> Reply | Abstain:
    """Pass on a reply with at least one text in which nobody declines."""
    texts = texts_in(reply)
    if not texts:
        return Abstain("no-text", reply.text)
    return Abstain("refusal", reply.text) if all(map(is_refusal, texts)) else reply


def rows_from(labels: Sequence[str], answers: Sequence[Answered[Reply]], *, strategy: str, teacher: str) -> Rows:
    """Turn answers into rows; see `write_all`."""
    rows: list[TextRow] = []
    rejections: dict[int, Rejection] = {}
    for label, answered in zip(labels, answers, strict=True):
        answer = answered.answer
        if isinstance(answer, Abstain) and answer.may_pass:
            continue  # not a row: it may still be written
        if isinstance(answer, Abstain):
            rejections[len(rows)] = Rejection(f"abstain-{answer.reason}")
            texts: Sequence[str] = [answer.raw.encode(errors="replace").decode()]  # half an emoji has no UTF-8
        else:
            texts = texts_in(answer)
        for text in texts:
            if len(text) > MAX_CHARS:
                rejections.setdefault(len(rows), Rejection("too-long", float(len(text))))
            elif is_refusal(text):
                rejections.setdefault(len(rows), Rejection("refusal"))
            row = TextRow(text[:MAX_CHARS], label, Origin.SYNTHETIC, strategy, teacher, replies=answered.replies)
            rows.append(row)
    return note_missing(split(text_dataset(rows), rejections, by=strategy), [one.answer for one in answers])
