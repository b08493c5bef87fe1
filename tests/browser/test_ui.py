"""A person's way in the browser: start a build by its form, follow it until it asks for approval."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import OpenPage
from tests.scripted_task import make_task

if TYPE_CHECKING:
    from playwright.sync_api import Page

PATIENCE_S = 240
"""For a machine on which all cores are busy."""
Screenshot = Callable[..., Path]


class Running:
    """`factory ui` in a process of its own, with one task."""

    def __init__(self, place: Path) -> None:
        self.outputs = place / "outputs"
        make_task(place / "tasks" / "tiny", name="tiny", students=["tfidf-linear"], curation=[])
        ports = ["--port", "0", "--mlflow-port", "0", "--reports-port", "0"]
        where = ["--tasks", str(place / "tasks"), "--out", str(self.outputs)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "factory", "ui", "--json", *ports, *where], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.addresses: dict[str, str] = json.loads(self.process.stdout.readline())

    def ask(self, path: str, question: dict[str, Any] | None = None) -> Any:
        """Ask Prefect's API."""
        body = None if question is None else json.dumps(question).encode()
        request = urllib.request.Request(
            f"{self.addresses['prefect']}/api{path}", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def wait_for(self, what: Callable[[], Any]) -> Any:
        """Return the first answer that is not empty."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := what()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return found


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("ui"))
    yield running
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0


def in_both(open_page: OpenPage, url: str, shown: Callable[["Page"], Any], screenshot: Screenshot, name: str) -> None:
    """Take a picture of a page in light and in dark, once what it is about is there."""
    for scheme in ("light", "dark"):
        page = open_page(scheme)
        page.set_default_timeout(PATIENCE_S * 1000)
        page.goto(url, wait_until="commit")
        shown(page)
        page.wait_for_timeout(1000)  # until what is drawn has come to rest
        screenshot(page, f"{name}-{scheme}")
        page.context.close()


@pytest.mark.timeout(1500)
def test_a_build_is_started_by_its_form_and_followed_until_a_person_is_asked(
    ui: Running, open_page: OpenPage, screenshot: Screenshot, record_property: Callable[[str, object], None]
) -> None:
    page = open_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    asked_elsewhere: list[str] = []
    page.on("requestfinished", lambda request: asked_elsewhere.append(request.url))
    base = ui.addresses["prefect"]

    # Start it by its form.
    page.goto(f"{base}/v2/deployments", wait_until="commit")
    page.get_by_role("link", name="batch_predict").first.wait_for()
    screenshot(page, "ui-deployments-light")
    (build,) = [one for one in ui.ask("/deployments/filter", {}) if one["name"] == "build"]
    page.goto(f"{base}/v2/deployments/deployment/{build['id']}", wait_until="commit")
    page.get_by_role("tab", name="Runs").wait_for()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_role("button", name="Select task").click()
    assert page.get_by_role("option").all_inner_texts() == ["tiny"]
    page.get_by_role("option", name="tiny").click()
    page.get_by_label("most_calls").fill("500")
    page.get_by_role("button", name="Select promotion").click()
    page.get_by_role("option", name="ask", exact=True).click()
    screenshot(page, "ui-form-light")
    page.get_by_role("button", name="Submit").click()
    clicked = time.monotonic()
    newest = {"sort": "EXPECTED_START_TIME_DESC", "limit": 1}
    run = ui.wait_for(lambda: ui.ask("/flow_runs/filter", newest))[0]["id"]
    of_run = {"flow_runs": {"id": {"any_": [run]}}, "limit": 5}
    started = ui.wait_for(
        lambda: [
            one
            for one in ui.ask("/task_runs/filter", of_run)
            if (one["state"] or {}).get("type", "PENDING") != "PENDING"
        ]
    )
    record_property("seconds from the click to the first stage", round(time.monotonic() - clicked, 1))
    assert started[0]["name"] == "Read holdout"

    # Follow it.
    here = f"{base}/v2/runs/flow-run/{run}"
    page.goto(here, wait_until="commit")
    page.get_by_text(re.compile(r"Gather rows: 1: \d+ kept")).first.wait_for()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("link", name="tiny-rows").wait_for()
    page.get_by_text("Paused", exact=True).first.wait_for()
    in_both(open_page, here, lambda one: one.get_by_text("Read holdout: 9 kept").first.wait_for(), screenshot, "ui-run")

    # What was found lies beside it; tests/test_ui.py goes on from here, by Prefect's API.
    artifacts = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    found = {one["key"] for one in ui.ask("/artifacts/filter", artifacts)}
    assert {"tiny-rows", "tiny-spent", "tiny-scores", "tiny-verdict"} <= found
    assert [
        url for url in asked_elsewhere if "//127.0.0.1:" not in url and not url.startswith(("data:", "blob:"))
    ] == []
