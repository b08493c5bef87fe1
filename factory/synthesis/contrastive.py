"""Texts of a label that could be taken for another and are not: prompts that name the rival and the difference.

The labels nearest to a label are found by their descriptions and, once a student has been trained, by what it confuses
(contrastive and incremental generation: ProGen, arXiv:2210.12329; LLM2LLM, arXiv:2403.15042). The teacher first says in
a line how the two differ; a weak one that is only told "not the other" forgets it. All else is as in `attributes`, from
the demonstration to the things that each prompt draws, so that both strategies begin alike and share what is asked.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, cast

import numpy as np
from pydantic import Field

from factory.encoders import Encoder
from factory.events import Progressed, emit
from factory.prompts import render
from factory.records import Rows
from factory.spec import Label
from factory.store import Stage
from factory.synthesis.attributes import (
    ATTRIBUTE_FILES,
    Add,
    Addition,
    AttributesOptions,
    attribute_prompts,
    forecast_with_things,
    likeness_of,
    name_things,
    stand_in_things,
)
from factory.synthesis.focus import Focus
from factory.synthesis.genre import PROMPTS, GenreName, genre_of
from factory.synthesis.parse import clean, is_refusal
from factory.synthesis.strategy import Asked, Strategy, WriteParams, write_all
from factory.teacher import Abstain, Message, Reply, Request, Teacher, ask
from factory.teacher.forecast import Forecast, forecast
from factory.teacher.missing import note_missing

CONTRAST, COMPARE, SHOWN_COMPARED = (
    PROMPTS / name for name in ("contrast_user.v1.jinja", "compare_user.v1.jinja", "compare.v1.yaml")
)
SCHEMA = {
    "type": "object",
    "properties": {"A": {"type": "string"}, "B": {"type": "string"}},
    "required": ["A", "B"],
    "additionalProperties": False,
}
MOST_WORDS = 30
"""A difference is cut off after so many: a prompt has other things to say."""
MAX_TOKENS = 120
TOKENS_PER_COMPARISON = 32


class ContrastiveOptions(AttributesOptions):
    """What a spec may set."""

    rivals: Annotated[int, Field(ge=1, le=20)] = 2
    """Labels that each label is told from; its prompts take turns through them."""


@dataclass(frozen=True)
class Contrast:
    """How two labels differ, in the teacher's words or their descriptions'."""

    this: str
    other: str


Pair = tuple[str, str]
"""A label and one it is told from."""


def find_rivals(params: WriteParams, focus: Focus | None, encoder: Encoder) -> dict[str, list[Label]]:
    """Find what each wanted label is easily taken for.

    Args:
        params: Which labels there are; `options` are `ContrastiveOptions`.
        focus: What a student confuses, where one was trained.
        encoder: Compares descriptions.

    Returns:
        As many labels as the options want and the task has: what is confused most often first, then the labels with
        the nearest descriptions, those in spec order.
    """
    n = min(cast(ContrastiveOptions, params.options).rivals, len(params.labels) - 1)
    vectors = encoder.encode([label.phrase for label in params.labels])
    cosines = (vectors @ vectors.T).astype(np.float64)
    by_name = {label.name: label for label in params.labels}
    found = {}
    for own, label in enumerate(params.labels):
        if label not in params.wanted_labels:
            continue
        confused = focus.rivals(label.name)[:n] if focus else []
        nearest = [int(at) for at in np.argsort(-cosines[own], kind="stable") if at != own]
        others = [at for at in nearest if params.labels[at].name not in confused][: n - len(confused)]
        found[label.name] = [by_name[name] for name in confused] + [params.labels[at] for at in sorted(others)]
    return found


def compare_prompts(params: WriteParams, rivals: Mapping[str, Sequence[Label]]) -> list[tuple[Pair, Asked]]:
    """Write the requests that ask how a label differs from each of its rivals; no other round asks them differently."""
    options = cast(ContrastiveOptions, params.options)
    genre = genre_of(options.genre)
    shown = genre.demonstration
    (shown_rival,) = (label for label in shown.labels if label != shown.target)
    common = (
        genre.system(),
        Message("user", render(COMPARE, description=shown.description, label=shown.target, rival=shown_rival)),
        Message("assistant", json.dumps(_shown_compared()[options.genre])),
    )
    asked = []
    for label in params.wanted_labels:
        for rival in rivals[label.name]:
            user = render(COMPARE, description=params.description, label=label, rival=rival)
            request = Request(
                messages=(*common, Message("user", user)),
                max_tokens=MAX_TOKENS,
                schema=SCHEMA,
                sample=params.seed % 2**31,
            )
            asked.append(((label.name, rival.name), Asked(label.name, request)))
    return asked


def read_contrast(answer: Reply | Abstain) -> Contrast | None:
    """Read how two labels differ; None where the answer does not say."""
    if isinstance(answer, Abstain):
        return None
    try:
        said = json.loads(answer.text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not all(isinstance(said.get(side), str) for side in "AB"):
        return None
    this, other = (" ".join(clean(said[side]).split()[:MOST_WORDS]).rstrip(".") for side in "AB")
    is_usable = this and other and this != other and not is_refusal(f"{this}. {other}")
    return Contrast(this, other) if is_usable else None


def contrast_additions(
    rivals: Mapping[str, Sequence[Label]], contrasts: Mapping[Pair, Contrast], focus: Focus | None, n: int
) -> Add:
    """Tell in each prompt one rival from its label.

    Args:
        rivals: Of each label; its prompts take turns through them.
        contrasts: How each pair differs.
        focus: Has texts that were mistaken, where a student was trained.
        n: How many of them to show.

    Returns:
        The additions.
    """

    def add(label: Label, position: int) -> Addition:
        turn, at = divmod(position, len(rivals[label.name]))
        rival = rivals[label.name][at]
        rows = focus.some(label.name, turn, n, rival=rival.name) if focus else ()
        contrast = contrasts[label.name, rival.name]
        text = render(CONTRAST, label=label, rival=rival, contrast=contrast, texts=[row.text for row in rows])
        return Addition(text, rows)

    return add


def write_contrasts(
    params: WriteParams, *, teacher: Teacher, encoder: Encoder, real: Rows | None = None, focus: Rows | None = None
) -> Rows:
    """Let the teacher say how confusable labels differ, then write texts that are clearly one and not the other.

    Args:
        params: What is wanted; `options` are `ContrastiveOptions`.
        teacher: Whom to ask; a call for each wanted label and rival beside those that `attributes` makes.
        encoder: Finds the nearest descriptions.
        real: Real rows to show and to sound like, never those of the holdout.
        focus: From `synthesis.focus`: which labels a student confuses, and on which texts.

    Returns:
        One row a text; see `strategy.write_all`. The report has what that of `attributes` has, and under `contrasts`
        how each label differs from its rivals and whether the teacher said so (`by`: `teacher` or `descriptions`).
    """
    options = cast(ContrastiveOptions, params.options)
    hard = None if focus is None else Focus(focus)
    things = name_things(params, teacher, encoder, stage=CONTRASTIVE.stage.name)
    rivals = find_rivals(params, hard, encoder)
    comparisons = compare_prompts(params, rivals)
    answers = _ask_comparisons([one.request for _, one in comparisons], teacher)
    read = {pair: read_contrast(answer) for (pair, _), answer in zip(comparisons, answers, strict=True)}
    phrases = {label.name: label.phrase for label in params.labels}
    contrasts = {pair: said or Contrast(phrases[pair[0]], phrases[pair[1]]) for pair, said in read.items()}
    likeness = likeness_of(params, real, encoder)
    rows = write_all(
        attribute_prompts(
            params, things.by_label, likeness, contrast_additions(rivals, contrasts, hard, options.demonstrations)
        ),
        teacher,
        strategy=CONTRASTIVE.stage.name,
        style=likeness.style if likeness else None,
    )
    keys: dict[str, list[str]] = {label: list(found) for label, found in things.report["replies"].items()}
    for (pair, _), answer in zip(comparisons, answers, strict=True):
        keys[pair[0]] += [answer.key] if answer.key else []
    report: dict[str, Any] = {**rows.report, **things.report, "replies": keys, "contrasts": _listed(contrasts, read)}
    return note_missing(Rows(rows.kept, rows.rejected, report, rows.is_complete), [*things.answers, *answers])


def _ask_comparisons(requests: Sequence[Request], teacher: Teacher) -> list[Reply | Abstain]:
    n_done = 0

    def count(_position: int, _answer: Reply | Abstain) -> None:
        nonlocal n_done
        n_done += 1
        emit(Progressed(CONTRASTIVE.stage.name, n_done, len(requests), "calls", "asking how labels differ"))

    # What cannot be read is not asked for again: the descriptions say it too, in more words.
    return ask(teacher, requests, on_reply=count)


def _listed(contrasts: Mapping[Pair, Contrast], read: Mapping[Pair, Contrast | None]) -> list[dict[str, str]]:
    return [
        {
            "label": label,
            "rival": rival,
            "this": contrast.this,
            "other": contrast.other,
            "by": "teacher" if read[label, rival] else "descriptions",
        }
        for (label, rival), contrast in contrasts.items()
    ]


def forecast_contrasts(params: WriteParams) -> Forecast:
    """Estimate the cost of a round; of two strategies that ask for the same things, both count them."""
    options = cast(ContrastiveOptions, params.options)
    n = min(options.rivals, len(params.labels) - 1)
    # Which labels are near is not known without an encoder: how many, and about how long, is.
    rivals = {label.name: [other for other in params.labels if other != label][:n] for label in params.labels}
    phrases = {label.name: label.phrase for label in params.labels}
    contrasts = {
        (label, rival.name): Contrast(phrases[label], rival.phrase)
        for label, given in rivals.items()
        for rival in given
    }
    # The next rounds ask the same, but for pairs that only a student confuses: those are few.
    compared = [one.request for _, one in compare_prompts(params, rivals)] if params.round == 1 else []
    add = contrast_additions(rivals, contrasts, None, 0)
    writing = attribute_prompts(params, stand_in_things(params), add=add)
    return forecast(compared, completion_tokens=TOKENS_PER_COMPARISON) + forecast_with_things(params, writing)


@cache
def _shown_compared() -> dict[GenreName, dict[str, str]]:
    import yaml

    shown: dict[GenreName, dict[str, str]] = yaml.safe_load(SHOWN_COMPARED.read_text(encoding="utf-8"))
    return shown


CONTRASTIVE = Strategy(
    Stage(
        "contrastive",
        1,
        WriteParams,
        write_contrasts,
        Rows,
        files=(*ATTRIBUTE_FILES, CONTRAST, COMPARE, SHOWN_COMPARED),
    ),
    ContrastiveOptions,
    forecast_contrasts,
    takes_real=True,
    takes_focus=True,
    needs_encoder=lambda _options: True,
)
