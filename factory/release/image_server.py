"""The server of a docker export: the standard library around the release in `model/`, nothing of the factory.

    python server.py [--host 127.0.0.1] [--port 8000]
    python server.py --check                            is the one on this machine well? the exit code says it

POST /v1/predict {"texts": ["..."]} gives {"answers": [{"label", "probability", "probabilities"}]}; a release that
answers rows of a table takes {"rows": [{"column": cell, ...}]}. GET /healthz.
"""

import argparse
import hashlib
import json
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODEL = Path(__file__).resolve().parent / "model"
MAX_BYTES = 4_000_000
MAX_TEXTS = 2048
TIMEOUT_S = 10
"""Of a client that sends nothing."""
MAX_AT_ONCE = 64
"""Connections; others wait, and then in the queue of the system."""


class Refused(Exception):
    """A request is wrong; carries the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_model(folder: Path) -> None:
    """Refuse a folder whose files are not those of its manifest."""
    expected = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - {"manifest.json"}
    for name in sorted(expected.keys() | names):
        path = folder / name
        if name not in expected or not path.is_file() or _hash(path) != expected[name]:
            raise SystemExit(f"error: {path}: not the file that was released")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection; a text never enters the log."""

    predictor: Any
    timeout = TIMEOUT_S
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "student", ""

    def do_GET(self) -> None:
        """Say that the server is well."""
        if self.path == "/healthz":
            self._send(200, {"status": "ok"})
        else:
            self._send(404, {"error": "expected GET /healthz or POST /v1/predict"})

    def do_POST(self) -> None:
        """Answer texts or rows."""
        try:
            asked = self._rows(self._body()) if self.predictor.is_table else self._texts(self._body())
        except Refused as error:
            self.close_connection = True  # what it sends on is not read
            self._send(error.status, {"error": str(error)})
            return
        self._send(200, {"answers": self.predictor.predict(asked)})

    def _body(self) -> Any:
        if self.path != "/v1/predict":
            raise Refused(404, "expected GET /healthz or POST /v1/predict")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            raise Refused(411, "expected a Content-Length")
        if len(length) > 9 or int(length) > MAX_BYTES:
            raise Refused(413, f"expected at most {MAX_BYTES} bytes")
        try:
            return json.loads(self.rfile.read(int(length)).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise Refused(400, "expected JSON in UTF-8") from error

    def _rows(self, body: Any) -> list[Any]:
        rows = body.get("rows") if isinstance(body, dict) else None
        if not isinstance(rows, list):
            raise Refused(422, 'expected {"rows": [{"column": cell, ...}, ...]}')
        if len(rows) > MAX_TEXTS:
            raise Refused(413, f"expected at most {MAX_TEXTS} rows")
        try:
            self.predictor.check_rows(rows)
        except Exception as error:  # the WrongInput of the release's own predict.py, which names row and column
            raise Refused(422, str(error)) from error
        return rows

    def _texts(self, body: Any) -> list[str]:
        texts = body.get("texts") if isinstance(body, dict) else None
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise Refused(422, 'expected {"texts": ["...", ...]}')
        if len(texts) > MAX_TEXTS:
            raise Refused(413, f"expected at most {MAX_TEXTS} texts")
        return texts

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


class Server(ThreadingHTTPServer):
    """A thread for each connection, and no more of them than there are places for."""

    places = threading.BoundedSemaphore(MAX_AT_ONCE)
    daemon_threads = True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Wait for a place, then start the thread."""
        self.places.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()


def main() -> None:
    """Serve, or ask the one that serves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a container")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--check", action="store_true", help="ask /healthz and exit")
    options = parser.parse_args()
    if options.check:
        with urllib.request.urlopen(f"http://127.0.0.1:{options.port}/healthz", timeout=2) as answer:
            sys.exit(answer.status != 200)
    check_model(MODEL)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(MODEL))
    import predict  # type: ignore[import-not-found]  # of the folder

    Handler.predictor = predict.Predictor(MODEL)
    with Server((options.host, options.port), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
