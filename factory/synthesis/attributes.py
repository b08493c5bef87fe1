"""Prompts that differ: each draws another combination of attributes.

Yu et al., "Large Language Model as Attributed Training Data Generator: A Tale of Diversity and Bias" (AttrPrompt),
NeurIPS 2023, arXiv:2306.15895. Attributes that depend on the label, concrete things such texts mention, are proposed by
the teacher; style and length, which do not, are lists that a spec may replace.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Annotated, cast

import numpy as np
from pydantic import Field

from factory.events import Progressed, emit
from factory.prompts import render
from factory.records import Rows
from factory.spec import Label, Model
from factory.store import Stage
from factory.synthesis.labels import LabelsOptions
from factory.synthesis.parse import is_refusal, texts_in
from factory.synthesis.strategy import PROMPTS, Asked, Strategy, WriteParams, draw, ran_out, write_all
from factory.teacher import Abstain, Message, Reply, Request, Teacher, ask
from factory.teacher.forecast import Forecast, forecast

SYSTEM, TASK, THINGS, WRITE = (PROMPTS / f"{name}.v1.jinja" for name in ("system", "task", "things_user", "write_user"))
DEMONSTRATION = PROMPTS / "demonstration.v1.yaml"
TOKENS_PER_THING = 6
TOKENS_PER_TEXT = 20
MAX_WORDS_PER_THING = 5

Phrases = Annotated[tuple[str, ...], Field(min_length=1)]


class AttributesOptions(LabelsOptions):
    """What a spec may set."""

    things_per_prompt: Annotated[int, Field(ge=2, le=100)] = 12
    """Specific things the teacher is asked to name for each label and kind of thing."""
    things_per_call: Annotated[int, Field(ge=1, le=20)] = 8
    styles: Phrases = (
        "a direct request or command",
        "a question",
        "a fragment, not a full sentence",
        "casual, as to a friend",
        "polite, starting with I",
        "in a hurry",
    )
    """A spec whose texts are not spoken or typed to somebody, such as news, should bring its own."""
    lengths: Phrases = ("only a few words", "one short sentence", "one sentence with two or three details")


class Demonstration(Model):
    """A made-up task with answers as they should be."""

    description: str
    labels: tuple[Label, ...]
    label: str
    style: str
    length: str
    things: dict[str, tuple[str, ...]]
    """What texts mention, by kind of thing; the kinds are those every task is asked for."""
    texts: tuple[str, ...]

    @property
    def target(self) -> Label:
        """The label that is asked for."""
        return next(label for label in self.labels if label.name == self.label)

    def of_things(self) -> list[Message]:
        """Return requests for things and their answers."""
        return [
            message
            for kind, things in self.things.items()
            for message in _turn(
                render(THINGS, description=self.description, label=self.target, n=len(things), kind=kind), things
            )
        ]

    def of_texts(self) -> list[Message]:
        """Return a request for texts and its answer."""
        things = next(iter(self.things.values()))
        user = render(
            WRITE,
            description=self.description,
            labels=self.labels,
            label=self.target,
            n=len(self.texts),
            style=self.style,
            length=self.length,
            things=things[: len(self.texts)],
        )
        return _turn(user, self.texts)


def things_prompts(params: WriteParams) -> list[Asked]:
    """Write the requests that ask for specific things, one for each wanted label and kind; the same in every round."""
    options = cast(AttributesOptions, params.options)
    demonstration = _demonstration()
    n = options.things_per_prompt
    return [
        Asked(
            label.name,
            Request(
                messages=(
                    Message("system", render(SYSTEM)),
                    *demonstration.of_things(),
                    Message("user", render(THINGS, description=params.description, label=label, n=n, kind=kind)),
                ),
                max_tokens=n * TOKENS_PER_THING * 2,
                sampling_temperature=options.sampling_temperature,
                top_p=options.top_p,
                sample=params.seed % 2**31,
            ),
        )
        for label in _wanted_labels(params)
        for kind in demonstration.things
    ]


def things_of(label: Label, answers: Sequence[Reply | Abstain]) -> tuple[str, ...]:
    """Read the things of one label; when the teacher named none, the label's own phrase has to do.

    Things of the demonstration are left out: a weak teacher copies some of them.
    """
    shown = {thing.lower() for things in _demonstration().things.values() for thing in things}
    lines = [
        line for answer in answers if isinstance(answer, Reply) for line in texts_in(answer) if not is_refusal(line)
    ]
    things = [thing.strip(" .;:") for line in lines for thing in line.split(",")]
    usable = [
        thing for thing in things if thing and thing.lower() not in shown and len(thing.split()) <= MAX_WORDS_PER_THING
    ]
    return tuple(dict.fromkeys(usable)) or (label.phrase,)


def attribute_prompts(params: WriteParams, things: dict[str, tuple[str, ...]]) -> list[Asked]:
    """Write the requests of a round, each with attributes of its own.

    Args:
        params: What is wanted; `options` are `AttributesOptions`.
        things: Concrete things by label name, not empty.

    Returns:
        For each label as many calls as the wanted texts need.
    """
    options = cast(AttributesOptions, params.options)
    shown = _demonstration().of_texts()
    asked = []
    for label, wanted in zip(params.labels, params.wanted, strict=True):
        rng = draw(params, label)
        for _ in range(math.ceil(wanted / options.texts_per_call)):
            user = render(
                WRITE,
                description=params.description,
                labels=params.labels,
                label=label,
                n=options.texts_per_call,
                style=_one_of(options.styles, rng),
                length=_one_of(options.lengths, rng),
                things=_some_of(things[label.name], options.things_per_call, rng),
            )
            request = Request(
                messages=(Message("system", render(SYSTEM)), *shown, Message("user", user)),
                max_tokens=options.texts_per_call * options.max_tokens_per_text,
                sampling_temperature=options.sampling_temperature,
                top_p=options.top_p,
                sample=int(rng.integers(2**31)),
            )
            asked.append(Asked(label.name, request))
    return asked


def write_with_attributes(params: WriteParams, *, teacher: Teacher) -> Rows:
    """Let the teacher name concrete things for each label, then write texts about different draws of them.

    Args:
        params: What is wanted; `options` are `AttributesOptions`.
        teacher: Whom to ask; a call for each wanted label and kind of thing, and one for every `texts_per_call`
            wanted texts.

    Returns:
        One row a text; see `strategy.write_all`. The report lists the things by label.
    """
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
    things = {label.name: things_of(label, by_label[label.name]) for label in _wanted_labels(params)}
    rows = write_all(attribute_prompts(params, things), teacher, strategy=ATTRIBUTES.stage.name)
    report = {**rows.report, "things": {label: list(named) for label, named in things.items()}}
    if ran_out(answers):  # texts about fewer things than asked for: to be written again when the budget is raised
        report["stopped"] = "budget"
    return Rows(rows.kept, rows.rejected, report, is_complete="stopped" not in report)


def forecast_attributes(params: WriteParams) -> Forecast:
    """Estimate the cost of a round; the things are only asked for in the first."""
    options = cast(AttributesOptions, params.options)
    proposals = [one.request for one in things_prompts(params)] if params.round == 1 else []
    stand_in = {label.name: ("a thing of three words",) * options.things_per_call for label in params.labels}
    writing = [one.request for one in attribute_prompts(params, stand_in)]
    return forecast(proposals, completion_tokens=options.things_per_prompt * TOKENS_PER_THING) + forecast(
        writing, completion_tokens=TOKENS_PER_TEXT * options.texts_per_call
    )


def _wanted_labels(params: WriteParams) -> list[Label]:
    return [label for label, wanted in zip(params.labels, params.wanted, strict=True) if wanted]


@cache
def _demonstration() -> Demonstration:
    import yaml

    return Demonstration.model_validate(yaml.safe_load(DEMONSTRATION.read_text(encoding="utf-8")))


def _turn(user: str, answer: Sequence[str]) -> list[Message]:
    return [Message("user", user), Message("assistant", "\n".join(answer))]


def _one_of(phrases: Sequence[str], rng: np.random.Generator) -> str:
    return phrases[int(rng.integers(len(phrases)))]


def _some_of(things: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    return [things[int(index)] for index in rng.permutation(len(things))[:n]]


ATTRIBUTES = Strategy(
    Stage(
        "attributes", 1, WriteParams, write_with_attributes, Rows, files=(SYSTEM, TASK, THINGS, WRITE, DEMONSTRATION)
    ),
    AttributesOptions,
    forecast_attributes,
)
