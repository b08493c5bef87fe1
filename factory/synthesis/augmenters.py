"""The ways to vary real rows.

To add one: write its prompt, its demonstration in `prompts/augment.v1.yaml` and a function below, add a line to
`AUGMENTERS`, run `pytest tests/test_augment.py`.

Rewording and entity swaps as in Dai et al., "AugGPT", arXiv:2302.13007; the way through another language as in
Sennrich, Haddow and Birch, "Improving Neural Machine Translation Models with Monolingual Data", ACL 2016,
arXiv:1511.06709; several rows and more of their kind as in Yoo et al., "GPT3Mix", Findings of EMNLP 2021,
arXiv:2104.08826; the smallest edit that changes the label as in Kaushik, Hovy and Lipton, "Learning the Difference that
Makes a Difference with Counterfactually-Augmented Data", ICLR 2020, arXiv:1909.12434.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, cast

import numpy as np
from pydantic import Field

from factory.encoders import Encoder
from factory.spec import Label
from factory.synthesis.augment import (
    Augmenter,
    AugmentOptions,
    AugmentParams,
    LabelRows,
    ask_to_vary,
    augmenter,
    text_of,
    turns,
)
from factory.synthesis.genre import PROMPTS, Phrases
from factory.synthesis.likeness import in_line
from factory.synthesis.parse import texts_in
from factory.synthesis.strategy import Asked
from factory.teacher import Reply

PARAPHRASE, REGISTER, BACK_TRANSLATION, MORE_LIKE_THESE, COUNTERFACTUAL, ENTITY_SWAP = (
    PROMPTS / f"{name}.v1.jinja"
    for name in (
        "paraphrase",
        "register",
        "back_translation",
        "more_like_these",
        "counterfactual",
        "entity_swap",
    )
)


class RegisterOptions(AugmentOptions):
    """What a spec may set."""

    texts_per_call: Annotated[int, Field(ge=1, le=50)] = 2
    registers: Phrases = (
        "casual, as to a friend",
        "formal and polite",
        "as short as can be",
        "typed in a hurry, with a typo or two",
    )
    """One drawn for each prompt."""


class BackTranslationOptions(AugmentOptions):
    """What a spec may set."""

    texts_per_call: Annotated[int, Field(ge=1, le=1)] = 1
    """The way there and back leads to one text."""
    detours: Phrases = ("the text in German", "the text in French", "the text in Spanish", "the text in six words")
    """What stands between the text and its retelling, one drawn for each prompt."""


class MoreLikeTheseOptions(AugmentOptions):
    """What a spec may set."""

    texts_per_call: Annotated[int, Field(ge=1, le=50)] = 8
    rows_per_call: Annotated[int, Field(ge=2, le=20)] = 5
    """Real rows of a label in one prompt, another draw each time."""


class CounterfactualOptions(AugmentOptions):
    """What a spec may set."""

    texts_per_call: Annotated[int, Field(ge=1, le=50)] = 2
    near_labels: Annotated[int, Field(ge=1, le=100)] = 2
    """Each label is changed to one of so many whose descriptions are nearest."""


def paraphrase(params: AugmentParams, rows: Sequence[LabelRows], encoder: Encoder | None = None) -> list[Asked]:
    """Ask for a row in other words."""
    n = cast(AugmentOptions, params.options).texts_per_call
    return [
        ask_to_vary("paraphrase", PARAPHRASE, params, turn, text=text_of(turn), n=n) for turn in turns(params, rows)
    ]


def change_register(params: AugmentParams, rows: Sequence[LabelRows], encoder: Encoder | None = None) -> list[Asked]:
    """Ask for a row as others would put it."""
    options = cast(RegisterOptions, params.options)
    return [
        ask_to_vary(
            "register",
            REGISTER,
            params,
            turn,
            text=text_of(turn),
            n=options.texts_per_call,
            register=options.registers[int(turn.rng.integers(len(options.registers)))],
        )
        for turn in turns(params, rows)
    ]


def back_translate(params: AugmentParams, rows: Sequence[LabelRows], encoder: Encoder | None = None) -> list[Asked]:
    """Ask for a row told again by way of another language or a summary, in one call."""
    detours = cast(BackTranslationOptions, params.options).detours
    return [
        ask_to_vary(
            "back-translation",
            BACK_TRANSLATION,
            params,
            turn,
            text=text_of(turn),
            detour=detours[int(turn.rng.integers(len(detours)))],
        )
        for turn in turns(params, rows)
    ]


def second_of_two(reply: Reply) -> tuple[str, ...]:
    """Read the retold text: the second of exactly two lines, for else nobody knows which line is what."""
    texts = texts_in(reply)
    return texts[1:] if len(texts) == 2 else ()


def more_like_these(params: AugmentParams, rows: Sequence[LabelRows], encoder: Encoder | None = None) -> list[Asked]:
    """Ask for more texts beside several rows of a label."""
    options = cast(MoreLikeTheseOptions, params.options)
    return [
        ask_to_vary(
            "more-like-these",
            MORE_LIKE_THESE,
            params,
            turn,
            label=turn.label,
            texts=[in_line(row.text) for row in turn.rows],
            n=options.texts_per_call,
        )
        for turn in turns(params, rows, n_shown=options.rows_per_call)
    ]


def make_counterfactual(
    params: AugmentParams, rows: Sequence[LabelRows], encoder: Encoder | None = None
) -> list[Asked]:
    """Ask for the smallest edit of a row that gives it a near label."""
    options = cast(CounterfactualOptions, params.options)
    near = near_labels(params.labels, options.near_labels, encoder)
    asked = []
    for turn in turns(params, rows):
        others = near[turn.label.name]
        other = others[int(turn.rng.integers(len(others)))]
        variables = {"text": text_of(turn), "label": turn.label, "other": other, "n": options.texts_per_call}
        asked.append(ask_to_vary("counterfactual", COUNTERFACTUAL, params, turn, becomes=other, **variables))
    return asked


def near_labels(labels: Sequence[Label], n: int, encoder: Encoder | None) -> dict[str, list[Label]]:
    """Find the labels whose descriptions are nearest to each label's; without an encoder any other is near."""
    if encoder is None:
        return {label.name: [other for other in labels if other is not label][:n] for label in labels}
    vectors = encoder.encode([label.phrase for label in labels])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, : min(n, len(labels) - 1)]
    return {label.name: [labels[int(one)] for one in nearest] for label, nearest in zip(labels, order, strict=True)}


def swap_entities(params: AugmentParams, rows: Sequence[LabelRows], encoder: Encoder | None = None) -> list[Asked]:
    """Ask for a row with other names, places and numbers."""
    n = cast(AugmentOptions, params.options).texts_per_call
    return [
        ask_to_vary("entity-swap", ENTITY_SWAP, params, turn, text=text_of(turn), n=n) for turn in turns(params, rows)
    ]


AUGMENTERS: Mapping[str, Augmenter] = {
    "more-like-these": augmenter(
        "more-like-these",
        more_like_these,
        template=MORE_LIKE_THESE,
        options=MoreLikeTheseOptions,
        # Of five other real rows of its label, the nearest is nearer than that to 99% of SNIPS, AG News and SST-2 rows.
        least_similarity=0.05,
    ),
    "paraphrase": augmenter("paraphrase", paraphrase, template=PARAPHRASE, least_similarity=0.5),
    "register": augmenter(
        "register", change_register, template=REGISTER, options=RegisterOptions, least_similarity=0.4
    ),
    "back-translation": augmenter(
        "back-translation",
        back_translate,
        template=BACK_TRANSLATION,
        options=BackTranslationOptions,
        least_similarity=0.4,
        read=second_of_two,
    ),
    "entity-swap": augmenter("entity-swap", swap_entities, template=ENTITY_SWAP, least_similarity=0.3),
    "counterfactual": augmenter(
        "counterfactual",
        make_counterfactual,
        template=COUNTERFACTUAL,
        options=CounterfactualOptions,
        least_similarity=-1.0,  # it shall mean something else
        needs_encoder=True,
    ),
}
"""By the name a spec uses."""
