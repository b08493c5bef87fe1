"""What strangers send: too much, too slowly, too deep, the wrong type, half characters, without a key."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.serving.http.batching import Batcher
from factory.serving.http.protocol import HEAD_BYTES, GuardedProtocol
from factory.serving.http.settings import Limits
from tests.serving import Running, running

KEY = "a-key-that-nobody-guesses"
POSTS = ("/v1/predict", "/v1/explain", "/v1/chat/completions", "/v1/classify")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("serving"), limits=Limits(body_bytes=300_000, seconds=4)) as one:
        yield one


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("guarded"), key=KEY) as one:
        yield one


def raw(server: Running, sent: bytes, *, wait_s: float = 5) -> bytes:
    """Send bytes as they are and return all that comes until the server closes or falls silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait_s) as connection:
        connection.sendall(sent)
        got = b""
        try:
            while chunk := connection.recv(65_536):
                got += chunk
        except TimeoutError:
            return got + b" (still open)"
        return got


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (b"", {422}),
        (b"{", {400}),
        (b'{"texts": ["a"', {400}),
        (b"\xff\xfe", {400}),
        (b'{"texts": ["\xff"]}', {400}),
        (b"[" * 100_000, {400}),
        (b'{"a":' * 30_000, {400}),
        (b"9" * 10_000, {400, 422}),
        (b"NaN", {422}),
        (b"null", {422}),
        (b"[]", {422}),
        (b'"text"', {422}),
        (b'{"texts": 7, "text": 7, "messages": 7, "input": 7}', {422}),
        (b'{"texts": [7], "text": [7], "messages": [7], "input": [7]}', {422}),
        (b'{"texts": [], "text": null, "messages": [], "input": []}', {422}),
        (rb'{"texts": ["\ud800"], "text": "\ud800", "input": "\ud800"}', {422}),
        (rb'{"messages": [{"role": "user", "content": "\udc00"}], "\ud800": 1}', {422}),
    ],
)
def test_what_is_no_request_is_refused_and_says_so(path: str, body: bytes, statuses: set[int], server: Running) -> None:
    reply = server.ask(path, body, method="POST")
    assert reply.status in statuses
    error = reply.json["error"]
    assert error["type"] == "invalid_request_error"
    assert 0 < len(error["message"]) <= 500


def test_what_a_request_lacks_is_named_and_never_repeated(server: Running) -> None:
    error = server.ask("/v1/predict", {"texts": ["a", 7]}).json["error"]
    assert (error["param"], error["code"]) == ("body.texts.1", "invalid_body")
    assert error["message"] == "body.texts.1: Input should be a valid string"
    unknown = server.ask("/v1/predict", {"texts": ["a"], "model": "x"}).json["error"]
    assert "Extra inputs are not permitted" in unknown["message"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/predict", {"texts": ["a"] * 1001}, 422),
        ("/v1/predict", {"texts": ["a" * 100_001]}, 422),
        ("/v1/predict", {"texts": ["a" * 100_000]}, 200),
        ("/v1/classify", {"input": ["a"] * 1001}, 422),
        ("/v1/classify", {"input": "a" * 100_001}, 422),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a" * 100_001}]}, 422),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "n": 1000}, 422),
        ("/v1/explain", {"text": "a " * 5_000}, 200),
        ("/v1/explain", {"text": "a " * 5_001}, 422),
    ],
)
def test_a_request_may_ask_so_much_and_no_more(path: str, body: dict[str, Any], status: int, server: Running) -> None:
    assert server.ask(path, body).status == status


def test_a_body_that_is_announced_too_large_is_not_read(server: Running) -> None:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    got = raw(server, head + b"Content-Length: 99999999999\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in got.lower()
    chunks = b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    more = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    assert raw(server, head + chunks + 5 * more).startswith(b"HTTP/1.1 413")


def test_a_compressed_body_is_not_unpacked(server: Running) -> None:
    import gzip

    bomb = gzip.compress(b'{"texts": ["' + b"a" * 1_000_000 + b'"]}')
    assert server.ask("/v1/predict", bomb, method="POST", content_encoding="gzip").status == 400


def test_a_body_that_never_ends_is_given_up(server: Running) -> None:
    head = (
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n"
    )
    assert raw(server, head + b'{"texts"').startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: y\r\n"])
def test_a_head_that_never_ends_is_given_up(sent: bytes, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedProtocol, "head_seconds", 0.3)
    assert raw(server, sent) == b""
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    second = raw(server, whole + sent, wait_s=2)  # the clock runs anew for the next request of a connection
    assert second.startswith(b"HTTP/1.1 200")
    assert second.endswith(b"(still open)") is (sent == b"")


def test_a_head_without_end_is_cut_off(server: Running) -> None:
    endless = b"GET /healthz HTTP/1.1\r\n" + b"X-Long: " + b"y" * (2 * HEAD_BYTES)
    try:
        got = raw(server, endless)
    except ConnectionResetError:
        return
    assert got.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("sent", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"])
def test_what_is_no_http_is_refused(sent: bytes, server: Running) -> None:
    assert raw(server, sent, wait_s=1).startswith(b"HTTP/1.1 400")
    assert server.ask("/healthz").status == 200


def test_a_request_that_takes_too_long_ends_and_leaves_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, limits=Limits(seconds=0.5)) as server:
        may_go = threading.Event()
        slow = server.live.current.student.predict
        monkeypatch.setattr(server.live.current.student, "predict", lambda texts: may_go.wait(10) and slow(texts))
        started = time.monotonic()
        reply = server.ask("/v1/predict", {"texts": ["play"]})
        assert (reply.status, reply.json["error"]["code"]) == (503, "timeout")
        assert time.monotonic() - started < 5
        may_go.set()
        assert server.ask("/v1/predict", {"texts": ["play"]}).status == 200


def test_too_many_waiting_texts_are_refused_with_the_time_to_come_back(tmp_path: Path) -> None:
    with running(tmp_path, limits=Limits(waiting_texts=2)) as server:
        reply = server.ask("/v1/predict", {"texts": ["a", "b", "c"]})
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("given", "status"),
    [(None, 401), ("", 401), (KEY, 401), (f"Basic {KEY}", 401), (f"Bearer {KEY}x", 401), (f"Bearer {KEY[:-1]}", 401),
     ("Bearer ", 401), (f"Bearer {KEY}", 200), (f"bearer  {KEY} ", 200)],
)  # fmt: skip
def test_only_who_has_the_key_is_answered(given: str | None, status: int, guarded: Running) -> None:
    headers = {} if given is None else {"authorization": given}
    reply = guarded.ask("/v1/predict", {"texts": ["play"]}, **headers)
    assert reply.status == status
    assert KEY not in reply.body.decode()


def test_without_the_key_only_health_is_told(guarded: Running) -> None:
    statuses = {path: guarded.ask(path).status for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/x")}
    assert statuses == {"/healthz": 200, "/readyz": 200, "/metrics": 401, "/openapi.json": 401, "/x": 401}
    schema = guarded.ask("/openapi.json", authorization=f"Bearer {KEY}").json
    assert schema["security"] == [{"key": []}]


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("127.0.0.1:8000", 200), ("[::1]:80", 200), ("rebound.example.org", 421), ("10.0.0.1", 421),
     ("", 421)],
)  # fmt: skip
def test_a_page_that_calls_this_machine_by_another_name_is_not_answered(
    host: str, status: int, server: Running
) -> None:
    assert server.ask("/healthz", host=host).status == status


def test_a_server_with_a_key_answers_under_any_name(guarded: Running) -> None:
    reply = guarded.ask("/v1/predict", {"texts": ["a"]}, authorization=f"Bearer {KEY}", host="models.example.org")
    assert reply.status == 200


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/v1/models/..%2f..%2fetc%2fpasswd", "/v1/models/%00", "/%ff", "/static/../predict", "//"],
)
def test_a_path_leads_nowhere_but_to_a_route(path: str, server: Running) -> None:
    reply = server.ask(path)
    assert (reply.status, reply.json["error"]["code"]) in {(404, "not_found"), (404, "model_not_found")}


def test_a_wrong_method_and_a_wrong_type_are_refused(server: Running) -> None:
    assert server.ask("/v1/predict").status == 405
    assert server.ask("/v1/predict", {"texts": ["a"]}, content_type="text/plain").status == 422
    assert server.ask("/healthz", {}).status == 405


def test_a_request_id_is_taken_over_only_when_it_is_harmless(server: Running) -> None:
    assert server.ask("/healthz", x_request_id="abc-1").headers["x-request-id"] == "abc-1"
    assert len(server.ask("/healthz", x_request_id='"}, "x": "').headers["x-request-id"]) == 32


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "texts",
                    "text",
                    "messages",
                    "input",
                    "role",
                    "user",
                    "content",
                    "n",
                    "stream",
                    "response_format",
                    "type",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(path=st.sampled_from(POSTS), body=values)
def test_nothing_in_a_body_is_a_server_error(path: str, body: object, server: Running) -> None:
    reply = server.ask(path, json.dumps(body).encode(), method="POST")
    assert reply.status in (200, 400, 413, 422), reply.body
    assert isinstance(reply.json, dict) or reply.headers["content-type"].startswith("text/event-stream")


def test_an_error_nobody_foresaw_is_said_without_its_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a text of the client")

    with running(tmp_path) as server:
        monkeypatch.setattr(Batcher, "ask", fail)
        reply = server.ask("/v1/predict", {"texts": ["play"]})
        assert (reply.status, reply.json["error"]["type"]) == (500, "server_error")
        assert b"a text of the client" not in reply.body
