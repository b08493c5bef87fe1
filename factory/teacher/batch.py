"""`mode: batch`: the same requests through OpenAI's Files and Batches, cheaper and later.

The engine does not notice: it makes its calls as ever, only all at once. Calls that come together go into a file, the
file becomes a batch, and each answer goes back to its call by its key when the batch has ended. What the engine
promises about cache, budget and ledger holds unchanged; a budget too small for the upper bounds of all calls gives
several batches, one after the other, and the same verdicts as live calls.

`batches.json` beside the reply store remembers what is on its way. An entry is written before anything is sent, under
a random tag that the batch carries in its metadata; its id is added when the service has said it. Whoever finds an
entry without an id looks for the tag among the account's batches. So the same command goes on after `kill -9` at any
moment. What remains, and pays twice: a batch that was made but is not listed yet when the next run looks, a
`batches.json` that was deleted, and a change to `mode: live` while a batch is on its way.
"""

import asyncio
import io
import json
import math
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel

from factory.events import Progressed, Warned, emit
from factory.teacher.batch_memory import BatchMemory, Sent
from factory.teacher.batch_service import ENDED, SAME_COMMAND, Batch, BatchRules, BatchService, Counts
from factory.teacher.chat import ChatConnection
from factory.teacher.endpoint import Connection, Declined, Doubtful, Endpoint, Retryable
from factory.teacher.limits import Limits
from factory.teacher.protocol import Abstain, Request
from factory.teacher.replies import Exchange, Replies, key_of
from factory.teacher.wire import excerpt

GATHERING = Limits(concurrency=100_000, timeout_s=math.inf, max_attempts=1, first_call_alone=False, is_resumed=True)
"""For the engine, which only hands requests over; two full batches at once, which is about a gigabyte."""
READS = 3
"""A complete batch whose files lack answers is read so often: they have been paid for."""
HAND_OVER = 256
"""Replies that wait in memory at once for those who asked."""


class ChatEndpoint(Endpoint, Protocol):
    """An endpoint whose line takes other calls than chats too."""

    async def connect(self) -> ChatConnection:
        """Open a line."""


class BatchEndpoint:
    """An OpenAI-compatible server, asked through its Batch API."""

    def __init__(self, chat: ChatEndpoint, replies: Replies, *, limits: Limits, rules: BatchRules) -> None:
        self.identity = chat.identity  # the same as live: who answers is the same
        self._chat = chat
        self._replies = replies
        self._limits = limits
        self._rules = rules

    def encode(self, request: Request) -> dict[str, Any]:
        """Write a request as a live call would."""
        return self._chat.encode(request)

    async def connect(self) -> Connection:
        """Open a line; it belongs to one event loop."""
        service = BatchService(await self._chat.connect(), self._limits, self._rules)
        memory = BatchMemory(self._replies.path.with_name("batches.json"))
        return _BatchConnection(self.identity, service, self._replies, memory)


class _Response(BaseModel):
    status_code: int = 0
    body: Any = None


class _Line(BaseModel):
    custom_id: str
    response: _Response | None = None
    error: Any = None


@dataclass
class _Asked:
    """A call of the engine, and where it waits for its reply or its failure."""

    payload: Mapping[str, Any]
    sample: int
    outcome: "asyncio.Future[dict[str, Any] | Exception]"


Failures = dict[str, Exception | None]
"""By key; None where there is a reply, which is in the reply store."""


class _BatchConnection:
    """Gathers calls into batches and waits for these."""

    def __init__(self, identity: str, service: BatchService, replies: Replies, memory: BatchMemory) -> None:
        self._identity = identity
        self._service = service
        self._replies = replies
        self._memory = memory
        self._gathered: dict[str, _Asked] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_their_way: dict[str, list[str]] = {}
        """Id of each batch that is waited for -> the keys in it."""

    async def send(self, request: Request, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Ask in a batch; see `endpoint.Connection.send`."""
        if not self._gathered:
            task = asyncio.create_task(self._answer_all())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        asked = _Asked(payload, request.sample, asyncio.get_running_loop().create_future())
        self._gathered[key_of(self._identity, payload, request.sample)] = asked
        outcome = await asked.outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def aclose(self) -> None:
        """Stop waiting; batches that are on their way stay there."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for batch_id, keys in self._on_their_way.items():
            emit(Warned("teacher", f"{batch_id} ({len(keys):,} requests) runs on at the service; {SAME_COMMAND}"))
        await self._service.chat.aclose()

    async def _answer_all(self) -> None:
        n_before = -1
        while n_before != len(self._gathered):
            n_before = len(self._gathered)
            await asyncio.sleep(self._service.rules.gather_s)
        asked, self._gathered = self._gathered, {}
        try:
            await self._wait(await self._submit(asked), asked)
        except Exception as error:
            # Whatever it is, it ends the run; the engine raises the first that it hears of.
            waiting = [one.outcome for one in asked.values() if not one.outcome.done()]
            for outcome in waiting:
                outcome.set_result(error)
            if not waiting:
                raise

    async def _submit(self, asked: Mapping[str, _Asked]) -> dict[str, list[str]]:
        """Make batches of what is not on its way yet; return all that will answer something of what is asked."""
        async with self._memory.locked():  # nobody submits the same meanwhile
            remembered = self._memory.load()
            for sent in [one for one in remembered if one.id is None and one.endpoint == self._identity]:
                sent.id = await self._service.find(sent.tag, since=sent.at)
                if sent.id is None:
                    remembered.remove(sent)
                self._memory.save(remembered)
            known = {key for sent in remembered for key in sent.keys}
            new = {key: one.payload for key, one in asked.items() if key not in known}
            for keys, content in _split(new, self._service.rules):
                sent = Sent(tag=uuid.uuid4().hex, endpoint=self._identity, at=time.time(), keys=keys)
                remembered.append(sent)
                self._memory.save(remembered)
                emit(Progressed("teacher", 0, len(keys), "requests", f"sending a batch of {len(content):,} bytes"))
                sent.id = await self._service.create(await self._service.upload(content), sent.tag)
                self._memory.save(remembered)
                self._on_their_way[sent.id] = keys
        return {sent.id: sent.keys for sent in remembered if sent.id and not asked.keys().isdisjoint(sent.keys)}

    async def _wait(self, batches: Mapping[str, list[str]], asked: Mapping[str, _Asked]) -> None:
        """Poll until all batches have ended, and hand over what each brings as soon as it is there."""
        self._on_their_way |= batches
        left = dict(batches)
        missing: dict[str, Declined] = {}
        n_total = sum(map(len, batches.values()))
        wait_s = self._service.rules.first_poll_s
        while left:
            notes, n_open = [], 0
            for batch_id, keys in list(left.items()):
                batch = await self._service.retrieve(batch_id)
                if batch.status in ENDED:
                    missing |= await self._collect(batch, [key for key in keys if key in asked], asked)
                    del left[batch_id]
                    self._on_their_way.pop(batch_id, None)
                else:
                    counts = batch.request_counts or Counts()
                    n_open += len(keys) - counts.completed - counts.failed
                    notes.append(f"{batch_id} {batch.status}")
            note = f"{', '.join(notes)}; stop it if you like, the same command goes on" if notes else ""
            emit(Progressed("teacher", n_total - n_open, n_total, "requests", note))
            if left:
                await asyncio.sleep(wait_s)
                wait_s = min(1.5 * wait_s, self._service.rules.longest_poll_s)
        await self._hand_over(missing, asked)

    async def _collect(self, batch: Batch, keys: list[str], asked: Mapping[str, _Asked]) -> dict[str, Declined]:
        """Store the replies of a batch that has ended, hand over what is decided, return what may pass."""
        found: Failures = {}
        for attempt in range(READS):
            if attempt:
                await self._service.pause(attempt)
            for file_id in (batch.output_file_id, batch.error_file_id):
                if file_id is not None:
                    self._read(await self._service.download(file_id), set(keys), asked, found)
            if len(found) == len(keys) or batch.status != "completed":
                break
        await self._memory.forget(batch.id, keys)  # only now: until here, another run could do all this again
        why = f"{batch.id} {batch.status} without an answer to it"
        why += f": {excerpt(batch.errors)}" if batch.errors else ""
        nothing = _unavailable(why, may_be_paid=batch.status == "completed")
        missing = {key: nothing for key in keys if key not in found}
        for key, failure in found.items():
            if isinstance(failure, Declined) and failure.abstain.may_pass:
                missing[key] = failure
        await self._hand_over({key: found[key] for key in found if key not in missing}, asked)
        return missing

    def _read(self, content: bytes, keys: set[str], asked: Mapping[str, _Asked], found: Failures) -> None:
        """Take in a file, its lines in any order, some of them twice, damaged or not ours; a reply beats a failure."""
        for row in io.BytesIO(content):
            try:
                line = _Line.model_validate(self._service.chat.read_json(row.decode("utf-8", "replace")))
            except ValueError:  # also what pydantic raises
                continue
            key, response = line.custom_id, line.response or _Response()
            if key not in keys or (key in found and found[key] is None):
                continue
            body = response.body
            if response.status_code == 200 and isinstance(body, dict) and isinstance(body.get("choices"), list):
                one = asked[key]
                # Nobody knows how long the teacher took for one of many.
                self._replies.put(key, Exchange(self._identity, one.payload, one.sample, body, seconds=0.0))
                found[key] = None
            else:
                found.setdefault(key, self._failure(response.status_code, excerpt(line.error or body)))

    def _failure(self, status: int, text: str) -> Exception:
        # Status 200 with something strange was paid for; without a status, it was not the turn of the request.
        more = Retryable(text, may_be_paid=status == 200)
        failure = self._service.chat.failure(status, text, {}) if status >= 400 else more
        if isinstance(failure, Retryable):
            return _unavailable(str(failure), may_be_paid=failure.may_be_paid)
        return failure.error if isinstance(failure, Doubtful) else failure

    async def _hand_over(self, found: Mapping[str, Exception | None], asked: Mapping[str, _Asked]) -> None:
        for n, (key, failure) in enumerate(found.items()):
            if n % HAND_OVER == 0:
                await asyncio.sleep(0)
            if not asked[key].outcome.done():
                reply = self._replies.get(key) if failure is None else failure
                asked[key].outcome.set_result(
                    reply or _unavailable("its line in the reply store is damaged", may_be_paid=True)
                )


def _unavailable(why: str, *, may_be_paid: bool = False) -> Declined:
    return Declined(Abstain("unavailable", why), may_be_paid=may_be_paid)


def _split(payloads: Mapping[str, Mapping[str, Any]], rules: BatchRules) -> Iterator[tuple[list[str], bytes]]:
    """Write input files, each as long as the service takes it, and the keys in each."""
    keys: list[str] = []
    lines: list[bytes] = []
    n_bytes = 0
    for key, payload in payloads.items():
        asked = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": payload}
        line = json.dumps(asked).encode() + b"\n"
        if keys and (len(keys) == rules.max_requests or n_bytes + len(line) > rules.max_bytes):
            yield keys, b"".join(lines)
            keys, lines, n_bytes = [], [], 0
        keys.append(key)
        lines.append(line)
        n_bytes += len(line)
    if keys:
        yield keys, b"".join(lines)
