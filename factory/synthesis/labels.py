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
from factory.synthesis.strategy import PROMPTS, Asked, Strategy, WriteParams, draw, write_all
from factory.teacher import Message, Request, Teacher
from factory.teacher.forecast import Forecast, forecast

SYSTEM, TASK, WRITE = (PROMPTS / f"{name}.v1.jinja" for name in ("system", "task", "write_user"))
TOKENS_PER_TEXT = 20


class LabelsOptions(Model):
    """What a spec may set."""

    texts_per_call: Annotated[int, Field(ge=1, le=50)] = 8
    max_tokens_per_text: Annotated[int, Field(ge=10, le=1000)] = 40
    sampling_temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95


def label_prompts(params: WriteParams) -> list[Asked]:
    """Write the requests of a round: for each label as many calls as the wanted texts need."""
    options = cast(LabelsOptions, params.options)
    system = Message("system", render(SYSTEM))
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
                max_tokens=options.texts_per_call * options.max_tokens_per_text,
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
    return forecast(requests, completion_tokens=TOKENS_PER_TEXT * options.texts_per_call)


LABELS = Strategy(
    Stage("labels", 1, WriteParams, write_by_label, Rows, files=(SYSTEM, TASK, WRITE)), LabelsOptions, forecast_labels
)
