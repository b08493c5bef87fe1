"""A server on a loopback port inside the test's own process, in front of releases that a variable points to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import uvicorn

from factory.release.predict import Predictor
from factory.serving.http.app import make_app
from factory.serving.http.live import Answerer, Live
from factory.serving.http.locate import Located
from factory.serving.http.run import configure, listen
from factory.serving.http.settings import Settings
from tests.released import stored_release


@dataclass
class Pointer:
    """Stands where the registry stands: names the version that is wanted."""

    outputs: Path
    wanted: Located | Exception = field(init=False)
    pause_s: float = 0.02

    def __post_init__(self) -> None:
        self.wanted = self.release(1)

    def release(self, version: int) -> Located:
        artifact = stored_release(self.outputs, f"<p>{version}</p>")
        return Located(version, artifact.content_hash, str(artifact.folder))

    def stamp(self) -> object:
        return self.wanted

    def locate(self) -> Located:
        if isinstance(self.wanted, Exception):
            raise self.wanted
        return self.wanted


@dataclass(frozen=True)
class Reply:
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server that answers, and how to ask it."""

    port: int
    pointer: Pointer
    live: Live
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, body: object = None, *, method: str | None = None, **headers: str) -> Reply:
        """Send one request; a body that is no bytes is sent as JSON."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"content-type": "application/json", **named}
        connection.request(method or ("GET" if body is None else "POST"), path, raw, given)
        response = connection.getresponse()
        reply = Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        connection.close()
        return reply


@contextmanager
def running(
    outputs: Path,
    wrap: Callable[[Predictor], Answerer] = lambda student: student,
    point: Callable[[Path], Pointer] = Pointer,
    **settings: Any,
) -> Iterator[Running]:
    """Serve the task `tiny`, or what `point` releases, while the block runs."""
    chosen = Settings(name="tiny", outputs=outputs, port=0, **settings)
    pointer = point(outputs)
    live = Live("tiny", pointer, wrap)
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(configure(make_app(chosen, live), chosen))
        listener.listen()  # from here on nobody is refused, only waits for the loop to start
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Running(listener.getsockname()[1], pointer, live, server)
        finally:
            server.should_exit = True
            thread.join()
