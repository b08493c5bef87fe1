"""The line to an OpenAI-compatible server: aiohttp for chats, the official client for the rest, errors made ours."""

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from factory.errors import TeacherError, TeacherRefused
from factory.teacher.endpoint import Declined, Doubtful, Retryable
from factory.teacher.protocol import Abstain, Request
from factory.teacher.wire import NO_LOGPROBS, excerpt

if TYPE_CHECKING:
    from openai import AsyncOpenAI

RETRYABLE = frozenset({408, 409, 425, 429})
"""Beside every 5xx."""
FOR_THIS_ROW = frozenset({400, 413, 422})
GATEWAY_GAVE_UP = frozenset({504, 524})
"""A gateway stopped waiting; the server behind it may have done the work."""
KEY_OR_MODEL = re.compile(
    r"(invalid|incorrect|missing|wrong|unknown|no)[ _-]*(api[ _-]?key|model\b)"
    r"|api[ _-]?key[ _-](not|is|was|has|invalid|expired)"
    r"|model[ _-]not[ _-](found|exist)"
    r"|\bmodel\b[^.]{0,80}\b(does not exist|doesn't exist|not found|not exist)",
    re.IGNORECASE,
)
"""In the body of an HTTP 400: some servers say so what others say by 401 and 404."""
SHORTEST_SECRET = 8
"""Shorter keys are placeholders such as `none`; blotting them out would only mangle texts."""


@dataclass(frozen=True)
class Address:
    """Where a server is and how to get in."""

    base_url: str
    api_key: str = field(repr=False)
    key_env: str
    """Variable the key came from, for messages."""
    model: str
    """Also for messages only: what is asked for is in each payload."""
    timeout_s: float
    concurrency: int

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine."""
        return is_loopback(self.base_url)


def is_loopback(url: str) -> bool:
    """Return whether a URL points at this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def public_url(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query and fragment."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


class ChatConnection:
    """An open client; it belongs to the event loop it was made in."""

    def __init__(self, address: Address) -> None:
        from factory.teacher.transport import open_session

        self._address = address
        self._url = f"{address.base_url.rstrip('/')}/chat/completions"
        self._session = open_session(
            address.api_key or "none",
            concurrency=address.concurrency,
            trust_env=not address.is_loopback,  # a proxy of the environment is no way to this machine
        )
        self._client: AsyncOpenAI | None = None

    async def send(self, request: Request, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Ask once; see `endpoint.Connection.send`."""
        # Not through the official client, which takes three times as long for a call (docs/decisions/0008).
        from aiohttp import ClientConnectorError, ClientError

        try:
            data = json.dumps(payload).encode()
            # A text and a key go where the spec says, and nowhere else.
            async with self._session.post(self._url, data=data, allow_redirects=False) as response:
                content = await response.read()
        except ClientConnectorError as error:
            raise Retryable(self.scrub(_root_cause(error))) from None
        except (ClientError, OSError) as error:
            raise Retryable(self.scrub(_root_cause(error)), may_be_paid=True) from None
        if response.status != HTTPStatus.OK:
            raise self.failure(response.status, content.decode("utf-8", "replace"), response.headers)
        return self._read(content)

    async def aclose(self) -> None:
        """Close all sockets."""
        await self._session.close()
        if self._client is not None:
            await self._client.close()

    async def call(self, method: Literal["get", "post"], path: str, **more: Any) -> bytes:
        """Make one HTTP call other than a chat, through the official client.

        Args:
            method: Of HTTP.
            path: Below the base URL.
            more: As the official client's `get` and `post` take it.

        Returns:
            The body as it came; it may hold the key, see `scrub`.

        Raises:
            Retryable: There was no answer.
            Exception: What `failure` makes of an HTTP error.
        """
        from aiohttp import ClientError
        from httpx2 import Response
        from openai import APIConnectionError, APIStatusError

        self._client = self._client or _open_client(self._address)
        try:
            response: Response = await getattr(self._client, method)(path, cast_to=Response, **more)
        except APIStatusError as error:
            raise self.failure(error.status_code, error.response.text, error.response.headers) from None
        # Most failures of aiohttp arrive as APIConnectionError; malformed HTTP and resets while reading do not.
        except (APIConnectionError, ClientError, OSError) as error:
            raise Retryable(self.scrub(_root_cause(error))) from None
        return response.content

    def _read(self, content: bytes) -> dict[str, Any]:
        """Return a chat completion, or raise what came in its place with HTTP status 200, which was paid for."""
        text = content.decode("utf-8", "replace")
        said = repr(self.scrub(text[:200]))
        try:
            raw = self.read_json(text)
        except ValueError:
            raise Retryable(f"the server sent no JSON but {said}", may_be_paid=True) from None
        if isinstance(raw, dict) and isinstance(choices := raw.get("choices"), list):
            if any(isinstance(choice, dict) and choice.get("finish_reason") == "error" for choice in choices):
                raise Retryable(f"the server broke off: {excerpt(raw)[:200]}", may_be_paid=True)
            return raw
        error = raw.get("error") if isinstance(raw, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, int) and 400 <= code < 600:
            raise self.failure(code, excerpt(raw), {})
        if KEY_OR_MODEL.search(excerpt(error)):
            raise Doubtful(Abstain("unavailable", excerpt(raw)), self._refused(200, excerpt(raw)))
        raise Retryable(f"the server sent no chat completion but {said}", may_be_paid=True)

    def read_json(self, text: str) -> Any:
        """Read what a server said, with the key blotted out and nothing in it that cannot be stored as it is.

        Args:
            text: JSON.

        Returns:
            The data.

        Raises:
            ValueError: It is no JSON, or nested too deeply.
        """
        try:
            return self._clean(json.loads(text))
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def _clean(self, data: Any) -> Any:
        # After reading, not before: in JSON, a key may be written in many ways.
        if isinstance(data, str):
            text = self.scrub(data)
            return text if text.isascii() else text.encode("utf-8", "replace").decode()  # half an emoji is no text
        if isinstance(data, dict):
            return {self._clean(name): self._clean(value) for name, value in data.items()}
        return [self._clean(one) for one in data] if isinstance(data, list) else data

    def failure(self, status: int, text: str, headers: Mapping[str, str]) -> Exception:
        """Sort an HTTP error: final for the run, final for the row, in doubt, or worth another attempt."""
        text = self._excerpt(text)
        if status in (401, 403):
            hint = f"check the key in {self._address.key_env}, and that it may use the model {self._address.model}"
            return TeacherRefused(self._where(status, text), hint=hint)
        if status == 402 or (status == 429 and "insufficient_quota" in text):
            hint = f"the account of the key in {self._address.key_env} has no money left"
            return TeacherRefused(self._where(status, text), hint=hint)
        if status in FOR_THIS_ROW:
            if "logprob" in text:
                return Declined(Abstain(NO_LOGPROBS, text))
            if status == 400 and KEY_OR_MODEL.search(text):
                return Doubtful(Abstain("unavailable", text), self._refused(status, text))
            return Declined(Abstain("bad-request", text))
        if status in RETRYABLE or status >= 500:
            return Retryable(
                f"HTTP {status}: {text[:200]}",
                retry_after_s=_retry_after_s(headers),
                is_refused=status == 429,
                may_be_paid=status in GATEWAY_GAVE_UP,
            )
        return Doubtful(Abstain("unavailable", f"HTTP {status}: {text}"), self._refused(status, text))

    def _excerpt(self, text: str) -> str:
        """Return the start of an error body, readable and without the key."""
        try:
            data = self.read_json(text)
        except ValueError:
            return self.scrub(excerpt(text))
        return excerpt(data)

    def _refused(self, status: int, text: str) -> TeacherError:
        address = self._address
        hint = (
            f"check `teacher.model` ({address.model}) and `teacher.base_url` in the spec, or OPENAI_BASE_URL, "
            f"and the key in {address.key_env}"
        )
        return TeacherRefused(self._where(status, text), hint=hint)

    def _where(self, status: int, text: str) -> str:
        return f"{public_url(self._address.base_url)}: HTTP {status}: {text[:500]}"

    def scrub(self, text: str) -> str:
        """Blot out the key, in case a server repeats it."""
        key = self._address.api_key
        return text.replace(key, "***") if len(key) >= SHORTEST_SECRET else text


def _open_client(address: Address) -> "AsyncOpenAI":
    from httpx2 import Limits
    from openai import AsyncOpenAI, DefaultAioHttpClient

    transport = DefaultAioHttpClient(
        timeout=address.timeout_s,
        limits=Limits(max_connections=address.concurrency, max_keepalive_connections=address.concurrency),
        follow_redirects=False,
        trust_env=not address.is_loopback,
    )
    return AsyncOpenAI(
        base_url=address.base_url,
        api_key=address.api_key or "none",
        max_retries=0,  # the engine retries: it knows the budget and the other calls
        timeout=address.timeout_s,
        http_client=transport,
    )


def _root_cause(error: BaseException) -> str:
    """Describe the first error of a chain: the client calls a refused connection a time-out."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After`: seconds, or an HTTP date (RFC 9110, section 10.2.3)."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - _server_time(headers)
        except (ValueError, OverflowError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _server_time(headers: Mapping[str, str]) -> float:
    """Return the time by the server's clock, which its dates are told by, or by ours when it does not say."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, OverflowError, TypeError):
        return time.time()
