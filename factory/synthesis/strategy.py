"""What every strategy is given and how its replies are read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from factory.records import Origin, Rejection, Rows, TextRow, split, text_dataset
from factory.spec import Label, Model
from factory.store import Stage
from factory.teacher import Abstain, Reply

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
    """An entry of `STRATEGIES`: a stage and the part of its params that a spec may set."""

    stage: Stage[Rows]
    options: type[Model]


@dataclass(frozen=True)
class Written:
    """One reply of a strategy and what it was asked for."""

    label: str
    answer: Reply | Abstain
    sources: tuple[str, ...] = ()
    """What the prompt drew, such as attribute values; kept for the report."""


def draw(params: WriteParams, label: Label) -> np.random.Generator:
    """Return a generator of its own for each label and round, so that one label's prompts never move another's."""
    words = [params.seed, params.round, *label.name.encode()]
    return np.random.default_rng(words)


def rows_from(
    written: Iterable[Written], texts_of: Sequence[tuple[str, ...]], *, strategy: str, teacher: str
) -> Rows:
    """Turn parsed replies into rows, one a text.

    Args:
        written: Replies with the label each was asked for.
        texts_of: The texts read from each reply, same order; empty for a reply that gave none.
        strategy: Name of the strategy.
        teacher: Identity of the teacher.

    Returns:
        Kept rows are synthetic, with the label they were written for. A reply without a text becomes one rejected row
        that holds what came instead. `is_complete` is false when the budget ended first.
    """
    rows: list[TextRow] = []
    rejections: dict[int, Rejection] = {}
    out_of_budget = False
    for item, texts in zip(written, texts_of, strict=True):
        if isinstance(item.answer, Abstain) and item.answer.reason == "budget":
            out_of_budget = True
            continue
        if not texts:
            rejections[len(rows)] = Rejection(_why_empty(item.answer))
        raw = item.answer.raw if isinstance(item.answer, Abstain) else item.answer.text
        for text in texts or (raw,):
            if len(text) > MAX_CHARS:
                rejections[len(rows)] = Rejection("too-long", float(len(text)))
            rows.append(TextRow(text[:MAX_CHARS], item.label, Origin.SYNTHETIC, strategy, teacher))
    report = {"stopped": "budget"} if out_of_budget else {}
    result = split(text_dataset(rows), rejections, by=strategy, report=report)
    return Rows(result.kept, result.rejected, result.report, is_complete=not out_of_budget)


def _why_empty(answer: Reply | Abstain) -> str:
    return f"abstain-{answer.reason}" if isinstance(answer, Abstain) else "no-text-in-reply"


PROMPTS = Path(__file__).parent / "prompts"
