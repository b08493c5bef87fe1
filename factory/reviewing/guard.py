"""Who may talk to the page: this machine's browser, after it showed the token that was printed in the terminal.

Any page in a browser may send requests to 127.0.0.1, and a page that rebinds its own name to it may read the answers.
So the `Host` must be a loopback name with our port, and an `Origin` must be ours. The token is for one use. It stands
behind the `#` of the address, which browsers keep to themselves, and is exchanged for a key that the page sends in a
header: a foreign page can neither read it nor send such a header. Hashes of the keys outlive the server, so that a page
that was open when it was killed goes on afterwards.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from threading import Lock

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from factory.serving.http.problems import Problem, respond
from factory.serving.http.settings import is_loopback

KEY_HEADER = "x-review-key"
MAX_BODY = 2_000_000
MOST_KEYS = 20
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Keys:
    """The token of this start, and the keys that were given for such tokens."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self.token: str | None = secrets.token_urlsafe(24)

    def exchange(self, token: str) -> str | None:
        """Give a key for the token, once; None for any other."""
        with self._lock:
            if self.token is None or not hmac.compare_digest(token.encode(), self.token.encode()):
                return None
            self.token = None
            key = secrets.token_urlsafe(32)
            self._remember(_hash(key))
            return key

    def knows(self, key: str) -> bool:
        """Tell whether a key was given, by this server or by one before it."""
        given = _hash(key)
        return any(hmac.compare_digest(given, known) for known in self._known())

    def _known(self) -> list[str]:
        try:
            return self._path.read_text(encoding="ascii").split()
        except FileNotFoundError:
            return []

    def _remember(self, hashed: str) -> None:
        kept = [*self._known(), hashed][-MOST_KEYS:]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        work = self._path.with_name(f"{self._path.name}.new")
        work.unlink(missing_ok=True)
        fd = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write("\n".join(kept) + "\n")
        work.replace(self._path)


class Guard:
    """Wraps an ASGI app: every request passes here first, and every answer gets its headers here."""

    def __init__(self, app: ASGIApp, keys: Keys, port: int) -> None:
        self._app = app
        self._keys = keys
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self._admit(scope, Headers(scope=scope))
        except Problem as problem:
            await respond(problem, {"connection": "close"})(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        name, _, port = host.rpartition(":")
        if not is_loopback(name.lower()) or port != str(self._port):
            raise Problem(421, "wrong_host", "this page answers only as localhost or by a loopback address")
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            raise Problem(403, "wrong_origin", "another page may not ask this one")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Problem(403, "wrong_origin", "another page may not ask this one")
        if scope["method"] == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise Problem(415, "wrong_type", "expected the content type application/json")
            n_bytes = headers.get("content-length", "")
            if not n_bytes.isdigit() or int(n_bytes[:12]) > MAX_BODY:
                raise Problem(413, "too_large", f"expected a body of known length, at most {MAX_BODY:,} bytes")
        if scope["path"].startswith("/api/") and scope["path"] != "/api/session":
            if not self._keys.knows(headers.get(KEY_HEADER, "")):
                raise Problem(401, "no_session", "open the address that `factory review` printed")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
