"""The server that the benchmark of the teacher asks: what it does on demand, and what it says about it."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from benchmarks.stub_server import Settings, StubServer

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def running() -> Iterator[StubServer]:
    with StubServer() as stub:
        yield stub


@pytest.fixture
def stub(running: StubServer) -> StubServer:
    running.reset()
    return running


def body(text: str, **more: Any) -> bytes:
    return json.dumps({"model": "stub", "messages": [{"role": "user", "content": text}], **more}).encode()


def post(stub: StubServer, content: bytes) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return status, body and headers."""
    request = urllib.request.Request(f"{stub.url}/v1/chat/completions", data=content)
    try:
        with _OPENER.open(request, timeout=10) as response:
            return response.status, json.loads(response.read()), dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), dict(error.headers)


def content_of(stub: StubServer, request: bytes) -> str:
    status, reply, _ = post(stub, request)
    assert status == 200
    return str(reply["choices"][0]["message"]["content"])


def test_an_answer_carries_the_id_of_its_request_and_counts_its_tokens(stub: StubServer) -> None:
    status, reply, _ = post(stub, body("a review, id=17"))
    assert status == 200
    assert reply["choices"][0]["message"]["content"].startswith("id=17 asked=")
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"]


def test_an_answer_tells_what_it_was_given_for(stub: StubServer) -> None:
    answers = {
        content_of(stub, body("id=1")),
        content_of(stub, body("id=1", model="other")),
        content_of(stub, body("be brief, id=1")),
    }
    with StubServer() as other:
        answers.add(content_of(other, body("id=1")))
    assert len(answers) == 4
    assert content_of(stub, body("id=1")) in answers


def test_an_answer_fits_the_schema_that_was_asked_for(stub: StubServer) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "string"}, "note": {"type": "string"}}}
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    fields = json.loads(content_of(stub, body("id=3", response_format=response_format)))
    assert fields.keys() == {"answer", "note"}
    assert fields["answer"].startswith("id=3 asked=")


def test_usage_can_be_left_out(stub: StubServer) -> None:
    stub.reset(Settings(has_usage=False))
    assert "usage" not in post(stub, body("id=1"))[1]


def test_every_nth_request_is_refused_for_good(stub: StubServer) -> None:
    stub.reset(Settings(refuse_every=3))
    assert [post(stub, body(f"id={number}"))[0] for number in (1, 2, 3, 3, 4, 6)] == [200, 200, 400, 400, 200, 400]
    assert post(stub, body("id=3"))[1]["error"]["message"]


def test_a_busy_answer_comes_once_for_each_id_and_says_how_long_to_wait(stub: StubServer) -> None:
    stub.reset(Settings(busy_ratio=1.0, retry_after_s=2))
    status, _, headers = post(stub, body("id=5"))
    assert (status, headers["Retry-After"]) == (429, "2")
    assert [post(stub, body(f"id={number}"))[0] for number in (5, 6, 6)] == [200, 429, 200]


def test_which_requests_meet_a_busy_server_follows_from_the_seed_alone(stub: StubServer) -> None:
    def busy(seed: int, ids: range) -> set[int]:
        stub.reset(Settings(busy_ratio=0.3, seed=seed))
        return {number for number in ids if post(stub, body(f"id={number}"))[0] == 429}

    assert busy(0, range(1, 101)) == busy(0, range(100, 0, -1)) != busy(1, range(1, 101))
    assert 15 <= len(busy(0, range(1, 101))) <= 45


def test_more_calls_than_the_rate_allows_are_refused(stub: StubServer) -> None:
    stub.reset(Settings(calls_per_s=5))
    statuses = [post(stub, body(f"id={number}"))[0] for number in range(1, 11)]
    assert statuses[0] == 200
    assert 429 in statuses


def test_calls_take_as_long_as_they_should_and_are_counted(stub: StubServer) -> None:
    stub.reset(Settings(latency_ms=200, refuse_every=4))
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: post(stub, body(f"id={number}")), [1, 1, 2, 4]))
    assert time.monotonic() - started >= 0.2
    stats = stub.stats()
    assert stats["calls"] == 4
    assert stats["distinct_bodies"] == 3
    assert stats["statuses"] == {"200": 3, "400": 1}
    assert 2 <= stats["max_in_flight"] <= 4
    stub.reset()
    assert stub.stats()["calls"] == 0


def test_a_schema_in_the_prompt_is_answered_in_a_fence(stub: StubServer) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "string"}, "n": {"type": "integer"}}}
    text = f"id=3 <response_schema>\n{json.dumps(schema)}\n</response_schema>"
    in_parts = json.dumps({"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}).encode()
    for request in (body(text), in_parts):
        content = content_of(stub, request)
        fields = json.loads(content.removeprefix("```json\n").removesuffix("\n```"))
        assert fields["answer"].startswith("id=3 asked=")
        assert fields["n"] == 1
