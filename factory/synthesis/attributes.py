"""Prompts that differ: each draws another combination of attributes.

Yu et al., "Large Language Model as Attributed Training Data Generator: A Tale of Diversity and Bias" (AttrPrompt),
NeurIPS 2023, arXiv:2306.15895. Attributes that depend on the label, concrete things such texts mention, are proposed by
the teacher; style and length, which do not, are lists that a spec may replace. Where there are real texts, each prompt
also shows the few that fit what it is about, and says how real texts look.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

import numpy as np
from pydantic import Field

from factory.encoders import Encoder
from factory.events import Progressed, emit
from factory.prompts import render
from factory.records import Rows
from factory.spec import Label
from factory.store import Stage
from factory.synthesis.genre import PROMPT_FILES, PROMPTS, WRITE, Genre, Phrases, genre_of
from factory.synthesis.labels import LabelsOptions
from factory.synthesis.likeness import Likeness
from factory.synthesis.parse import is_refusal, texts_in
from factory.synthesis.strategy import Asked, Strategy, WriteParams, draw, write_all
from factory.teacher import Abstain, Message, Reply, Request, Teacher, ask
from factory.teacher.forecast import Forecast, forecast
from factory.teacher.missing import note_missing

REAL = PROMPTS / "real_user.v1.jinja"
TOKENS_PER_THING = 3.5
"""As many as were written, on average, for each thing that was asked for: for the forecast."""
MOST_TOKENS_PER_THING = 12
MAX_WORDS_PER_THING = 5


class AttributesOptions(LabelsOptions):
    """What a spec may set."""

    things_per_prompt: Annotated[int, Field(ge=2, le=100)] = 12
    """Specific things the teacher is asked to name for each label and kind of thing."""
    things_per_call: Annotated[int, Field(ge=1, le=20)] = 8
    styles: Phrases | None = None
    """How texts sound, one drawn for each prompt; null: the genre's."""
    lengths: Phrases | None = None
    """How long texts are, one drawn for each prompt; null: the genre's."""
    demonstrations: Annotated[int, Field(ge=0, le=20)] = 4
    """Real texts of the label shown in each prompt, where there are seeds, train rows or a labelled pool; 0: none, and
    nothing is said of how real texts look."""


def things_prompts(params: WriteParams) -> list[Asked]:
    """Write the requests that ask for specific things, one for each wanted label and kind; the same in every round."""
    options = cast(AttributesOptions, params.options)
    genre = genre_of(options.genre)
    n = options.things_per_prompt
    return [
        Asked(
            label.name,
            Request(
                messages=(
                    genre.system(),
                    *genre.shown_things(),
                    genre.things_request(params.description, label, kind, n),
                ),
                max_tokens=n * MOST_TOKENS_PER_THING,
                sampling_temperature=options.sampling_temperature,
                top_p=options.top_p,
                sample=params.seed % 2**31,
            ),
        )
        for label in _wanted_labels(params)
        for kind in genre.demonstration.things
    ]


def things_of(label: Label, answers: Sequence[Reply | Abstain], genre: Genre) -> tuple[str, ...]:
    """Read the things of one label, without those of the demonstration, which a weak teacher copies.

    Args:
        label: The label they were asked for.
        answers: Every answer, of any kind of thing.
        genre: Has the demonstration that was shown.

    Returns:
        The things in the order of the answers, each once; the label's own phrase when there is none.
    """
    shown = {thing.lower() for things in genre.demonstration.things.values() for thing in things}
    lines = [
        line for answer in answers if isinstance(answer, Reply) for line in texts_in(answer) if not is_refusal(line)
    ]
    things = [thing.strip(" .;:") for line in lines for thing in line.split(",")]
    usable = [
        thing for thing in things if thing and thing.lower() not in shown and len(thing.split()) <= MAX_WORDS_PER_THING
    ]
    return tuple(dict.fromkeys(usable)) or (label.phrase,)


def attribute_prompts(
    params: WriteParams, things: Mapping[str, tuple[str, ...]], likeness: Likeness | None = None
) -> list[Asked]:
    """Write the requests of a round, each with attributes of its own.

    Args:
        params: What is wanted; `options` are `AttributesOptions`.
        things: Concrete things by label name, not empty.
        likeness: Real rows, where there are any.

    Returns:
        For each label as many calls as the wanted texts need.
    """
    options = cast(AttributesOptions, params.options)
    genre = genre_of(options.genre)
    demonstration = [genre.system(), *genre.shown_texts()]
    asked = []
    for label, wanted in zip(params.labels, params.wanted, strict=True):
        drawn, samples = _draw_attributes(params, label, wanted, things)
        topics = [f"{label.phrase}: {'; '.join(one['things'])}" for one in drawn]
        shown = likeness.near(label.name, topics, options.demonstrations) if likeness else [()] * len(drawn)
        for attributes, sample, rows in zip(drawn, samples, shown, strict=True):
            common = {"description": params.description, "labels": params.labels, "label": label}
            user = render(WRITE, **common, n=options.texts_per_call, **attributes)
            if likeness is not None and (rows or likeness.hints):
                user += "\n" + render(REAL, texts=[row.text for row in rows], hints=likeness.hints)
            request = Request(
                messages=(*demonstration, Message("user", user)),
                max_tokens=options.max_tokens,
                sampling_temperature=options.sampling_temperature,
                top_p=options.top_p,
                sample=sample,
            )
            asked.append(Asked(label.name, request, rows))
    return asked


def _draw_attributes(
    params: WriteParams, label: Label, wanted: int, things: Mapping[str, tuple[str, ...]]
) -> tuple[list[dict[str, Any]], list[int]]:
    """Draw style, length, things and sampling seed of each prompt of a label."""
    options = cast(AttributesOptions, params.options)
    genre = genre_of(options.genre)
    rng = draw(params, label)
    drawn, samples = [], []
    for _ in range(math.ceil(wanted / options.texts_per_call)):
        drawn.append(
            {
                "style": _one_of(options.styles or genre.styles, rng),
                "length": _one_of(options.lengths or genre.lengths, rng),
                "things": _some_of(things[label.name], options.things_per_call, rng),
            }
        )
        samples.append(int(rng.integers(2**31)))
    return drawn, samples


def write_with_attributes(
    params: WriteParams, *, teacher: Teacher, real: Rows | None = None, encoder: Encoder | None = None
) -> Rows:
    """Let the teacher name concrete things for each label, then write texts about different draws of them.

    Args:
        params: What is wanted; `options` are `AttributesOptions`.
        teacher: Whom to ask; a call for each wanted label and kind of thing, and one for every `texts_per_call`
            wanted texts.
        real: Real rows to show and to sound like, never those of the holdout; rows without a label only tell how real
            texts look.
        encoder: Searches them; needed where `real` is given.

    Returns:
        One row a text; see `strategy.write_all`. Those that real rows were shown for have them as parents. The report
        lists the things by label, and under `replies` the keys of those in which they were named.
    """
    options = cast(AttributesOptions, params.options)
    genre = genre_of(options.genre)
    proposals = things_prompts(params)
    n_done = 0

    def count(_position: int, _answer: Reply | Abstain) -> None:
        nonlocal n_done
        n_done += 1
        emit(Progressed(ATTRIBUTES.stage.name, n_done, len(proposals), "calls", "asking what such texts mention"))

    answers = ask(teacher, [one.request for one in proposals], on_reply=count)
    by_label: dict[str, list[Reply | Abstain]] = {}
    for one, answer in zip(proposals, answers, strict=True):
        by_label.setdefault(one.label, []).append(answer)
    things = {label.name: things_of(label, by_label[label.name], genre) for label in _wanted_labels(params)}
    likeness = None
    if real is not None and encoder is not None and options.demonstrations:
        likeness = Likeness(real.kept, encoder, seed=params.seed)
    rows = write_all(
        attribute_prompts(params, things, likeness),
        teacher,
        strategy=ATTRIBUTES.stage.name,
        style=likeness.style if likeness else None,
    )
    report = {
        **rows.report,
        "things": {label: list(named) for label, named in things.items()},
        "replies": {label: [answer.key for answer in given if answer.key] for label, given in by_label.items()},
    }
    # Without an answer here, texts were written about fewer things than asked for.
    return note_missing(Rows(rows.kept, rows.rejected, report, rows.is_complete), answers)


def forecast_attributes(params: WriteParams) -> Forecast:
    """Estimate the cost of a round; the things are only asked for in the first."""
    options = cast(AttributesOptions, params.options)
    proposals = [one.request for one in things_prompts(params)] if params.round == 1 else []
    stand_in = {label.name: ("a thing of three words",) * options.things_per_call for label in params.labels}
    writing = [one.request for one in attribute_prompts(params, stand_in)]
    return forecast(proposals, completion_tokens=options.things_per_prompt * TOKENS_PER_THING) + forecast(
        writing, completion_tokens=genre_of(options.genre).tokens_per_text * options.texts_per_call
    )


def _wanted_labels(params: WriteParams) -> list[Label]:
    return [label for label, wanted in zip(params.labels, params.wanted, strict=True) if wanted]


def _one_of(phrases: Sequence[str], rng: np.random.Generator) -> str:
    return phrases[int(rng.integers(len(phrases)))]


def _some_of(things: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    return [things[int(index)] for index in rng.permutation(len(things))[:n]]


ATTRIBUTES = Strategy(
    Stage("attributes", 3, WriteParams, write_with_attributes, Rows, files=(*PROMPT_FILES, REAL)),
    AttributesOptions,
    forecast_attributes,
    takes_real=True,
)
