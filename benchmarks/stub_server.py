"""A local OpenAI-compatible server that costs almost nothing: what every contender of `benchmarks.teacher` asks.

python -m benchmarks.stub_server        prints its address; ends when its standard input does

POST /v1/chat/completions   an answer, or what the settings ask for instead
POST /reset                 a JSON object of `Settings`; what it does not name is as it was at the start
GET  /stats                 what has happened since the last reset

A user says `id=17` somewhere in a prompt, and the answer is `id=17 asked=<hash> ...`. The hash is of the port and of
every byte of the request, so an answer given for another request, model, system prompt or endpoint can be told.
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from aiohttp import web

ROOT = Path(__file__).parents[1]
START_LIMIT_S = 30.0
FILLER = " ".join(["The acting is fine and the plot is thin, but the music stays with you for days."] * 2)
"""After what identifies an answer; about as long as a generated sentence or two."""
COMPLETION_TOKENS = 40
BYTES_PER_TOKEN = 4

_ID = re.compile(rb"\bid=(\d+)")
_SCHEMA_IN_PROMPT = re.compile(r"<response_schema>\s*(\{.*\})\s*</response_schema>", re.DOTALL)
"""How those ask who put the schema into the prompt; they want the answer in a fence."""


@dataclass(frozen=True)
class Settings:
    """How the server behaves until the next reset."""

    latency_ms: float = 0.0
    """Of every call, refused ones included."""
    refuse_every: int = 0
    """Requests whose id is a multiple of this get HTTP 400, always; 0 for none."""
    busy_ratio: float = 0.0
    """Share of ids that get HTTP 429 the first time they are seen, and never again."""
    retry_after_s: float = 1.0
    """What a 429 tells the client to wait."""
    calls_per_s: float = 0.0
    """More than this, and calls get HTTP 429; bursts of one second's worth pass. 0 for no limit."""
    has_usage: bool = True
    """Whether replies count tokens."""
    seed: int = 0
    """Of the draw for `busy_ratio`: the same seed picks the same ids."""


@dataclass
class Counts:
    """What happened since the last reset."""

    calls: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    bodies: set[bytes] = field(default_factory=set)
    """Hashes."""
    seen: set[int] = field(default_factory=set)
    """Ids that were refused once."""
    cpu_s: float = field(default_factory=time.process_time)
    """Processor time of this process at the reset."""


class Stub:
    """The server's side: settings, counts and the three handlers."""

    def __init__(self) -> None:
        self.port = 0
        self.reset(Settings())

    def reset(self, settings: Settings) -> None:
        """Begin again."""
        self._settings = settings
        self._counts = Counts()
        self._tokens = settings.calls_per_s
        self._tokens_at = time.monotonic()

    def stats(self) -> dict[str, Any]:
        """Describe what happened so far."""
        counts = self._counts
        return {
            "calls": counts.calls,
            "distinct_bodies": len(counts.bodies),
            "statuses": {str(status): n for status, n in sorted(counts.statuses.items())},
            "in_flight": counts.in_flight,
            "max_in_flight": counts.max_in_flight,
            "cpu_s": round(time.process_time() - counts.cpu_s, 3),
        }

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one HTTP request; not `web.Application`, whose routing would cost more than the answer."""
        try:
            body = await request.read()
        except ConnectionResetError:
            return _json(400, b"")  # killed in the middle of a request: nobody reads this
        match request.method, request.path:
            case "POST", "/v1/chat/completions":
                return await self._chat(body)
            case "POST", "/reset":
                self.reset(Settings(**json.loads(body or b"{}")))
                return _json(200, b"{}")
            case "GET", "/stats":
                return _json(200, json.dumps(self.stats()).encode())
        return _json(404, _error("no such page"))

    async def _chat(self, body: bytes) -> web.Response:
        counts = self._counts
        counts.calls += 1
        counts.in_flight += 1
        counts.max_in_flight = max(counts.max_in_flight, counts.in_flight)
        try:
            if self._settings.latency_ms:
                await asyncio.sleep(self._settings.latency_ms / 1000)
            response = self._respond(body)
            counts.statuses[response.status] += 1
            return response
        finally:
            counts.in_flight -= 1

    def _respond(self, body: bytes) -> web.Response:
        settings, counts = self._settings, self._counts
        digest = hashlib.blake2b(body, digest_size=8, key=b"%d" % self.port)
        counts.bodies.add(digest.digest())
        found = _ID.search(body)
        number = int(found[1]) if found is not None else 0
        if settings.refuse_every and number and number % settings.refuse_every == 0:
            return _json(400, _error("this request is refused for good"))
        if self._is_busy(number):
            # In OpenAI's words: some clients look for them.
            return _json(429, _error("Rate limit reached for requests"), {"Retry-After": f"{settings.retry_after_s:g}"})
        return _json(200, self._completion(body, f"id={number} asked={digest.hexdigest()}"))

    def _is_busy(self, number: int) -> bool:
        settings, counts = self._settings, self._counts
        if settings.busy_ratio and number and number not in counts.seen and self._is_drawn(number):
            counts.seen.add(number)
            return True
        if not settings.calls_per_s:
            return False
        now = time.monotonic()
        gained = (now - self._tokens_at) * settings.calls_per_s
        self._tokens, self._tokens_at = min(settings.calls_per_s, self._tokens + gained), now
        if self._tokens < 1:
            return True
        self._tokens -= 1
        return False

    def _is_drawn(self, number: int) -> bool:
        # A hash and not a generator: the draw must not depend on the order in which requests come.
        draw = hashlib.blake2b(b"%d %d" % (self._settings.seed, number), digest_size=4).digest()
        return int.from_bytes(draw, "big") < self._settings.busy_ratio * 2**32

    def _completion(self, body: bytes, answer: str) -> bytes:
        text = f"{answer} {FILLER}"
        if b'"json_schema"' in body:
            schema = json.loads(body)["response_format"]["json_schema"]["schema"]
            text = json.dumps(_fit(schema, text))
        elif b"<response_schema>" in body:
            found = _SCHEMA_IN_PROMPT.search("\n".join(map(_text_of, json.loads(body)["messages"])))
            if found is not None:
                text = f"```json\n{json.dumps(_fit(json.loads(found[1]), text))}\n```"
        usage = b""
        if self._settings.has_usage:
            n_prompt = len(body) // BYTES_PER_TOKEN
            usage = _USAGE % (n_prompt, COMPLETION_TOKENS, n_prompt + COMPLETION_TOKENS)
        return _COMPLETION % (json.dumps(text).encode(), usage)


_COMPLETION = (
    b'{"id":"chatcmpl-stub","object":"chat.completion","created":1,"model":"stub","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":%s},"logprobs":null,"finish_reason":"stop"}]%s}'
)
_USAGE = b',"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}'


def _text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message, which may come in parts."""
    content = message["content"]
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def _fit(schema: Mapping[str, Any], text: str) -> object:
    """Make up what fits a schema; every string is the text."""
    if "properties" in schema:
        return {name: _fit(part, text) for name, part in schema["properties"].items()}
    return {"integer": 1, "number": 1.0, "boolean": True, "array": [], "null": None}.get(schema.get("type", ""), text)


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "stub_error", "param": None, "code": None}}).encode()


def _json(status: int, body: bytes, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


async def serve() -> None:
    """Serve on a free port of the loopback interface, which is printed, until standard input ends."""
    stub = Stub()
    runner = web.ServerRunner(web.Server(stub.handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    stub.port = runner.addresses[0][1]
    print(f"http://127.0.0.1:{stub.port}", flush=True)
    has_ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    # A daemon, and no buffered reader: neither may keep the process alive after Ctrl-C.
    threading.Thread(target=_read_on, args=(lambda: loop.call_soon_threadsafe(has_ended.set),), daemon=True).start()
    await has_ended.wait()
    await runner.cleanup()


def _read_on(then: Callable[[], object]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    then()


class StubServer:
    """The server in a process of its own, for a `with` block."""

    def __init__(self) -> None:
        # Its standard input is a pipe of ours: should we be killed, the pipe closes and the server ends.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stub_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us, who then close the pipe
        )
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.url = self._wait_for_address()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reset(self, settings: Settings | None = None) -> None:
        """Forget what happened, and behave as the settings say."""
        self._fetch("/reset", json.dumps(asdict(settings or Settings())).encode())

    def stats(self) -> dict[str, Any]:
        """Return what happened since the last reset."""
        found: dict[str, Any] = json.loads(self._fetch("/stats"))
        return found

    def _wait_for_address(self) -> str:
        watch = threading.Timer(START_LIMIT_S, self._process.kill)
        watch.start()
        try:
            line = self._process.stdout.readline() if self._process.stdout is not None else b""
        finally:
            watch.cancel()
        if not line:
            self.close()
            raise RuntimeError(f"the stub server did not start within {START_LIMIT_S:g} s")
        return line.decode().strip()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _fetch(self, path: str, body: bytes | None = None) -> bytes:
        with self._opener.open(self.url + path, data=body, timeout=START_LIMIT_S) as response:
            content: bytes = response.read()
        return content


def main() -> None:
    """Serve until standard input ends."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    asyncio.run(serve())


if __name__ == "__main__":
    main()
