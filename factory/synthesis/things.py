"""The concrete things that texts of a label mention, named by the teacher.

The class-dependent attributes of AttrPrompt (Yu et al., NeurIPS 2023, arXiv:2306.15895). The paper asks its teacher
whether an attribute of one class fits the classes nearest to it, and leaves out what does; here a sentence encoder
compares it with every description, which a weak teacher cannot do and which costs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.encoders import Encoder
from factory.events import Progressed, emit
from factory.spec import Label
from factory.synthesis.genre import Genre
from factory.synthesis.parse import is_refusal, texts_in
from factory.synthesis.strategy import Asked, WriteParams
from factory.teacher import Abstain, Reply, Request, Teacher, ask

TOKENS_PER_THING = 3.5
"""As many as were written, on average, for each thing that was asked for: for the forecast."""
MOST_TOKENS_PER_THING = 12
MAX_WORDS_PER_THING = 5


@dataclass(frozen=True)
class Things:
    """What was named for the wanted labels."""

    by_label: Mapping[str, tuple[str, ...]]
    """Never empty; to be drawn from."""
    answers: Sequence[Reply | Abstain]
    """In which they were named, or were not."""
    report: Mapping[str, Any]
    """The things by label, under `replies` the keys of what they were read from, and what was left out."""


def ask_things(
    params: WriteParams, proposals: Sequence[Asked], genre: Genre, teacher: Teacher, *, stage: str
) -> Things:
    """Let the teacher name things.

    Args:
        params: Which labels there are.
        proposals: From `things_prompts`.
        genre: Has the demonstration that was shown.
        teacher: Whom to ask; one call a proposal.
        stage: Name under which progress is reported.

    Returns:
        The things of each label that was asked about.
    """
    n_done = 0

    def count(_position: int, _answer: Reply | Abstain) -> None:
        nonlocal n_done
        n_done += 1
        emit(Progressed(stage, n_done, len(proposals), "calls", "asking what such texts mention"))

    answers = ask(teacher, [one.request for one in proposals], on_reply=count)
    given: dict[str, list[Reply | Abstain]] = {}
    for one, answer in zip(proposals, answers, strict=True):
        given.setdefault(one.label, []).append(answer)
    things = {label.name: things_of(label, given[label.name], genre) for label in params.labels if label.name in given}
    report = {
        "things": {label: list(named) for label, named in things.items()},
        "replies": {label: [answer.key for answer in found if answer.key] for label, found in given.items()},
    }
    return Things(things, answers, report)


def things_prompts(
    params: WriteParams, genre: Genre, n: int, *, sampling_temperature: float, top_p: float
) -> list[Asked]:
    """Write the requests that ask for specific things, one for each wanted label and kind; the same in every round.

    Args:
        params: Which labels are wanted.
        genre: Says what kinds of things there are, and shows some.
        n: Things to ask for at once.
        sampling_temperature: Of the teacher.
        top_p: Of the teacher.

    Returns:
        The requests, label by label.
    """
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
                sampling_temperature=sampling_temperature,
                top_p=top_p,
                sample=params.seed % 2**31,
            ),
        )
        for label in params.wanted_labels
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


def without_foreign(things: Things, labels: Sequence[Label], margin: float, encoder: Encoder) -> Things:
    """Leave out the things that fit another label better than the one they were named for.

    Names, places and times are as near to one description as to the next, so they stay: of 84 things for the labels of
    SNIPS all 7 above a margin of 0.25 belonged to another label, and nearly half had another description that was
    nearer (MiniLM; docs/log.md).

    Args:
        things: What was named.
        labels: All labels of the task.
        margin: How much nearer another label's phrase must be, in cosine.
        encoder: Compares things with phrases.

    Returns:
        The rest; a label that would lose everything has its own phrase. The report lists what is left out, with the
        label that each fits better, under `foreign`.
    """
    names = [label.name for label in labels]
    anchors = encoder.encode([label.phrase for label in labels])
    kept: dict[str, tuple[str, ...]] = {}
    foreign: dict[str, dict[str, str]] = {}
    for label in labels:
        named = things.by_label.get(label.name, ())
        if not named:
            continue
        own = names.index(label.name)
        cosines = encoder.encode(named) @ anchors.T
        others = np.delete(cosines, own, axis=1)
        other_names = [name for name in names if name != label.name]
        is_foreign = others.max(axis=1) - cosines[:, own] > margin
        foreign[label.name] = {
            thing: other_names[int(row.argmax())]
            for thing, row, out in zip(named, others, is_foreign, strict=True)
            if out
        }
        kept[label.name] = tuple(thing for thing, out in zip(named, is_foreign, strict=True) if not out) or (
            label.phrase,
        )
    n_foreign = sum(map(len, foreign.values()))
    report = {**things.report, "things": {label: list(some) for label, some in kept.items()}}
    return Things(kept, things.answers, {**report, "foreign": foreign, "n_foreign": n_foreign})
