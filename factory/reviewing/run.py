"""Run the page until it is told to stop."""

import logging
from collections.abc import Callable
from pathlib import Path

import uvicorn

from factory.reviewing.app import make_app
from factory.reviewing.desk import Desk
from factory.reviewing.guard import Keys
from factory.serving.http.protocol import GuardedProtocol
from factory.serving.http.run import Server, listen

HOST = "127.0.0.1"
PORT = 8766
"""Always the same one, so that a page that was open when the server was killed finds it again."""
KEYS_FILE = "review-keys"


def serve_review(desk: Desk, outputs: Path, port: int, *, started: Callable[[str], None]) -> None:
    """Serve the page until SIGTERM or Ctrl-C.

    Args:
        desk: What is reviewed.
        outputs: Of the task; the hashes of keys are kept there.
        port: Where to listen; 0 is any free one.
        started: Called with the address to open, just before the first request.

    Raises:
        FactoryError: The port is taken.
    """
    with listen(HOST, port) as listener:
        port = listener.getsockname()[1]
        keys = Keys(outputs / KEYS_FILE)
        app = make_app(desk, keys, port)
        listener.listen()
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        started(f"http://{HOST}:{port}/#{keys.token}")
        config = uvicorn.Config(
            app,
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=100,
            timeout_graceful_shutdown=5,
        )
        Server(config).run(sockets=[listener])
