"""A loopback server with OpenAI's Files and Batches that misbehaves on demand."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.fault_server import completion

Body = dict[str, Any]
Answer = tuple[int, object]
"""Status and body; JSON unless bytes. Status 0 hangs up without an answer."""


def text_of(body: Body) -> str:
    return str(body["messages"][-1]["content"])


@dataclass
class BatchServer:
    """Use it in a `with` block; what is not set behaves well."""

    answer: Callable[[Body], Answer | None] = lambda body: (200, completion(f"answer to {text_of(body)}"))
    """What becomes of a request; None when the batch ends before its turn."""
    mangle: Callable[[list[bytes]], bytes] = b"".join
    """Lines of an output file -> the file."""
    fault: Callable[[str, str], Answer | None] = lambda method, path: None
    """Asked before every call; what it returns is answered instead."""
    fault_after: Callable[[str, str], Answer | None] = lambda method, path: None
    """The same, after the call took effect."""
    status: Callable[[Body], str] = lambda batch: "completed"
    """Where a batch stands, asked at each poll."""
    files: dict[str, bytes] = field(default_factory=dict)
    batches: list[Body] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    page: int = 100

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def n(self, method: str, path: str) -> int:
        return self.calls.copy().count((method, path))

    def lines(self, batch: Body) -> list[Body]:
        return [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]

    @property
    def submitted(self) -> list[str]:
        """Last message of each request of each batch."""
        return [text_of(line["body"]) for batch in self.batches for line in self.lines(batch)]

    def upload(self, content_type: str, content: bytes) -> Body:
        form = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + content, policy=HTTP)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}  # type: ignore[attr-defined]
        assert parts["purpose"].get_payload() == "batch"
        name = f"file-{len(self.files)}"
        self.files[name] = parts["file"].get_payload(decode=True)
        return {"id": name, "object": "file"}

    def create(self, body: Body) -> Body:
        assert (body["endpoint"], body["completion_window"]) == ("/v1/chat/completions", "24h")
        batch = {**body, "id": f"batch_{len(self.batches)}", "status": "validating", "created_at": 2_000_000_000}
        self.batches.append(batch)
        return batch

    def retrieve(self, name: str) -> Body:
        (batch,) = [batch for batch in self.batches if batch["id"] == name]
        if batch["status"] not in ("completed", "failed", "expired", "cancelled"):
            batch["status"] = self.status(batch)
            if batch["status"] in ("completed", "expired", "cancelled"):
                self._end(batch)
        return batch

    def listed(self, after: str | None) -> Body:
        newest_first = self.batches[::-1]
        start = next((n + 1 for n, batch in enumerate(newest_first) if batch["id"] == after), 0)
        data = newest_first[start : start + self.page]
        return {"object": "list", "data": data, "has_more": start + self.page < len(newest_first)}

    def _end(self, batch: Body) -> None:
        good, bad = [], []
        for line in self.lines(batch):
            answer = self.answer(line["body"])
            said: Body = {"id": "x", "custom_id": line["custom_id"], "response": None, "error": None}
            if answer is None:
                said["error"] = {"code": "batch_expired", "message": "This request could not be executed in time."}
            else:
                said["response"] = {"status_code": answer[0], "request_id": "r", "body": answer[1]}
            (good if answer and answer[0] == 200 else bad).append(json.dumps(said).encode() + b"\n")
        batch["request_counts"] = {"total": len(good) + len(bad), "completed": len(good), "failed": len(bad)}
        for name, content in (("output", self.mangle(good)), ("error", b"".join(bad))):
            if content:
                self.files[f"{name}-{batch['id']}"] = content
                batch[f"{name}_file_id"] = f"{name}-{batch['id']}"

    def decide(self, method: str, target: str, key: str | None, content_type: str, content: bytes) -> Answer:
        url = urlsplit(target)
        path = url.path.removeprefix("/v1")
        with self._lock:
            self.calls.append((method, path))
            self.keys.add(key)
            early = self.fault(method, path)
            if early is not None:
                return early
            answer: object
            match method, path.split("/")[1:]:
                case "POST", ["files"]:
                    answer = self.upload(content_type, content)
                case "POST", ["batches"]:
                    answer = self.create(json.loads(content))
                case "GET", ["batches"]:
                    answer = self.listed(parse_qs(url.query).get("after", [None])[0])
                case "GET", ["batches", name]:
                    answer = self.retrieve(name)
                case "GET", ["files", name, "content"]:
                    answer = self.files[name]
                case _:
                    return 404, {"error": {"message": f"no such page: {path}"}}
            return self.fault_after(method, path) or (200, answer)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        content += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                kind, key = self.headers.get("Content-Type", ""), self.headers["Authorization"]
                status, body = owner.decide(self.command, self.path, key, kind, content)
                if not status:
                    self.close_connection = True
                    return
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    pass  # the client was killed, as some tests intend

        return Handler
