"""Run the server until it is told to stop, and then let what is in flight finish."""

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from factory.errors import FactoryError
from factory.release.predict import Predictor
from factory.serving.http.app import make_app
from factory.serving.http.journal import log_to_stderr
from factory.serving.http.live import Answerer, Live, Opened
from factory.serving.http.locate import RegistrySource
from factory.serving.http.protocol import GuardedProtocol
from factory.serving.http.settings import Settings

MAX_CONNECTIONS = 1000
IDLE_SECONDS = 75
"""Longer than clients keep an idle connection: a server that closes first may do so while it is asked."""


class Server(uvicorn.Server):
    """Ends with code 0 on SIGTERM and Ctrl-C, where uvicorn raises the signal again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Turn signals into a graceful stop while the block runs."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; a second Ctrl-C does not wait for what is in flight."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def serve(
    settings: Settings,
    *,
    started: Callable[[Opened, int], None],
    wrap: Callable[[Predictor], Answerer] = lambda predictor: predictor,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        settings: What to serve and where.
        started: Called with what answers and the port, just before the first request.
        wrap: Makes what answers of an opened student, such as a cascade.

    Raises:
        FactoryError: A setting is refused, there is no such version, or the port is taken.
    """
    settings.check()
    with listen(settings.host, settings.port) as listener:
        source = RegistrySource(settings.outputs, settings.name, settings.wanted)
        live = Live(settings.name, source, wrap)
        app = make_app(settings, live)
        log_to_stderr()
        listener.listen()  # from here on nobody is refused, only waits for the loop to start
        started(live.current, listener.getsockname()[1])
        Server(configure(app, settings)).run(sockets=[listener])


def configure(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Set uvicorn up: no log of its own, no headers believed, bounded connections."""
    return uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(settings.limits.seconds) + 1,
    )


def listen(host: str, port: int) -> socket.socket:
    """Take the port first: a port that is taken is said at once, not after the model was opened."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise FactoryError(
            f"serve: cannot listen on {host}:{port}: {error.strerror or error}", hint="--port names another port"
        ) from error
    return listener
