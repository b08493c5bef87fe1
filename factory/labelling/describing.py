"""The teacher proposes what columns mean and what they are measured in; a person corrects it."""

import json
from collections.abc import Sequence
from pathlib import Path

from factory.events import Progressed, emit
from factory.prompts import render
from factory.tables.drafting import Draft
from factory.tables.guessing import Guess
from factory.teacher import Abstain, Message, Reply, Request, Teacher
from factory.teacher.repair import ask_and_read

PROMPT = Path(__file__).parent / "prompts" / "describe_column.v1.jinja"
MOST_TOKENS = 80
MOST_CHARS = 200
MOST_UNIT_CHARS = 20
SHOWN_VALUES = 5
SHOWN_COLUMNS = 60
SHOWN_CHARS = 40


def describe_columns(draft: Draft, teacher: Teacher) -> dict[str, dict[str, str]]:
    """Ask one short question a column.

    Args:
        draft: What was decided about the file; some values of each column become part of its question.
        teacher: Whom to ask.

    Returns:
        `description` and, of numbers, `unit`, by column; those without a usable answer are not in it.
    """
    names = [guess.name for guess in draft.columns][:SHOWN_COLUMNS]
    requests = [_question(guess, names, draft.target.name) for guess in draft.columns]
    answered: set[int] = set()

    def count(position: int, _answer: Reply | Abstain) -> None:
        answered.add(position)
        emit(Progressed("describe", len(answered), len(requests), "columns"))

    answers = ask_and_read(teacher, requests, _read, most_tokens=2 * MOST_TOKENS, on_reply=count)
    return {
        guess.name: one.answer
        for guess, one in zip(draft.columns, answers, strict=True)
        if not isinstance(one.answer, Abstain)
    }


def _question(guess: Guess, names: Sequence[str], target: str) -> Request:
    keys = ["description", "unit"] if guess.kind.is_number else ["description"]
    lengths = {"description": MOST_CHARS, "unit": MOST_UNIT_CHARS}
    values = [str(value)[:SHOWN_CHARS] for value in dict.fromkeys(guess.known)][:SHOWN_VALUES]
    prompt = render(
        PROMPT, columns=names, name=guess.name, target=target, values=values, is_number=guess.kind.is_number
    )
    return Request(
        messages=(Message("user", prompt),),
        max_tokens=MOST_TOKENS,
        schema={
            "type": "object",
            "properties": {key: {"type": "string", "maxLength": lengths[key]} for key in keys},
            "required": keys,
            "additionalProperties": False,
        },
    )


def _read(reply: Reply) -> dict[str, str] | Abstain:
    """Read one answer; a line break or a text that is too long is no short phrase."""
    try:
        said = json.loads(reply.text)
    except (ValueError, RecursionError):
        return Abstain("unparseable", reply.text)
    most = {"description": MOST_CHARS, "unit": MOST_UNIT_CHARS}
    is_fine = isinstance(said, dict) and all(
        key in most and isinstance(value, str) and len(value) <= most[key] and (not value or value.isprintable())
        for key, value in said.items()
    )
    if not is_fine or "description" not in said:
        return Abstain("unparseable", reply.text)
    return {key: value.strip() for key, value in said.items()}
