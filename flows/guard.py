"""Who may talk to Prefect's server, which asks for no password: programs on this machine, and its own pages.

Any page in a browser may send requests to 127.0.0.1 (a POST without a content type needs no permission), and a page
that rebinds its own name to 127.0.0.1 may read the answers too. Whoever may talk to Prefect may run commands.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAMES = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """Wraps an ASGI app: every request and every websocket passes here first.

    Args:
        app: What answers those that may pass.
        port: Where it listens, on loopback.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        at = "" if port == 80 else f":{port}"  # browsers leave out the port that is usual
        self._hosts = {f"{name}{at}" for name in NAMES}
        self._origins = {f"http://{host}" for host in self._hosts}
        # The pages may ask this server alone: they report to amplitude.com, whatever the settings say.
        here = " ".join(f"{kind}://{name}{at}" for kind in ("http", "ws") for name in ("127.0.0.1", "localhost"))
        self._policy = (
            f"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src {here}; frame-ancestors 'self'"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["content-security-policy"] = self._policy
            await send(message)

        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send_with_policy)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: answered with 403
        else:
            await refusal(scope, receive, send_with_policy)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return _refused(421, f"this server answers only as {', '.join(sorted(self._hosts))}")
        origins = headers.getlist("origin")
        if origins:
            # No browser lets a page say this of itself. Opened as localhost, our page asks 127.0.0.1: "cross-site".
            ours = all(origin.lower() in self._origins for origin in origins)
            return None if ours else _refused(403, "another page may not ask this server")
        site = headers.get("sec-fetch-site", "none")
        # MLflow's pages and the reports are on other ports: one may follow a link from there, and no more.
        is_link = scope["type"] == "http" and scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if site in ("none", "same-origin") or (site == "same-site" and is_link):
            return None
        return _refused(403, "another page may not ask this server")


def _refused(status: int, why: str) -> Response:
    return JSONResponse({"detail": why}, status, {"connection": "close"})
