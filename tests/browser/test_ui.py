"""A person's way in the browser: start a build by its form, follow it, read its verdict, and make it the champion."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import OpenPage
from tests.fault_server import hear_ctrl_c
from tests.scripted_task import make_task

if TYPE_CHECKING:
    from playwright.sync_api import Page

PATIENCE_S = 240
"""For a machine on which all cores are busy."""
VERDICT = re.compile("the LLM")
Screenshot = Callable[..., Path]


class Running:
    """`factory ui` in a process of its own, with one task."""

    def __init__(self, place: Path) -> None:
        self.outputs = place / "outputs"
        make_task(place / "tasks" / "tiny", name="tiny", students=["tfidf-linear"], curation=[])
        ports = ["--port", "0", "--mlflow-port", "0", "--reports-port", "0"]
        where = ["--tasks", str(place / "tasks"), "--out", str(self.outputs)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "factory", "ui", "--json", *ports, *where],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=hear_ctrl_c,
        )
        assert self.process.stdout is not None
        self.addresses: dict[str, str] = json.loads(self.process.stdout.readline())

    def ask(self, path: str, question: dict[str, Any] | None = None, *, of: str = "prefect") -> Any:
        """Ask Prefect's API, or MLflow's."""
        body = None if question is None else json.dumps(question).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.addresses[of]}/api{path}", body, kind)
        while True:
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != 503:  # what Prefect's server says when SQLite is busy
                        raise
                time.sleep(0.2)

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
    with running.process:  # closes its pipe
        assert running.process.wait(PATIENCE_S) == 0


def in_both(open_page: OpenPage, url: str, shown: Callable[["Page"], Any], screenshot: Screenshot, name: str) -> None:
    """Take a picture of a page in light and in dark, once what it is about is there."""
    for scheme in ("light", "dark"):
        page = open_page(scheme, width=1100, height=720)
        page.set_default_timeout(PATIENCE_S * 1000)
        page.goto(url, wait_until="commit")
        shown(page)
        if os.environ.get("FACTORY_SCREENSHOTS") == "1":
            page.wait_for_timeout(5000)  # until what is drawn has come to rest
        screenshot(page, f"{name}-{scheme}")
        page.context.close()


def without_place(page: "Page", outputs: Path) -> None:
    """Say `outputs` where a page names the folder of this test: pictures show nobody's machine."""
    page.evaluate(
        """([place, name]) => document.querySelectorAll("code").forEach(
            (one) => { one.textContent = one.textContent.replace(place, name) })""",
        [str(outputs.resolve()), outputs.name],
    )


def submit(page: "Page") -> None:
    """Press Submit, again where a busy server answers that it cannot now: the form then stays as it is."""
    button = page.get_by_role("button", name="Submit")
    for _ in range(4):
        with page.expect_response(lambda response: "create_flow_run" in response.url) as answered:
            button.click()
        if answered.value.ok:
            return button.wait_for(state="detached")
        assert answered.value.status >= 500, answered.value.text()
    raise AssertionError("the form was not taken")


@pytest.mark.timeout(2400)
def test_a_build_is_started_by_its_form_followed_and_approved(
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
    (build,) = [one for one in ui.ask("/deployments/filter", {}) if one["name"] == "build"]
    form = f"{base}/v2/deployments/deployment/{build['id']}"

    def fill(one: "Page") -> None:
        one.get_by_role("tab", name="Runs").wait_for()
        one.get_by_role("button", name="Run", exact=True).click()
        one.get_by_role("menuitem", name="Custom run").click()
        one.get_by_role("button", name="Select task").click()
        one.get_by_role("option", name="tiny").wait_for()
        assert one.get_by_role("option").all_inner_texts() == ["tiny"]
        one.get_by_role("option", name="tiny").click()
        one.get_by_label("most_calls").fill("500")
        one.get_by_role("button", name="Select promotion").click()
        one.get_by_role("option", name="ask", exact=True).click()

    in_both(open_page, form, fill, screenshot, "ui-form")
    page.goto(form, wait_until="commit")
    fill(page)
    clicked = time.monotonic()
    submit(page)
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

    def read_run(one: "Page") -> None:
        one.get_by_text("Read holdout: 9 kept").first.wait_for()
        one.get_by_role("button", name="Open menu").click()
        one.get_by_role("menuitem", name="Resume").wait_for()

    in_both(open_page, here, read_run, screenshot, "ui-run")

    # The verdict, and the report behind it.
    artifacts = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    found = {one["key"]: one["id"] for one in ui.ask("/artifacts/filter", artifacts)}
    assert {"tiny-rows", "tiny-spent", "tiny-scores", "tiny-verdict"} <= set(found)
    # By its address: the list of a run's artifacts is not renewed while it is looked at.
    verdict = f"{base}/v2/artifacts/artifact/{found['tiny-verdict']}"
    page.goto(verdict, wait_until="commit")
    headline = page.get_by_role("heading", name=VERDICT).first.inner_text()
    page.get_by_role("link", name="Open the report").click()
    page.get_by_role("heading", name="tiny", exact=True).wait_for()
    assert page.url.startswith(f"{ui.addresses['reports']}/tiny/release/")
    page.get_by_text(headline, exact=True).wait_for()

    def read_verdict(one: "Page") -> None:
        one.get_by_role("heading", name=VERDICT).first.wait_for()
        without_place(one, ui.outputs)

    in_both(open_page, verdict, read_verdict, screenshot, "ui-verdict")

    # A person says yes.
    def answer(one: "Page") -> None:
        one.get_by_role("button", name="Open menu").click()
        one.get_by_role("menuitem", name="Resume").click()
        form = one.get_by_role("dialog")
        form.get_by_role("switch", name="Make it the champion").click()
        form.get_by_label("Your name").fill("Ann")
        form.get_by_label("Why").fill("better on <refunds>")
        without_place(one, ui.outputs)

    in_both(open_page, here, answer, screenshot, "ui-approval")
    page.goto(here, wait_until="commit")
    answer(page)
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    page.get_by_text("Completed", exact=True).first.wait_for()
    message = ui.ask(f"/flow_runs/{run}")["state"]["message"]
    assert message.startswith("Version 1 is the champion, says Ann.")

    # The alias has moved, in the registry and on its page.
    asked = "/2.0/mlflow/registered-models/alias?name=tiny&alias=champion"
    assert ui.ask(asked, of="mlflow")["model_version"]["version"] == "1"

    def read_model(one: "Page") -> None:
        one.get_by_text(re.compile(r"^@\s*champion$")).wait_for()
        one.get_by_role("button", name="Close", exact=True).click()  # MLflow's assistant lies over the table

    in_both(open_page, f"{ui.addresses['mlflow']}/#/models/tiny", read_model, screenshot, "ui-model")
    assert [
        url for url in asked_elsewhere if "//127.0.0.1:" not in url and not url.startswith(("data:", "blob:"))
    ] == []
