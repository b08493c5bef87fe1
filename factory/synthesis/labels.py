"""The baseline strategy: describe a label and ask for texts.

As in Ye et al., "ZeroGen: Efficient Zero-shot Learning via Dataset Generation", EMNLP 2022, arXiv:2202.07922, with a
chat model. Nothing makes the prompts of a label differ but the sampling seed, so texts soon repeat each other;
`attributes` is the cure.
"""

import math
from typing import Annotated, cast

from pydantic import Field

from factory.prompts import render
from factory.records import Rows
from factory.spec import Model
from factory.store import Stage
from factory.synthesis.genre import PROMPT_FILES, WRITE, GenreName, genre_of
from factory.synthesis.strategy import Asked, Strategy, WriteParams, draw, write_all
from factory.teacher import Message, Request, Teacher
from factory.teacher.forecast import Forecast, forecast


class LabelsOptions(Model):
    """What a spec may set."""

    texts_per_call: Annotated[int, Field(ge=1, le=50)] = 8
    genre: GenreName = "utterance"
    """What kind of texts: `utterance`, said or written to somebody, or `article`, published for readers."""
    max_tokens_per_text: Annotated[int, Field(ge=10, le=1000)] | None = None
    """A reply ends after so many for each text it was asked for; null: the genre's bound."""
    sampling_temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95

    @property
    def max_tokens(self) -> int:
        """The most tokens that a reply may have."""
        return self.texts_per_call * (self.max_tokens_per_text or genre_of(self.genre).most_tokens_per_text)


def label_prompts(params: WriteParams) -> list[Asked]:
    """Write the requests of a round: for each label as many calls as the wanted texts need."""
    options = cast(LabelsOptions, params.options)
    system = genre_of(options.genre).system()
    asked = []
    for label, wanted in zip(params.labels, params.wanted, strict=True):
        rng = draw(params, label)
        user = render(
            WRITE,
            description=params.description,
            labels=params.labels,
            label=label,
            n=options.texts_per_call,
            style=None,
        )
        for _ in range(math.ceil(wanted / options.texts_per_call)):
            request = Request(
                messages=(system, Message("user", user)),
                max_tokens=options.max_tokens,
                sampling_temperature=options.sampling_temperature,
                top_p=options.top_p,
                sample=int(rng.integers(2**31)),  # equal prompts must not get the same reply from the cache
            )
            asked.append(Asked(label.name, request))
    return asked


def write_by_label(params: WriteParams, *, teacher: Teacher) -> Rows:
    """Write texts from the descriptions alone.

    Args:
        params: What is wanted; `options` are `LabelsOptions`.
        teacher: Whom to ask; a call for every `texts_per_call` wanted texts.

    Returns:
        One row a text; see `strategy.write_all`.
    """
    return write_all(label_prompts(params), teacher, strategy=LABELS.stage.name)


def forecast_labels(params: WriteParams) -> Forecast:
    """Estimate the cost of a round."""
    options = cast(LabelsOptions, params.options)
    requests = [one.request for one in label_prompts(params)]
    return forecast(requests, completion_tokens=genre_of(options.genre).tokens_per_text * options.texts_per_call)


LABELS = Strategy(
    Stage("labels", 3, WriteParams, write_by_label, Rows, files=PROMPT_FILES), LabelsOptions, forecast_labels
)
