"""Texts from replies: lists in every shape that models write, and everything that is not a text."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.synthesis.parse import clean, is_refusal, texts_in
from factory.teacher.protocol import Reply

TWO = ("play some jazz", "will it rain?")


def reply(text: str, finish_reason: str = "stop") -> Reply:
    return Reply(text, finish_reason, 10, 10)


ANYTHING = st.text(st.characters(exclude_categories=()), max_size=60)  # lone surrogates too
MARKS = st.sampled_from(["", "1. ", "2) ", "- ", '"', "'", "“", "`", "```", "[", "{", "Text 3: ", "\t"])
LISTS = st.lists(st.builds("{}{}{}".format, MARKS, ANYTHING, MARKS), max_size=8).map("\n".join)


@pytest.mark.parametrize(
    "text",
    [
        "play some jazz\nwill it rain?",
        "\n\n  play   some jazz \r\n\r\nwill\tit rain?\n",
        "1. play some jazz\n2. will it rain?",
        "1) play some jazz\n(2) will it rain?",
        "1.play some jazz\n2:will it rain?",
        "- play some jazz\n* will it rain?",
        "• play some jazz\n– will it rain?",
        "Text 1: play some jazz\ntext: will it rain?",
        '"play some jazz"\n“will it rain?”',
        "«play some jazz»\n'will it rain?'",
        '1. "play some jazz"\n2. "will it rain?"',
        "Here are 2 texts:\nplay some jazz\nwill it rain?",
        "**Here are 2 texts:**\n\nplay some jazz\nwill it rain?",
        "### Texts:\nplay some jazz\nwill it rain?",
        "Sure, here you go:\nplay some jazz\nwill it rain?\n---",
        "```\nplay some jazz\nwill it rain?\n```",
        '["play some jazz", "will it rain?"]',
        '[\n  "play some jazz",\n  "will it rain?"\n]',
        '```json\n["play some jazz", "will it rain?"]\n```',
        "['play some jazz',\n'will it rain?']".replace("[", "[\n").replace("]", "\n]"),
        "play some jazz\nwill it rain?\n" * 100,
    ],
)
def test_a_list_is_read_in_whatever_shape_it_comes(text: str) -> None:
    assert texts_in(reply(text)) == TWO


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("3.5 stars are too few", "3.5 stars are too few"),
        ("10:30 is too late", "10:30 is too late"),
        ("7 people at eight", "7 people at eight"),
        ("2. 7 people at eight", "7 people at eight"),
        ("-5 degrees outside?", "-5 degrees outside?"),
        ('is "Dune" any good', 'is "Dune" any good'),
        ("'tis cold", "'tis cold"),
        ("wake me\tat\u00a0six", "wake me at six"),
        ("a\x00b\x1b[31mc\x7f", "ab[31mc"),
        ("half an emoji \ud83d", "half an emoji"),
        ("👩‍🚀 and नमस्ते", "👩‍🚀 and नमस्ते"),
        ("{{ 7*7 }} {% raw %}", "{{ 7*7 }} {% raw %}"),
    ],
)
def test_cleaning_takes_the_list_away_and_leaves_the_text(line: str, text: str) -> None:
    assert clean(line) == text


def test_what_the_token_limit_cut_off_is_left_out() -> None:
    assert texts_in(reply("play some jazz\nwill it rain?\nbook a ta", "length")) == TWO
    assert texts_in(reply("play some jazz\nwill it rain?\n", "length")) == TWO
    assert texts_in(reply('["play some jazz", "will it ra', "length")) == ()
    assert texts_in(reply('[\n"play some jazz",\n"will it rain?",\n"book a', "length")) == TWO


@pytest.mark.parametrize("text", ["", "  \n\t\n", "...\n---\n!!!", "```\n```", "[]", "Here are 8 texts:", "[\n{}\n]"])
def test_a_reply_without_a_text_has_none(text: str) -> None:
    assert texts_in(reply(text)) == ()


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I’m sorry, I cannot help with that request.",
        "As an AI language model, I do not have feelings.",
        "I am an AI and I have no opinion.",
        "I cannot generate texts about this topic.",
        "Sorry, I am unable to comply.",
        "I won't write such content.",
        "We are not able to fulfill it.",
    ],
)
def test_an_assistant_that_declines_is_a_refusal(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, I can't come tonight",
        "sorry, I cannot find my card",
        "I can't help falling in love with you",
        "why can't I create an account",
        "find me books about AI",
        "is an AI writing this",
        "I am unable to log in",
    ],
)
def test_a_person_who_cannot_is_no_refusal(text: str) -> None:
    assert not is_refusal(text)


@given(st.one_of(ANYTHING, LISTS), st.sampled_from(["stop", "length"]))
def test_whatever_comes_texts_are_clean_different_and_not_empty(text: str, finish_reason: str) -> None:
    texts = texts_in(reply(text, finish_reason))
    assert len(set(texts)) == len(texts)
    for found in texts:
        assert found == clean(found) == found.strip()
        assert any(map(str.isalnum, found))
        assert not {unicodedata.category(character) for character in found} & {"Cc", "Cs", "Zl", "Zp"}


@given(st.lists(st.sampled_from((*TWO, "a \\ b", 'say "hi" twice', "naïve 🎵")), min_size=1), st.booleans())
def test_a_json_array_gives_its_strings(texts: list[str], ensure_ascii: bool) -> None:
    assert texts_in(reply(json.dumps(texts, ensure_ascii=ensure_ascii))) == tuple(dict.fromkeys(texts))


@pytest.mark.parametrize("text", ["[" * 100_000, '"' * 100_000 + "a" + '"' * 100_000, "1. " * 50_000 + "a", "[1, 2"])
def test_a_reply_that_ran_away_is_read_without_harm(text: str) -> None:
    assert len(texts_in(reply(text))) <= 1
