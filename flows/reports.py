"""The reports of an outputs folder on a loopback port: a page of `http://` may not link to a file on the disk.

Nothing but the reports of releases is served, and each in a sandbox: it can load nothing and ask nobody.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPORT = re.compile(r"/[a-z0-9][a-z0-9_-]*/release/[0-9a-f]+/report\.html")
SANDBOX = (
    "default-src 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'none'; form-action 'none'; "
    "base-uri 'none'; sandbox allow-scripts allow-downloads allow-popups"
)
PLAIN = "default-src 'none'; style-src 'unsafe-inline'"
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Reports</title>
<meta name="viewport" content="width=device-width"><style>
:root {{ color-scheme: light dark }} body {{ font: 1rem/1.6 system-ui, sans-serif; margin: 2rem auto; max-width: 50rem;
padding: 0 1rem }}</style><h1>Reports</h1>{body}"""


@contextmanager
def reports_served(outputs: Path, port: int) -> Iterator[str]:
    """Serve the reports of releases while the block runs.

    Args:
        outputs: Where builds are.
        port: Of 127.0.0.1.

    Yields:
        The address.
    """
    with ThreadingHTTPServer(("127.0.0.1", port), partial(_Reports, outputs.resolve())) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Reports(BaseHTTPRequestHandler):
    def __init__(self, outputs: Path, *given: object) -> None:
        self._outputs = outputs
        super().__init__(*given)  # type: ignore[arg-type]  # what the server gives to every handler

    def do_GET(self) -> None:
        """Answer with the list of reports, or with one of them."""
        # A page of another site may make its own name lead here: a browser would then let it read what we say.
        if self.headers.get("Host", "").partition(":")[0] not in ("127.0.0.1", "localhost"):
            self._say(HTTPStatus.FORBIDDEN, b"asked by another name", PLAIN)
        elif self.path == "/":
            self._say(HTTPStatus.OK, _list_page(self._outputs).encode(), PLAIN)
        elif REPORT.fullmatch(self.path) and (file := self._outputs / self.path[1:]).is_file():
            self._say(HTTPStatus.OK, file.read_bytes(), SANDBOX)
        else:
            self._say(HTTPStatus.NOT_FOUND, b"there is no such report", PLAIN)

    def _say(self, status: HTTPStatus, page: bytes, policy: str) -> None:
        self.send_response(status)
        kind = "text/html" if status is HTTPStatus.OK else "text/plain"
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(len(page))),
            ("Content-Security-Policy", policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-cache"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Say nothing on the terminal."""


def _list_page(outputs: Path) -> str:
    found = sorted(outputs.glob("*/release/*/report.html"), key=lambda path: path.stat().st_mtime, reverse=True)
    known = [path.relative_to(outputs).as_posix() for path in found]
    links = [f'<li><a href="/{escape(one)}">{escape(one)}</a>' for one in known if REPORT.fullmatch(f"/{one}")]
    return PAGE.format(body=f"<p>Newest first.<ul>{''.join(links)}</ul>" if links else "<p>Nothing was built yet.")
