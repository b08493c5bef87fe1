"""The Batch API over HTTP: files up and down, batches made, found and looked at; patient with what may pass."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from factory.errors import TeacherRefused, TeacherUnavailable
from factory.teacher.chat import ChatConnection
from factory.teacher.endpoint import Declined, Doubtful, Retryable
from factory.teacher.limits import Limits

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
TAG = "factory_batch"
"""Name of our entry in a batch's metadata."""
PAGE = 100
"""Batches listed at once: the most the service allows."""
CLOCKS_DIFFER_S = 86_400.0
"""At most, the service's and ours."""
SAME_COMMAND = "the same command goes on waiting for it and pays nothing twice"


@dataclass(frozen=True)
class BatchRules:
    """What the service takes, and how patient to be with it."""

    max_requests: int = 50_000
    """In one batch; as `max_bytes` from OpenAI's API reference, "Create batch", `input_file_id`."""
    max_bytes: int = 200_000_000
    """Of one input file."""
    gather_s: float = 1.0
    """Calls belong together when no more than this lies between them."""
    first_poll_s: float = 5.0
    longest_poll_s: float = 300.0
    patience_s: float = 1800.0
    """How long the service may be down or busy before the run ends."""


class Counts(BaseModel):
    """How far a batch is."""

    completed: int = 0
    failed: int = 0


class Batch(BaseModel):
    """What the service says about a batch."""

    id: str
    status: str
    created_at: float = math.inf
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Any = None
    metadata: dict[str, Any] | None = None
    request_counts: Counts | None = None


class _Page(BaseModel):
    data: list[Batch]
    has_more: bool = False


class _File(BaseModel):
    id: str


class BatchService:
    """The batches of the account a key belongs to."""

    def __init__(self, chat: ChatConnection, limits: Limits, rules: BatchRules) -> None:
        self.chat = chat
        self.rules = rules
        self._limits = limits
        self._jitter = Random()

    async def upload(self, content: bytes) -> str:
        """Upload an input file and return its id; a file without a batch costs nothing."""
        file = {"file": ("requests.jsonl", content, "application/jsonl")}
        more = {"files": file, "options": {"headers": {"Content-Type": "multipart/form-data"}}}
        uploaded = await self._patiently(lambda: self._call(_File, "post", "/files", body={"purpose": "batch"}, **more))
        return uploaded.id

    async def create(self, file_id: str, tag: str) -> str:
        """Make a batch of a file and return its id."""
        since = time.time()
        n_attempts = 0
        body = {
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {TAG: tag},
        }

        async def attempt() -> str:
            nonlocal n_attempts
            n_attempts += 1
            # An attempt that failed may have made the batch and lost the answer only.
            found = await self._look_for(tag, since) if n_attempts > 1 else None
            return found or (await self._call(Batch, "post", "/batches", body=body)).id

        return await self._patiently(attempt)

    async def find(self, tag: str, *, since: float) -> str | None:
        """Return the id of the batch that has a tag and is no older than a time, or None."""
        return await self._patiently(lambda: self._look_for(tag, since))

    async def retrieve(self, batch_id: str) -> Batch:
        """Return what has become of a batch."""
        return await self._patiently(lambda: self._call(Batch, "get", f"/batches/{batch_id}"))

    async def download(self, file_id: str) -> bytes:
        """Return a file."""
        return await self._patiently(lambda: self.chat.call("get", f"/files/{file_id}/content"))

    async def pause(self, attempt: int) -> None:
        """Wait before another attempt."""
        await asyncio.sleep(self._limits.backoff_s(attempt, self._jitter))

    async def _look_for(self, tag: str, since: float) -> str | None:
        params: dict[str, Any] = {"limit": PAGE}
        while True:
            page = await self._call(_Page, "get", "/batches", options={"params": params})
            for batch in page.data:  # newest first
                if (batch.metadata or {}).get(TAG) == tag:
                    return batch.id
            if not page.has_more or not page.data or page.data[-1].created_at < since - CLOCKS_DIFFER_S:
                return None
            params = {"limit": PAGE, "after": page.data[-1].id}

    async def _call(self, kind: type[M], method: Literal["get", "post"], path: str, **more: Any) -> M:
        content = await self.chat.call(method, path, **more)
        text = content.decode("utf-8", "replace")
        try:
            return kind.model_validate(self.chat.read_json(text))
        except ValueError:  # also what pydantic raises
            said = repr(self.chat.scrub(text[:200]))
            raise Retryable(f"{path}: not what a Batch API answers: {said}") from None

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        started = time.monotonic()
        n_failed = 0
        while True:
            try:
                return await attempt()
            except Declined as declined:
                message = f"the service does not take the batch: {declined.abstain.raw}"
                raise TeacherRefused(message, hint="its words say what to change") from None
            except (TeacherRefused, Doubtful) as error:
                refused = error.error if isinstance(error, Doubtful) else error
                more = "a server without a Batch API needs `mode: live`; a batch that is gone, or of another account, "
                hint = f"{refused.hint}; {more}is forgotten when its entry in batches.json is deleted"
                raise TeacherRefused(str(refused), hint=hint) from None
            except Retryable as failure:
                n_failed += 1
                wait_s = max(failure.retry_after_s or 0.0, self._limits.backoff_s(n_failed, self._jitter))
                if time.monotonic() + wait_s - started > self.rules.patience_s:
                    message = f"the Batch API gave no answer in {n_failed} attempts; the last: {failure}"
                    raise TeacherUnavailable(message, hint=f"whatever was sent is kept: {SAME_COMMAND}") from None
            await asyncio.sleep(wait_s)
