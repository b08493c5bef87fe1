"""What every strategy is given, and what becomes of the replies it gets."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from factory.events import Progressed, emit
from factory.records import Origin, Rejection, Rows, TextRow, split, text_dataset
from factory.spec import Label, Model
from factory.store import Stage
from factory.synthesis.parse import is_refusal, texts_in
from factory.synthesis.style import Style
from factory.teacher import Abstain, Reply, Request, Teacher
from factory.teacher.forecast import Forecast
from factory.teacher.missing import note_missing
from factory.teacher.repair import Answered, ask_and_read
from factory.texts import fold

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

    @property
    def wanted_labels(self) -> tuple[Label, ...]:
        """The labels that texts are wanted of."""
        return tuple(label for label, wanted in zip(self.labels, self.wanted, strict=True) if wanted)


@dataclass(frozen=True)
class Strategy:
    """An entry of `STRATEGIES`."""

    stage: Stage[Rows]
    options: type[Model]
    """The part of the stage's params that a spec may set."""
    forecast: Callable[[WriteParams], Forecast]
    """What a round is likely to cost."""
    takes_real: bool = False
    """The stage may be handed real rows (`real`, and an `encoder` to search them with) to show and to sound like."""
    takes_focus: bool = False
    """The stage may be handed what a student finds hard (`focus`, from `synthesis.focus`), to write more of it."""
    needs_encoder: Callable[[Any], bool] = lambda _options: False
    """Whether the stage needs an `encoder` with such options, real rows or none."""


@dataclass(frozen=True)
class Shown:
    """A row that a request shows."""

    id: str
    text: str


@dataclass(frozen=True)
class Asked:
    """One request of a strategy and the label it asks texts for."""

    label: str
    request: Request
    shown: tuple[Shown, ...] = ()
    """The rows it shows: parents of what comes back, and not to be repeated by it."""


TextsIn = Callable[[Reply], tuple[str, ...]]
"""Reads the texts of a reply; empty when it cannot be used."""


def draw(params: WriteParams, label: Label) -> np.random.Generator:
    """Return a generator of its own for each label and round, so that one label's prompts never move another's."""
    return np.random.default_rng([params.seed, params.round, *label.name.encode()])


def write_all(
    asked: Sequence[Asked],
    teacher: Teacher,
    *,
    strategy: str,
    origin: Origin = Origin.SYNTHETIC,
    read: TextsIn = texts_in,
    style: Style | None = None,
) -> Rows:
    """Ask, and turn every line of every reply into a row.

    Args:
        asked: Requests with the label each asks texts for.
        teacher: Whom to ask.
        strategy: Name of the strategy, for rows and progress.
        origin: Who made such rows.
        read: Reads the texts of a reply.
        style: How real texts look, where that is known: then texts get their casing, and the report says how many.

    Returns:
        Kept rows have the label they were written for. Rejected are refusals, texts that are too long, copies of a row
        that was shown, and replies that had no text twice (one row that holds what came instead). `is_complete` is
        false when the budget ended first or the teacher was out of reach.
    """
    n_done = n_texts = 0

    def count(_position: int, answer: Reply | Abstain) -> None:
        nonlocal n_done, n_texts
        n_done += 1
        n_texts += len(read(answer)) if isinstance(answer, Reply) else 0
        emit(Progressed(strategy, n_done, len(asked), "calls", f"{n_texts:,} texts"))

    def with_texts(reply: Reply) -> Reply | Abstain:
        """Pass on a reply with at least one text in which nobody declines."""
        texts = read(reply)
        if not texts:
            # What `read` cannot use may still be an assistant declining: the teacher is told which.
            refused = any(map(is_refusal, texts_in(reply)))
            return Abstain("refusal" if refused else "no-text", reply.text)
        return Abstain("refusal", reply.text) if all(map(is_refusal, texts)) else reply

    requests = [one.request for one in asked]
    most_tokens = max((request.max_tokens for request in requests), default=0)
    answers = ask_and_read(teacher, requests, with_texts, most_tokens=most_tokens, on_reply=count)
    found: list[tuple[TextRow, Rejection | None]] = []
    for one, answered in zip(asked, answers, strict=True):
        found += _rows_from(one, answered, read, TextRow("", one.label, origin, strategy, teacher.identity))
    rejections = {position: why for position, (_, why) in enumerate(found) if why is not None}
    rows, report = [row for row, _ in found], dict[str, Any]()
    if style is not None:
        recased = [row if why else replace(row, text=style.in_casing(row.text)) for row, why in found]
        n_recased = sum(one.text != other.text for one, other in zip(rows, recased, strict=True))
        rows, report = recased, {"style": {**style.model_dump(mode="json"), "n_recased": n_recased}}
    made = split(text_dataset(rows), rejections, by=strategy, report=report)
    return note_missing(made, [one.answer for one in answers])


def _rows_from(
    asked: Asked, answered: Answered[Reply], read: TextsIn, blank: TextRow
) -> list[tuple[TextRow, Rejection | None]]:
    """Turn one answer into rows, each with why it is rejected, if it is."""
    answer = answered.answer
    blank = replace(blank, parents=tuple(row.id for row in asked.shown), replies=answered.replies)
    if isinstance(answer, Abstain):
        if answer.may_pass:
            return []  # not a row: it may still be written
        raw = answer.raw.encode(errors="replace").decode()  # half an emoji has no UTF-8
        return [(replace(blank, text=raw[:MAX_CHARS]), Rejection(f"abstain-{answer.reason}"))]
    shown = {fold(row.text) for row in asked.shown}
    return [(replace(blank, text=text[:MAX_CHARS]), _fault_of(text, shown)) for text in read(answer)]


def _fault_of(text: str, shown: Collection[str]) -> Rejection | None:
    """Return why a text cannot be a row; `shown` are folded."""
    if len(text) > MAX_CHARS:
        return Rejection("too-long", float(len(text)))
    if is_refusal(text):
        return Rejection("refusal")
    return Rejection("copy") if fold(text) in shown else None
