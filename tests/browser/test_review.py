"""A person reviews rows with the keyboard, and the next build is made of what they said."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import OpenPage, Scheme
from tests.scripted_task import make_task

if TYPE_CHECKING:
    from playwright.sync_api import Page

BUILD = "import sys; from pathlib import Path; from tests.noted_build import build; build(*map(Path, sys.argv[1:]))"
SPEC: dict[str, Any] = {"students": ["tfidf-linear"], "curation": [], "synthesis": {"per_label": 60, "max_rounds": 1}}
READY = "#row:not([hidden])"


class Review:
    """A task that was built, and a server that can be killed and started again."""

    def __init__(self, place: Path) -> None:
        self.folder, self.outputs = make_task(place / "task", **SPEC), place / "outputs"
        self.port = 0
        self._server: subprocess.Popen[str] | None = None

    def build(self) -> None:
        subprocess.run([sys.executable, "-c", BUILD, self.folder, self.outputs], check=True, timeout=500)

    def start(self) -> str:
        """Start the server, on the port it had if it was killed, and return the address it prints."""
        command = [sys.executable, "-m", "factory", "review", self.folder, "--outputs", self.outputs]
        options = ["--name", "Ada", "--port", str(self.port)]
        self._server = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        assert self._server.stdout is not None
        address = next(line.strip() for line in self._server.stdout if line.startswith("http://"))
        self.port = int(address.partition("#")[0].rstrip("/").rpartition(":")[2])
        return address

    def end(self, number: signal.Signals) -> int:
        assert self._server is not None
        self._server.send_signal(number)
        self._server.communicate(timeout=60)
        return self._server.returncode

    def lines(self) -> list[dict[str, Any]]:
        path = self.folder / "reviewed.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def training_rows(self) -> dict[str, dict[str, Any]]:
        """Return what the newest build trained on, by text."""
        from flows.shelf import Shelf

        shelf = Shelf(self.outputs / "scripted")
        step = next(step for step in shelf.steps(shelf.builds[0]) if step.name == "fit-tfidf-linear")
        rows = shelf.learned_from(step)
        assert rows is not None
        return {line["text"]: line for line in rows.kept.lines()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Review:
    review = Review(tmp_path_factory.mktemp("review"))
    review.build()
    return review


@pytest.fixture
def review(built: Review) -> Iterator[Review]:
    (built.folder / "reviewed.jsonl").unlink(missing_ok=True)
    built.port = 0
    yield built
    built.end(signal.SIGTERM)


def opened(page: "Page", address: str) -> "Page":
    page.goto(address)
    page.wait_for_selector(READY)
    return page


def saved(page: "Page") -> None:
    shows(page, "#saved", "Saved")


def shows(page: "Page", selector: str, text: str | re.Pattern[str]) -> None:
    """Wait until something shows a text; the page's policy forbids to wait for an expression."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(text, timeout=30_000)


def decide(page: "Page", key: str) -> str:
    """Press a key, and return the text it was pressed for."""
    text = page.inner_text("#text")
    page.keyboard.press(key)
    return text


def test_rows_that_were_reviewed_by_keyboard_are_in_the_next_build(page: "Page", review: Review) -> None:
    holdout = {json.loads(line)["text"] for line in (review.folder / "holdout.jsonl").read_text().splitlines()}
    opened(page, review.start())
    assert "#" not in page.url
    accepted = [decide(page, "Enter") for _ in range(12)]
    rejected = [decide(page, "x") for _ in range(4)]
    relabelled = [decide(page, "1") for _ in range(3)]  # weather, whatever it was
    before = page.inner_text("#text")
    page.keyboard.press("e")
    page.fill("#new-text", "a text that Ada wrote herself")
    page.keyboard.press("Control+Enter")
    undone = decide(page, "x")
    page.keyboard.press("u")
    assert page.inner_text("#text") == undone
    saved(page)
    assert not {*accepted, *rejected, *relabelled, before} & holdout
    assert len(review.lines()) == 22
    assert {line["by"] for line in review.lines()} == {"Ada"}
    assert page.inner_text("#progress") == "20 of 48 decided"
    review.build()
    rows = review.training_rows()
    assert {rows[text]["origin"] for text in [*accepted, *relabelled]} == {"gold"}
    assert {rows[text]["label"] for text in relabelled} == {"weather"}
    assert rows["a text that Ada wrote herself"]["origin"] == "gold"
    assert not {*rejected, before} & rows.keys()
    assert rows[undone]["origin"] == "synthetic"


def test_a_killed_server_costs_no_decision_and_the_page_goes_on(page: "Page", review: Review) -> None:
    opened(page, review.start())
    first = decide(page, "Enter")
    saved(page)
    review.end(signal.SIGKILL)
    others = [decide(page, "x"), decide(page, "Enter")]
    shows(page, "#saved", "2 decisions not saved, trying again: the server does not answer")
    place = page.inner_text("#place")
    review.start()
    saved(page)
    assert [line["text"] for line in review.lines()] == [first, *others]
    opened(page, page.url)
    assert page.inner_text("#place") == place


def test_what_the_server_can_never_take_is_told_and_the_rest_is_saved(page: "Page", review: Review) -> None:
    opened(page, review.start())
    review.end(signal.SIGKILL)
    said = [decide(page, "x")]
    too_large = page.inner_text("#text")
    page.evaluate("() => decide('edit', { label: 'weather', text: 'too large '.repeat(210_000) })")
    said += [decide(page, "x"), decide(page, "x")]
    for number in range(8):  # each may be sent, together they are too large
        said.append(page.inner_text("#text"))
        page.evaluate("text => decide('edit', { label: 'weather', text })", f"{number} \u2603" + "\u2603" * 99_000)
    page.evaluate("() => { globalThis.told = []; const old = tell; tell = (said) => { told.push(said); old(said); }; }")
    review.start()
    saved(page)
    assert [line.get("was", line["text"]) for line in review.lines()] == said
    assert too_large not in said
    told = [one for one in page.evaluate("() => told") if one.startswith("Not taken")]
    assert told == ["Not taken: expected a body of known length, at most 2,000,000 bytes."]
    assert page.inner_text("#text") == too_large


def test_decisions_that_were_not_sent_survive_a_closed_page(page: "Page", review: Review) -> None:
    opened(page, review.start())
    review.end(signal.SIGKILL)
    said = [decide(page, "x") for _ in range(3)]
    address = page.url
    page.on("dialog", lambda dialog: dialog.accept())
    page.close(run_before_unload=False)
    review.start()
    again = opened(page.context.new_page(), address)
    saved(again)
    assert [line["text"] for line in review.lines()] == said
    assert again.inner_text("#text") not in said


def test_texts_are_shown_as_texts_and_keys_can_be_switched_off(page: "Page", review: Review) -> None:
    opened(page, review.start())
    hostile = "<img src=x onerror=document.title=1> <b>bold</b>"
    page.evaluate("text => { state.rows[0].text = text; show(); }", hostile)
    assert page.inner_text("#text") == hostile
    assert page.locator("#text *").count() == 0
    page.uncheck("#keys")
    page.locator("body").press("x")
    assert page.inner_text("#text") == hostile
    page.get_by_role("button", name="Reject").click()
    page.keyboard.press("Enter")  # means nothing: the keys are off, and no button has the focus
    saved(page)
    assert [line["action"] for line in review.lines()] == ["reject"]


def test_arrows_look_around_and_a_held_key_decides_once(page: "Page", review: Review) -> None:
    opened(page, review.start())
    first = decide(page, "ArrowRight")
    second = page.inner_text("#text")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#text") == first != second
    for _ in range(5):
        page.keyboard.down("x")  # without letting go: the browser calls them repeats
    page.keyboard.up("x")
    saved(page)
    assert [line["text"] for line in review.lines()] == [first]
    page.select_option("#order", "built")
    shows(page, "#explained", "Rows come in the order they were made.")
    shows(page, "#place", re.compile(r"^Row [12] of "))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault_of_access_and_a_picture(
    open_page: OpenPage, review: Review, screenshot: Callable[..., Path], scheme: Scheme
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = opened(open_page(scheme, width=1000, height=560), review.start())
    for name, prepare in (("row", lambda: None), ("editor", lambda: page.keyboard.press("e"))):
        prepare()
        found = Axe().run(page).response["violations"]
        serious = [(one["id"], name) for one in found if one["impact"] in ("serious", "critical")]
        assert serious == []
    page.keyboard.press("Escape")
    screenshot(page, f"review-{scheme}")
    assert review.end(signal.SIGTERM) == 0
    phone = opened(open_page(scheme, width=360, height=700), review.start())
    assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_next_row_is_announced(page: "Page", review: Review) -> None:
    opened(page, review.start())
    page.keyboard.press("x")
    live = page.locator("#live")
    assert live.get_attribute("aria-live") == "polite"
    assert live.inner_text().startswith("Rejected. Row 2: ")
    assert page.inner_text("#text") in live.inner_text()
