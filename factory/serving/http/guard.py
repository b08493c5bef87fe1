"""What every request passes before FastAPI sees it: key, host, size, time; and its line in the log afterwards.

Plain ASGI, the outermost layer, so that nothing of a body is read for a stranger and nothing is answered uncounted.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from factory.serving.http.metrics import Metrics
from factory.serving.http.problems import Problem, respond
from factory.serving.http.settings import Settings, is_loopback

logger = logging.getLogger(__name__)

OPEN_PATHS = ("/healthz", "/readyz")
"""Answered without a key: whatever restarts a container has none, and learns nothing but the version."""
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
TRACE = "factory.trace"
"""Key of the request's `Trace` in its ASGI scope."""
CLOSE = {"connection": "close"}


@dataclass
class Trace:
    """What a handler adds to the log line of its request."""

    request_id: str
    n_texts: int = 0
    version: int | None = None


class Guard:
    """Wraps an ASGI app."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._limits = settings.limits
        self._key = _digest(settings.key) if settings.key is not None else None
        # Nothing asks a browser on this machine for a key: a page that rebinds its own name to 127.0.0.1 could ask too.
        self._only_local_names = settings.key is None and settings.is_local
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        trace = Trace(given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex)
        scope[TRACE] = trace
        status = 0

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = trace.request_id
            await send(message)

        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._answer(scope, receive, send_noted)
        except TimeoutError:
            if not status:
                late = Problem(503, "timeout", f"no answer within {self._limits.seconds:g} seconds")
                await respond(late, CLOSE)(scope, receive, send_noted)
        except ConnectionError:
            status = status or 499  # nginx's word for a client that went away
        except Exception as error:
            logger.error("request failed", exc_info=error, extra={"fields": {"id": trace.request_id}})
            if not status:
                unforeseen = Problem(500, "internal", "this was not foreseen; the server's log says where")
                await respond(unforeseen)(scope, receive, send_noted)
        finally:
            self._note(scope, trace, status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            self._admit(scope, headers)
            body = await self._read(headers, receive)
        except Problem as problem:
            # The rest of the body is not read: what follows on this connection would not be understood.
            await respond(problem, CLOSE)(scope, receive, send)
        else:
            await self._app(scope, _replay(body, receive), send)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        if self._only_local_names and not _is_local_name(headers.get("host", "")):
            raise Problem(
                421, "wrong_host", "a server without a key answers only as localhost or by a loopback address"
            )
        if self._key is None or scope["path"] in OPEN_PATHS:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(_digest(given.strip()), self._key):
            raise Problem(401, "invalid_api_key", "expected the header `Authorization: Bearer KEY` with the right key")

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        limit, n_bytes = self._limits.body_bytes, 0
        too_large = Problem(413, "too_large", f"expected a body of at most {limit:,} bytes")
        if headers.get("content-length", "0").isdigit() and int(headers.get("content-length", "0")[:20]) > limit:
            raise too_large
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._limits.seconds / 2):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionError
                    parts.append(message.get("body", b""))
                    n_bytes += len(parts[-1])
                    if n_bytes > limit:
                        raise too_large
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError as error:
            raise Problem(408, "slow_body", f"no whole body within {self._limits.seconds / 2:g} seconds") from error

    def _note(self, scope: Scope, trace: Trace, status: int, seconds: float) -> None:
        # The template of the path, never the path: a client may write anything into it.
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.request(route, status, seconds)
        fields: dict[str, Any] = {
            "id": trace.request_id,
            "method": scope["method"] if scope["method"] in ("GET", "POST") else "other",
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 2),
            "n_texts": trace.n_texts,
            "version": trace.version,
        }
        logger.info("request", extra={"fields": fields})


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body in one piece, then whatever comes next."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _digest(key: str) -> bytes:
    """Hash a key, so that the comparison takes as long for any length."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _is_local_name(host: str) -> bool:
    name = host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return is_loopback(name.lower())
