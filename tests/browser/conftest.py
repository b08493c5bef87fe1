"""What browser tests share: Debian's Chromium driven by Playwright, which downloads no browser of its own.

`make test-browser` runs them; every test in this folder has the mark `browser`. Without a Chromium they are skipped,
with the reason. Playwright keeps an event loop in this thread while it is open, so a test that builds in its own
process must do so in a session fixture, which comes first, or in a child process.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent
SCREENSHOTS = HERE.parents[1] / "docs" / "screenshots"
MOST_BYTES = 150_000
"""Of one screenshot in the repository."""
PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
Scheme = Literal["light", "dark"]
OpenPage = Callable[..., "Page"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of a Chromium: `FACTORY_CHROMIUM`, else the one that is installed."""
    pytest.importorskip("playwright", reason="playwright is not installed: make install")
    named = os.environ.get("FACTORY_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not found:
        pytest.skip("there is no Chromium: apt-get install chromium, or set FACTORY_CHROMIUM to the path of one")
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    # Nothing but this machine may be asked: whatever needs the network fails here as it would for a user without one.
    only_here = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=[only_here, "--no-proxy-server"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[OpenPage]:
    """Return a function that opens a page: `scheme` light or dark, `width` and `height` in CSS pixels."""
    contexts = []

    def new(scheme: Scheme = "light", *, width: int = 1280, height: int = 800) -> "Page":
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
        contexts.append(context)
        return context.new_page()

    yield new
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_page: OpenPage) -> "Page":
    """Return a page in light colours."""
    return open_page()


@pytest.fixture
def screenshot(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that takes a picture; `FACTORY_SCREENSHOTS=1` puts it into docs/screenshots."""
    folder = SCREENSHOTS if os.environ.get("FACTORY_SCREENSHOTS") == "1" else tmp_path

    def take(page: "Page", name: str, *, full_page: bool = False) -> Path:
        path = folder / f"{name}.png"
        folder.mkdir(exist_ok=True)
        page.screenshot(path=path, full_page=full_page, animations="disabled")
        n_bytes = path.stat().st_size
        assert n_bytes < MOST_BYTES, f"{path.name} has {n_bytes:,} bytes: take a smaller part of the page"
        return path

    return take
