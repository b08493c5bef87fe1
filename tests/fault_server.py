"""A loopback chat-completions server that misbehaves on demand; also, as a program, a cheap stand-in for llama.cpp."""

import json
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self


@dataclass(frozen=True)
class Say:
    """What the server does with one request."""

    status: int = 200
    body: object = None
    """Sent as JSON, or as it is when bytes; None for a plain completion that says `ok`."""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    end: Literal["answer", "reset", "hang", "half", "drip", "twice"] = "answer"
    """`half` hangs up in the middle of the body, `drip` sends it in eight pieces with `delay_s` before each, `twice`
    sends the whole answer again, as if it were the answer to the next request."""


def completion(text: str | None = "ok", *, finish_reason: str = "stop", refusal: str | None = None) -> dict[str, Any]:
    """Return the body of a chat completion of 10 prompt tokens and 5 generated ones."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }


Behaviour = Callable[[dict[str, Any], int], Say]
"""Body of the request and how many came before it -> what to do."""


class FaultServer:
    """Use it in a `with` block; `bodies` and `keys` hold what was asked."""

    def __init__(self, behave: Behaviour = lambda body, number: Say()) -> None:
        self.behave = behave
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket.listen(256)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def decide(self, body: dict[str, Any], key: str | None) -> Say:
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            return self.behave(body, len(self.bodies) - 1)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                say = owner.decide(body, self.headers["Authorization"])
                owner.closing.wait(say.delay_s)
                if say.end == "hang":
                    owner.closing.wait()
                if say.end in ("reset", "hang"):
                    # Linger 0: the peer sees a reset, not an orderly end.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    return
                content = say.body if isinstance(say.body, bytes) else json.dumps(say.body or completion()).encode()
                self.send_response_only(say.status)  # without a Date of its own
                for name, value in {"Content-Length": str(len(content)), **say.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.close_connection = say.end == "half"
                for piece in pieces(content, say):
                    owner.closing.wait(say.delay_s if say.end == "drip" else 0)
                    self.wfile.write(piece)

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    pass  # the client hung up, as some tests intend

        return Handler


def pieces(content: bytes, say: Say) -> list[bytes]:
    """Cut an answer into what is sent one after the other."""
    if say.end == "half":
        return [content[: len(content) // 2]]
    if say.end == "drip":
        size = len(content) // 8 + 1
        return [content[start : start + size] for start in range(0, len(content), size)]
    if say.end == "twice":
        # In one write: a copy that comes after the next request was sent is, by HTTP/1.1, the answer to that.
        return [content + f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content]
    return [content]


def hear_ctrl_c() -> None:
    """Call it in a new process: a test run in the background of a script ignores Ctrl-C, and hands that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def play_llama(weights: Path) -> None:
    """Behave as `factory.teacher.llama_server` does, with canned replies; say on disk where it listens."""
    from factory.teacher.llama_server import KEY_ENV, end_with_parent

    threading.Thread(target=end_with_parent, daemon=True).start()
    if weights.read_bytes() == b"crash":
        sys.exit("error: tensor 'blk.0' has the wrong shape")
    key = f"Bearer {os.environ[KEY_ENV]}"
    server = FaultServer()
    server.behave = lambda body, number: Say() if server.keys[-1] == key else Say(401)
    if weights.read_bytes() == b"die":
        server.behave = lambda body, number: os._exit(9)
    with server:
        weights.with_suffix(".address").write_text(server.url)
        print(server.url, flush=True)  # noqa: T201
        threading.Event().wait()


if __name__ == "__main__":
    play_llama(Path(sys.argv[1]))
