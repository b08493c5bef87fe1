"""Prompts that differ: each draws another combination of attributes.

Yu et al., "Large Language Model as Attributed Training Data Generator: A Tale of Diversity and Bias" (AttrPrompt),
NeurIPS 2023, arXiv:2306.15895. Attributes that depend on the label, concrete things such texts mention, are proposed by
the teacher (`synthesis.things`); style, length and speaker, which do not, are lists that a spec may replace. Where
there are real texts, each prompt also shows the few that fit what it is about, and says how real texts look. Where a
student has been trained already, each prompt shows texts that it could hardly tell from those of another label: Ye et
al., "ProGen: Progressive Zero-shot Dataset Generation via In-context Feedback", Findings of EMNLP 2022,
arXiv:2210.12329.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import numpy as np
from pydantic import Field

from factory.encoders import Encoder
from factory.prompts import render
from factory.records import Rows
from factory.spec import Label
from factory.store import Stage
from factory.synthesis.focus import Focus
from factory.synthesis.genre import PROMPT_FILES, PROMPTS, WRITE, Phrases, genre_of
from factory.synthesis.labels import LabelsOptions
from factory.synthesis.likeness import Likeness
from factory.synthesis.strategy import Asked, Shown, Strategy, WriteParams, draw, write_all
from factory.synthesis.things import TOKENS_PER_THING, Things, ask_things, things_prompts, without_foreign
from factory.teacher import Message, Request, Teacher
from factory.teacher.forecast import Forecast, forecast
from factory.teacher.missing import note_missing

REAL, HARD = PROMPTS / "real_user.v1.jinja", PROMPTS / "hard_user.v1.jinja"
ATTRIBUTE_FILES = (*PROMPT_FILES, REAL, HARD)


class AttributesOptions(LabelsOptions):
    """What a spec may set."""

    things_per_prompt: Annotated[int, Field(ge=2, le=100)] = 12
    """Specific things the teacher is asked to name for each label and kind of thing."""
    things_per_call: Annotated[int, Field(ge=1, le=20)] = 8
    foreign_margin: Annotated[float, Field(ge=0, le=2)] | None = None
    """Things nearer to another label's phrase than to their own by so much cosine are left out; 0.25 leaves names and
    places in. Null: all are used."""
    styles: Phrases | None = None
    """How texts sound, one drawn for each prompt; null: the genre's."""
    lengths: Phrases | None = None
    """How long texts are, one drawn for each prompt; null: the genre's."""
    personas: Phrases | None = None
    """Who speaks, such as `a teenager`, one drawn for each prompt; null: nobody in particular."""
    demonstrations: Annotated[int, Field(ge=0, le=20)] = 4
    """Texts of the label shown in each prompt: real ones, where there are seeds, train rows or a labelled pool, and
    hard ones, where a student found some. 0: none, and nothing is said of how real texts look."""


@dataclass(frozen=True)
class Addition:
    """What a prompt says besides, and the rows it shows."""

    text: str = ""
    shown: tuple[Shown, ...] = ()


Add = Callable[[Label, int], Addition]
"""Makes the addition to the n-th prompt of a label, from 0."""


def hard_additions(focus: Focus, n: int) -> Add:
    """Show in each prompt some texts of its label that a student finds hard.

    Args:
        focus: What is hard.
        n: Texts to show in a prompt.

    Returns:
        Additions that take turns through all hard texts; empty for a label without any.
    """

    def add(label: Label, position: int) -> Addition:
        rows = focus.some(label.name, position, n)
        return Addition(render(HARD, texts=[row.text for row in rows], label=label), rows) if rows else Addition()

    return add


def attribute_prompts(
    params: WriteParams,
    things: Mapping[str, tuple[str, ...]],
    likeness: Likeness | None = None,
    add: Add = lambda _label, _position: Addition(),
) -> list[Asked]:
    """Write the requests of a round, each with attributes of its own.

    Args:
        params: What is wanted; `options` are `AttributesOptions`.
        things: Concrete things by label name, not empty.
        likeness: Real rows, where there are any.
        add: What each prompt says besides.

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
        for position, (attributes, sample, rows) in enumerate(zip(drawn, samples, shown, strict=True)):
            common = {"description": params.description, "labels": params.labels, "label": label}
            user = render(WRITE, **common, n=options.texts_per_call, **attributes)
            if likeness is not None and (rows or likeness.hints):
                user += "\n" + render(REAL, texts=[row.text for row in rows], hints=likeness.hints)
            addition = add(label, position)
            if addition.text:
                user += "\n" + addition.text
            request = Request(
                messages=(*demonstration, Message("user", user)),
                max_tokens=options.max_tokens,
                sampling_temperature=options.sampling_temperature,
                top_p=options.top_p,
                sample=sample,
            )
            asked.append(Asked(label.name, request, (*rows, *addition.shown)))
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
        style = _one_of(options.styles or genre.styles, rng)
        drawn.append(
            {
                "style": style,
                "length": _one_of(options.lengths or genre.lengths, rng),
                "things": _some_of(things[label.name], options.things_per_call, rng),
            }
        )
        if options.personas:
            drawn[-1]["style"] = f"{style}, as {_one_of(options.personas, rng)} would put it"
        samples.append(int(rng.integers(2**31)))
    return drawn, samples


def propose_things(params: WriteParams) -> list[Asked]:
    """Write the requests that ask for things, as the options want them."""
    options = cast(AttributesOptions, params.options)
    return things_prompts(
        params,
        genre_of(options.genre),
        options.things_per_prompt,
        sampling_temperature=options.sampling_temperature,
        top_p=options.top_p,
    )


def name_things(params: WriteParams, teacher: Teacher, encoder: Encoder | None, *, stage: str) -> Things:
    """Let the teacher name things for the wanted labels, and leave out those that fit another label better.

    Args:
        params: What is wanted; `options` are `AttributesOptions`.
        teacher: Whom to ask.
        encoder: Finds what fits better; needed where `foreign_margin` is set.
        stage: Name under which progress is reported.

    Returns:
        The things.
    """
    options = cast(AttributesOptions, params.options)
    things = ask_things(params, propose_things(params), genre_of(options.genre), teacher, stage=stage)
    if options.foreign_margin is None or encoder is None:
        return things
    return without_foreign(things, params.labels, options.foreign_margin, encoder)


def likeness_of(params: WriteParams, real: Rows | None, encoder: Encoder | None) -> Likeness | None:
    """Look real rows up where there are any and prompts shall show some."""
    options = cast(AttributesOptions, params.options)
    if real is None or encoder is None or not options.demonstrations:
        return None
    return Likeness(real.kept, encoder, seed=params.seed)


def write_with_attributes(
    params: WriteParams,
    *,
    teacher: Teacher,
    real: Rows | None = None,
    focus: Rows | None = None,
    encoder: Encoder | None = None,
) -> Rows:
    """Let the teacher name concrete things for each label, then write texts about different draws of them.

    Args:
        params: What is wanted; `options` are `AttributesOptions`.
        teacher: Whom to ask; a call for each wanted label and kind of thing, and one for every `texts_per_call`
            wanted texts.
        real: Real rows to show and to sound like, never those of the holdout; rows without a label only tell how real
            texts look.
        focus: From `synthesis.focus`, to write more of what a student finds hard.
        encoder: Searches the real rows and compares things with labels; needed where `real` is given or
            `foreign_margin` is set.

    Returns:
        One row a text; see `strategy.write_all`. Those that rows were shown for have them as parents. The report
        lists the things by label, and under `replies` the keys of those in which they were named.
    """
    options = cast(AttributesOptions, params.options)
    things = name_things(params, teacher, encoder, stage=ATTRIBUTES.stage.name)
    likeness = likeness_of(params, real, encoder)
    more = {} if focus is None else {"add": hard_additions(Focus(focus), options.demonstrations)}
    rows = write_all(
        attribute_prompts(params, things.by_label, likeness, **more),
        teacher,
        strategy=ATTRIBUTES.stage.name,
        style=likeness.style if likeness else None,
    )
    # Without an answer here, texts were written about fewer things than asked for.
    return note_missing(
        Rows(rows.kept, rows.rejected, {**rows.report, **things.report}, rows.is_complete), things.answers
    )


def forecast_attributes(params: WriteParams) -> Forecast:
    """Estimate the cost of a round; the things are only asked for in the first."""
    return forecast_with_things(params, attribute_prompts(params, stand_in_things(params)))


def stand_in_things(params: WriteParams) -> dict[str, tuple[str, ...]]:
    """Return things as long as those that a teacher names."""
    options = cast(AttributesOptions, params.options)
    return {label.name: ("a thing of three words",) * options.things_per_call for label in params.labels}


def forecast_with_things(params: WriteParams, writing: Sequence[Asked]) -> Forecast:
    """Estimate the cost of writing, and in the first round of asking for things.

    Args:
        params: What is wanted; `options` are `AttributesOptions`.
        writing: The requests, with things that stand for those the teacher would name.

    Returns:
        The cost of both.
    """
    options = cast(AttributesOptions, params.options)
    proposals = [one.request for one in propose_things(params)] if params.round == 1 else []
    n_tokens = genre_of(options.genre).tokens_per_text * options.texts_per_call
    return forecast(proposals, completion_tokens=options.things_per_prompt * TOKENS_PER_THING) + forecast(
        [one.request for one in writing], completion_tokens=n_tokens
    )


def _one_of(phrases: Sequence[str], rng: np.random.Generator) -> str:
    return phrases[int(rng.integers(len(phrases)))]


def _some_of(things: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    return [things[int(index)] for index in rng.permutation(len(things))[:n]]


ATTRIBUTES = Strategy(
    Stage("attributes", 3, WriteParams, write_with_attributes, Rows, files=ATTRIBUTE_FILES),
    AttributesOptions,
    forecast_attributes,
    takes_real=True,
    takes_focus=True,
    needs_encoder=lambda options: options.foreign_margin is not None,
)
