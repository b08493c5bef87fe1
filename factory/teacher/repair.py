"""Asking once more where an answer cannot be used, and never a third time.

An answer that was cut off is asked for again with more room. Anything else that cannot be read is shown to the teacher
together with what is wrong with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from factory.prompts import render
from factory.teacher import ask
from factory.teacher.protocol import Abstain, Message, OnReply, Reply, Request, Teacher

T = TypeVar("T")

REPAIR = Path(__file__).parent / "prompts" / "repair.v1.jinja"
"""Part of what a stage asks, so its key must name this file."""
WHY = {
    "content-filter": "a filter stopped it",
    "empty": "it is empty",
    "malformed": "it is not a text",
    "no-text": "there is no text in it",
    "refusal": "it declines, although nothing harmful is asked for",
    "unknown-label": "it is none of the labels",
    "unparseable": "it is not in that form",
}
"""Reasons for which asking once more may help, in the teacher's words."""


@dataclass(frozen=True)
class Answered(Generic[T]):
    """What a question came to."""

    answer: T | Abstain
    replies: tuple[str, ...] = ()
    """Keys of the replies, oldest first; the last one decided."""


def ask_and_read(
    teacher: Teacher,
    requests: Sequence[Request],
    read: Callable[[Reply], T | Abstain],
    *,
    most_tokens: int,
    on_reply: OnReply | None = None,
) -> list[Answered[T]]:
    """Ask, read the replies, and ask once more where that failed.

    Args:
        teacher: Whom to ask.
        requests: What to ask.
        read: Turns a reply into what is wanted, or says why it cannot.
        most_tokens: Room for a reply that was cut off (`truncated`), if that is more than it had.
        on_reply: Called with the position of the request as each answer arrives, a second time when it is repaired.

    Returns:
        One result a request, in order.
    """
    answers = ask(teacher, requests, on_reply=on_reply)
    came = [[one] if isinstance(one, Reply) else [] for one in answers]
    first = [_read(answer, read) for answer in answers]
    again = {n: _repaired(requests[n], one.answer, most_tokens) for n, one in enumerate(first)}
    repairs = {n: request for n, request in again.items() if request is not None}
    positions = list(repairs)

    def told(position: int, answer: Reply | Abstain) -> None:
        if on_reply is not None:
            on_reply(positions[position], answer)

    answers = ask(teacher, list(repairs.values()), on_reply=told) if repairs else []
    for n, answer in zip(positions, answers, strict=True):
        second = _read(answer, read)
        first[n] = Answered(second.answer, first[n].replies + second.replies)
        came[n] = [*came[n], answer] if isinstance(answer, Reply) else []  # the engine has noted what is no reply
    for request, one, replies in zip(requests, first, came, strict=True):
        # What comes from the reply store was noted when it came from the teacher.
        if isinstance(one.answer, Abstain) and not all(reply.from_cache for reply in replies):
            teacher.note(request, one.answer, replies)
    return first


def _read(answer: Reply | Abstain, read: Callable[[Reply], T | Abstain]) -> Answered[T]:
    return Answered(answer if isinstance(answer, Abstain) else read(answer), (answer.key,) if answer.key else ())


def _repaired(request: Request, answer: object, most_tokens: int) -> Request | None:
    """Return the request to make instead, or None where there is nothing to mend or no hope."""
    if not isinstance(answer, Abstain):
        return None
    if answer.reason == "truncated":
        return replace(request, max_tokens=most_tokens) if most_tokens > request.max_tokens else None
    if answer.reason not in WHY:
        return None
    said = Message("assistant", answer.raw or "...")
    complaint = Message("user", render(REPAIR, why=WHY[answer.reason]))
    return replace(request, messages=(*request.messages, said, complaint), max_tokens=most_tokens)
