"""What all ways of varying real rows share: who is varied how often, and what becomes of the replies.

An augmenter makes requests from rows that people labelled. Every line of a reply becomes a row with the rows that were
shown as parents; copies of one of them are rejected. That a text kept its label and its meaning is for later stages to
find out (`labelling.verify`, `curation.meaning`).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from factory.encoders import Encoder
from factory.prompts import render
from factory.records import Origin, Rows
from factory.spec import Label, Model
from factory.store import Stage
from factory.synthesis.genre import PROMPTS, TASK
from factory.synthesis.likeness import in_line
from factory.synthesis.parse import texts_in
from factory.synthesis.strategy import Asked, Shown, TextsIn, write_all
from factory.synthesis.style import style_of
from factory.teacher import Message, Request, Teacher
from factory.teacher.forecast import CHARS_PER_TOKEN, Forecast, forecast
from factory.teacher.repair import REPAIR

if TYPE_CHECKING:
    from datasets import Dataset

SYSTEM = PROMPTS / "augment_system.v1.jinja"
DEMONSTRATIONS = PROMPTS / "augment.v1.yaml"
LEAST_TOKENS = 40
ROOM = 2.0
"""A text of a reply may have so many times the tokens of the longest row it was made from."""
MOST_CHARS = 3_000
"""A row that is varied alone is cut off after so many."""
TYPICAL_CHARS = 45
"""Of a row, for the forecast, which does not see them."""


class AugmentOptions(Model):
    """What a spec may set for any augmenter."""

    texts_per_call: Annotated[int, Field(ge=1, le=50)] = 4
    sampling_temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95


class AugmentParams(Model):
    """What augmenting depends on besides the rows; `options` are the augmenter's own."""

    description: str
    labels: tuple[Label, ...]
    per_label: Annotated[int, Field(ge=1)] | None = None
    """Texts to ask for from the rows of each label, or ..."""
    per_row: Annotated[int, Field(ge=1)] | None = None
    """... texts to ask for from each row."""
    seed: int
    options: Model

    @model_validator(mode="after")
    def _check_amount(self) -> Self:
        if (self.per_label is None) == (self.per_row is None):
            raise ValueError("expected one of per_label and per_row")
        return self

    def n_texts(self, n_rows: int) -> int:
        """Texts to ask for from so many rows of a label."""
        return (self.per_label or 0) * (n_rows > 0) if self.per_row is None else self.per_row * n_rows


@dataclass(frozen=True)
class Turn:
    """One request to come: the rows to show, all of one label, and the generator of their label."""

    label: Label
    rows: tuple[Shown, ...]
    rng: np.random.Generator
    sample: int


@dataclass(frozen=True)
class LabelRows:
    """The rows of one label."""

    label: Label
    rows: tuple[Shown, ...]


MakeRequests = Callable[[AugmentParams, Sequence[LabelRows], Encoder | None], list[Asked]]


@dataclass(frozen=True)
class Augmenter:
    """An entry of `AUGMENTERS`."""

    stage: Stage[Rows]
    options: type[AugmentOptions]
    requests: MakeRequests
    least_similarity: float
    """Cosine to the nearest parent below which a text has drifted away from what was asked for; -1: no bound."""
    needs_encoder: bool = False

    def forecast(self, params: AugmentParams, n_rows: int) -> Forecast:
        """Estimate the cost of varying so many rows, evenly spread over the labels."""
        rows = [Shown(str(number), "x" * TYPICAL_CHARS) for number in range(n_rows)]
        n_labels = len(params.labels)
        stand_in = [LabelRows(label, tuple(rows[number::n_labels])) for number, label in enumerate(params.labels)]
        requests = [one.request for one in self.requests(params, stand_in, None)]
        options: Any = params.options
        return forecast(requests, completion_tokens=options.texts_per_call * TYPICAL_CHARS / CHARS_PER_TOKEN)


def augmenter(
    name: str,
    requests: MakeRequests,
    *,
    template: Path,
    options: type[AugmentOptions] = AugmentOptions,
    least_similarity: float,
    read: TextsIn = texts_in,
    needs_encoder: bool = False,
) -> Augmenter:
    """Make an entry of `AUGMENTERS`.

    Args:
        name: Name of the strategy and its stage.
        requests: Makes its requests.
        template: Its prompt.
        options: What a spec may set.
        least_similarity: See `Augmenter`.
        read: Reads the texts of a reply.
        needs_encoder: Whether `requests` looks at meaning.

    Returns:
        The augmenter; its stage takes `rows`, `teacher` and, where needed, `encoder`.
    """

    def augment(params: AugmentParams, *, rows: Rows, teacher: Teacher, encoder: Encoder | None = None) -> Rows:
        by_label = rows_by_label(params, rows.kept)
        style = style_of(rows.kept["text"][:])
        asked = requests(params, by_label, encoder)
        return write_all(asked, teacher, strategy=name, origin=Origin.AUGMENTED, read=read, style=style)

    files = (SYSTEM, TASK, DEMONSTRATIONS, REPAIR, template)
    stage = Stage(name, 1, AugmentParams, augment, Rows, files=files)
    return Augmenter(stage, options, requests, least_similarity, needs_encoder)


def rows_by_label(params: AugmentParams, rows: "Dataset") -> list[LabelRows]:
    """Group rows by label, in the order of the task's labels; a text that comes twice counts once."""
    groups: dict[str, dict[str, Shown]] = {label.name: {} for label in params.labels}
    for row_id, text, label in zip(rows["id"], rows["text"], rows["label"], strict=True):
        groups[label].setdefault(row_id, Shown(row_id, text))
    return [LabelRows(label, tuple(groups[label.name].values())) for label in params.labels]


def turns(params: AugmentParams, by_label: Sequence[LabelRows], *, n_shown: int = 1) -> Iterator[Turn]:
    """Yield the requests to make: rows take turns in random order, none a second time before each had one.

    Args:
        params: How many texts are wanted.
        by_label: The rows; a label without any gets no turn.
        n_shown: Rows of one request; fewer where the label has fewer. Each request of several draws anew.

    Yields:
        As many turns for each label as its texts need, drawn from a generator of the label's own.
    """
    options: Any = params.options
    for one in by_label:
        rng = np.random.default_rng([params.seed, *one.label.name.encode()])
        waiting: list[int] = []
        for _ in range(math.ceil(params.n_texts(len(one.rows)) / options.texts_per_call)):
            if n_shown > 1:
                waiting = rng.permutation(len(one.rows)).tolist()
            waiting = waiting or rng.permutation(len(one.rows)).tolist()
            shown = tuple(one.rows[position] for position in waiting[:n_shown])
            del waiting[:n_shown]
            yield Turn(one.label, shown, rng, int(rng.integers(2**31)))


def ask_to_vary(
    name: str, template: Path, params: AugmentParams, turn: Turn, *, becomes: Label | None = None, **variables: Any
) -> Asked:
    """Write one request: the task, a demonstration, then the rows of a turn.

    Args:
        name: Name of the strategy, for its demonstration.
        template: Its prompt.
        params: Task and options.
        turn: What is varied.
        becomes: The label of what is asked for; default: that of the rows.
        **variables: What the template names.

    Returns:
        The request; nothing but the last message differs between those of a strategy.
    """
    options: Any = params.options
    longest = max(len(row.text) for row in turn.rows) / CHARS_PER_TOKEN
    request = Request(
        messages=(
            Message("system", render(SYSTEM, description=params.description, labels=params.labels)),
            *_demonstration(name, template),
            Message("user", render(template, **variables)),
        ),
        max_tokens=(options.texts_per_call + 1) * max(LEAST_TOKENS, math.ceil(ROOM * longest)),
        sampling_temperature=options.sampling_temperature,
        top_p=options.top_p,
        sample=turn.sample,
    )
    return Asked((becomes or turn.label).name, request, turn.rows)


def text_of(turn: Turn) -> str:
    """Return the one row of a turn as a line."""
    return in_line(turn.rows[0].text, MOST_CHARS)


@cache
def _demonstration(name: str, template: Path) -> tuple[Message, Message]:
    import yaml

    shown = yaml.safe_load(DEMONSTRATIONS.read_text(encoding="utf-8"))[name]
    variables = {
        key: Label.model_validate(value) if isinstance(value, dict) else value
        for key, value in shown["request"].items()
    }
    return Message("user", render(template, **variables)), Message("assistant", "\n".join(shown["answer"]))
