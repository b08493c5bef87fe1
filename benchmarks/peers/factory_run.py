"""The factory's own teacher with everything on: reply store, ledger, budget in money, schema in every request.

Every answer is read as JSON and must hold the fields of the schema.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks.peers.peer_job import MAX_TOKENS, Job, measure, prompt_of
from factory.spec import Budget, Prices, TeacherSpec
from factory.teacher import Abstain, Message, Reply, Request, ask, open_teacher

FIELDS = "answer"
"""Asked for when the job names none: the factory always asks with a schema."""


def play(job: Job) -> Mapping[int, str]:
    """Ask for every row."""
    spec = TeacherSpec(
        name="openai",
        model=job.model,
        base_url=job.base_url,
        concurrency=job.in_flight,
        # Set, so that it is reserved and settled for each call, but never what stops the job.
        budget=Budget(calls=10 * job.calls, tokens=10_000 * job.calls, usd=1.0 * job.calls),
        prices=Prices(input_usd_per_million=0.15, output_usd_per_million=0.6),
    )
    schema = replace(job, fields=job.fields or FIELDS).schema
    system = Message("system", job.system)
    requests = [
        Request((system, Message("user", prompt_of(number))), max_tokens=MAX_TOKENS, schema=schema)
        for number in job.ids
    ]
    teacher = open_teacher(spec, folder=job.folder, outputs=job.folder)
    try:
        replies = ask(teacher, requests)
    finally:
        teacher.close()
    answers = {number: _read(reply, schema) for number, reply in zip(job.ids, replies, strict=True)}
    return {number: answer for number, answer in answers.items() if answer is not None}


def _read(reply: Reply | Abstain, schema: Mapping[str, Any] | None) -> str | None:
    """Return the answer if it fits the schema."""
    if isinstance(reply, Abstain) or schema is None:
        return None
    try:
        fields = json.loads(reply.text)
    except ValueError:
        return None
    fits = isinstance(fields, dict) and fields.keys() == schema["properties"].keys()
    return reply.text if fits and all(isinstance(value, str) for value in fields.values()) else None


def main() -> None:
    """Import what is not to be timed, then measure."""
    import openai

    openai.AsyncOpenAI, openai.DefaultAioHttpClient  # noqa: B018  imported when they are first named
    measure(play)


if __name__ == "__main__":
    main()
