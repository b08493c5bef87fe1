"""The teacher: an LLM behind one protocol, with a reply cache, limits and a budget underneath.

To add a teacher: write `teacher/<name>.py`, add a line to `TEACHERS`, run `pytest tests/test_teachers.py`.

Where things are:

    what a teacher is       protocol, endpoint, wire
    who answers             embedded (weights, llama_server), openai (chat, transport), batch (batch_service,
                            batch_memory), scripted
    getting answers         engine, then run (a list of requests), then sender (the attempts at one), with calls, limits
    what it costs           budget (the rule), purse (set aside, then counted), forecast, tally
    what is kept            replies (every answer), exchange (one of them), journal (attempts that may have been
                            paid for), ledger (what failed), lines (how such files are written)
    what becomes of it      repair (asked once more), missing (said by the stage)
    without asking          probe (what is stored), nearest (what a stored request differs in)
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from factory.spec import TeacherSpec
from factory.teacher.embedded import EmbeddedTeacher
from factory.teacher.openai import OpenAITeacher
from factory.teacher.protocol import Abstain, Message, OnReply, Reply, Request, Teacher, TokenLogprob
from factory.teacher.replies import Replies
from factory.teacher.scripted import ScriptedTeacher

__all__ = [
    "TEACHERS",
    "Abstain",
    "Message",
    "OnReply",
    "Reply",
    "Request",
    "ScriptedTeacher",
    "Teacher",
    "TokenLogprob",
    "ask",
    "open_teacher",
]

REPLIES_FILE = "replies.log"

TEACHERS: dict[str, Callable[[TeacherSpec, Path, Replies], Teacher]] = {
    "embedded": lambda spec, folder, replies: EmbeddedTeacher(spec, folder=folder, replies=replies),
    "openai": lambda spec, folder, replies: OpenAITeacher(spec, replies=replies),
    "scripted": lambda spec, folder, replies: ScriptedTeacher.from_spec(spec, folder=folder, replies=replies),
}


def open_teacher(spec: TeacherSpec, *, folder: Path, outputs: Path) -> Teacher:
    """Make the teacher a spec asks for; nothing is started or asked yet.

    Args:
        spec: The `teacher` part of the task spec.
        folder: The task folder, against which relative file names count.
        outputs: Folder of the reply cache, which all tasks may share.

    Returns:
        The teacher; call its `close` at the end.

    Raises:
        SpecError: The script of a scripted teacher is missing or wrong.
    """
    return TEACHERS[spec.name](spec, folder, Replies(outputs / REPLIES_FILE))


def ask(teacher: Teacher, requests: Sequence[Request], *, on_reply: OnReply | None = None) -> list[Reply | Abstain]:
    """Answer every request from synchronous code; see `Teacher.complete`."""
    return asyncio.run(teacher.complete(requests, on_reply=on_reply))
