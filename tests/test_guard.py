"""Who Prefect's server answers: the API runs commands for whoever may ask, so no page of another site may."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flows.guard import Guard
from flows.server import prefect_server

PORT = 4200
OURS = {"host": f"127.0.0.1:{PORT}"}
FOREIGN: dict[str, tuple[int, dict[str, str]]] = {
    "a form of another site": (403, OURS | {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}),
    "an old browser says only the origin": (403, OURS | {"origin": "https://evil.example"}),
    "a sandboxed frame": (403, OURS | {"origin": "null"}),
    "a page on another port of this machine": (403, OURS | {"origin": "http://127.0.0.1:8888"}),
    "our address with another scheme": (403, OURS | {"origin": f"https://127.0.0.1:{PORT}"}),
    "a name that starts like ours": (403, OURS | {"origin": f"http://127.0.0.1:{PORT}.evil.example"}),
    "an image of another site": (403, OURS | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),
    "a link of another site": (403, OURS | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),
    "an image on another port": (403, OURS | {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}),
    "a name that was rebound": (421, {"host": f"evil.example:{PORT}", "origin": f"http://evil.example:{PORT}"}),
    "a rebound name, nothing else": (421, {"host": f"evil.example:{PORT}", "sec-fetch-site": "same-origin"}),
    "a name below ours": (421, {"host": f"127.0.0.1.evil.example:{PORT}"}),
    "another port": (421, {"host": "127.0.0.1:80"}),
    "no port": (421, {"host": "127.0.0.1"}),
    "no host": (421, {}),
}
KNOWN: dict[str, dict[str, str]] = {
    "Prefect's client": OURS,
    "a program by name": {"host": f"LocalHost:{PORT}"},
    "a program by IPv6": {"host": f"[::1]:{PORT}"},
    "our page": OURS | {"origin": f"http://127.0.0.1:{PORT}", "sec-fetch-site": "same-origin"},
    "our page, opened as localhost": OURS | {"origin": f"http://localhost:{PORT}", "sec-fetch-site": "cross-site"},
    "our page, reading": OURS | {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"},
    "an address that was typed": OURS | {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
    "a link of the reports": OURS | {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"},
}


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _answer(kind: str, headers: Mapping[str, str], method: str = "GET", port: int = PORT) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": f"{kind}.connect" if kind == "websocket" else "http.request"}

    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": method, "path": "/", "headers": encoded}
    asyncio.run(Guard(_app, port)(scope, receive, send))
    return sent


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("who", FOREIGN)
def test_a_foreign_page_is_refused_whatever_it_asks(who: str, method: str) -> None:
    status, headers = FOREIGN[who]
    assert _answer("http", headers, method)[0]["status"] == status


@pytest.mark.parametrize("who", FOREIGN)
def test_a_foreign_page_opens_no_websocket(who: str) -> None:
    assert [one["type"] for one in _answer("websocket", FOREIGN[who][1])] == ["websocket.close"]


@pytest.mark.parametrize("who", KNOWN)
def test_programs_of_this_machine_and_our_pages_are_answered(who: str) -> None:
    start = _answer("http", KNOWN[who])[0]
    assert start["status"] == 201
    assert b"frame-ancestors 'self'" in dict(start["headers"])[b"content-security-policy"]
    assert [one["type"] for one in _answer("websocket", OURS)] == ["websocket.accept"]


def test_a_page_on_another_port_may_link_here_and_give_no_orders() -> None:
    assert _answer("http", KNOWN["a link of the reports"], "POST")[0]["status"] == 403


def test_the_usual_port_is_left_out_by_browsers() -> None:
    assert _answer("http", {"host": "127.0.0.1", "origin": "http://127.0.0.1"}, port=80)[0]["status"] == 201


@pytest.mark.slow
def test_prefects_server_stands_behind_the_guard_and_its_clients_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.events.clients import PrefectEventsClient
    from prefect.settings import PREFECT_API_URL
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    with prefect_server(tmp_path) as wait:
        wait()
        url = PREFECT_API_URL.value()
        assert url is not None
        port = httpx.URL(url).port
        for status, headers in ((403, {"origin": "http://evil.example"}), (421, {"host": f"evil.example:{port}"})):
            assert httpx.post(f"{url}/flows/", content=b'{"name": "evil"}', headers=headers).status_code == status
        socket = f"{url.replace('http', 'ws', 1)}/events/in"
        with pytest.raises(InvalidStatus, match="403"), connect(socket, origin="http://evil.example"):  # type: ignore[arg-type]  # a str is one
            pass

        with get_client(sync_client=True) as client:
            client.create_flow_from_name("mine")
        assert [one["name"] for one in httpx.post(f"{url}/flows/filter", json={}).json()] == ["mine"]
        asyncio.run(_open(PrefectEventsClient()))


async def _open(client: Any) -> None:
    async with client:
        pass
