"""The browser itself: that it works, and that it reaches nothing but this machine."""

import http.server
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import OpenPage

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGE = b"""<!doctype html><title>here</title><style>
p::before { content: "light" } @media (prefers-color-scheme: dark) { p::before { content: "dark" } }</style><p></p>"""


class Say(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Say) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pages_of_this_machine_are_shown_in_the_colours_asked_for(open_page: OpenPage, address: str) -> None:
    for scheme in ("light", "dark"):
        page = open_page(scheme)
        page.goto(address)
        assert page.title() == "here"
        shown = page.evaluate("getComputedStyle(document.querySelector('p'), '::before').content")
        assert shown == f'"{scheme}"'


def test_no_other_machine_is_reached(page: "Page") -> None:
    from playwright.sync_api import Error

    with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
        page.goto("http://example.com")
