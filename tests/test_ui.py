"""`factory ui` with a real server and worker: runs that are cancelled, go on, wait for a person, or cannot be."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from factory.errors import FactoryError
from factory.release.registry import Registry
from flows.ui import Ports, pages
from tests.conftest import Factory
from tests.fault_server import FaultServer, Say
from tests.scripted_task import LABELS, make_task
from tests.test_augment_build import task_with
from tests.test_build import QUICK, speak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PATIENCE_S = 300
"""For a machine on which all cores are busy."""
N_ANSWERED = 20


@dataclass
class Site:
    """What runs, asked by Prefect's own API."""

    url: str
    tasks: Path
    outputs: Path
    server: FaultServer

    def ask(self, path: str, question: Any = None) -> Any:
        import httpx

        while True:
            found = httpx.request("GET" if question is None else "POST", self.url + path, json=question, timeout=60)
            if found.status_code != 503:  # what Prefect's server says when SQLite is busy: its own clients ask again
                return found.json()
            time.sleep(0.2)

    def start(self, name: str, **given: Any) -> str:
        found = self.ask(f"/deployments/{self.deployment(name)}/create_flow_run", {"parameters": given})
        return str(found["id"])

    def deployment(self, name: str) -> str:
        return next(one["id"] for one in self.ask("/deployments/filter", {}) if one["name"] == name)

    def state(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(f"/flow_runs/{run}")["state"]
        return found

    def wait_for(self, what: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := what()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return found

    def wait_until(self, run: str, name: str) -> dict[str, Any]:
        ends = {name, "Completed", "Failed", "Crashed", "Cancelled"}
        state = self.wait_for(lambda: found if (found := self.state(run))["name"] in ends else None)
        assert state["name"] == name, state["message"]
        return dict(state)

    def artifacts(self, run: str) -> dict[str, Any]:
        asked = {"artifacts": {"flow_run_id": {"any_": [run]}}}
        return {one["key"]: one["data"] for one in self.ask("/artifacts/filter", asked)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("site")
    tasks, outputs = place / "tasks", place / "outputs"
    with FaultServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-none")
        patch.delenv("PREFECT_HOME", raising=False)
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        teacher = {"name": "openai", "model": "stub", "base_url": f"{server.url}/v1", "concurrency": 1}
        make_task(tasks / "slow", name="slow", **{**QUICK, "teacher": teacher})
        make_task(tasks / "quick", name="quick", **QUICK)
        make_task(tasks / "wrong", kind="none")
        labelling = {"label_pool": 4, "ask_directly": 0}
        task_with(tasks / "real", "train", "pool", name="real", labelling=labelling)
        with pages(tasks, outputs, Ports(0, 0, 0), lambda message: None) as running:
            yield Site(f"{running.addresses.prefect}/api", tasks, outputs, server)
        assert [child.process.poll() is None for child in running.children] == [False] * 3
    assert processes_of(outputs) == []


def processes_of(outputs: Path) -> list[str]:
    """Return the command lines of all processes that were started for these outputs."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            told = (path / "environ").read_bytes().split(b"\0")
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has ended, or is none of ours
        if path.name != str(os.getpid()) and f"FACTORY_OUTPUTS={outputs.resolve()}".encode() in told:
            found.append(command)
    return found


def test_a_cancelled_run_ends_and_the_next_one_goes_on_and_asks_nothing_twice(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    answer = speak(site.tasks / "slow" / "replies.jsonl")
    site.server.behave = lambda body, number: answer(body, number) if number < N_ANSWERED else Say(end="hang")
    first = site.start("build", task="slow")
    site.wait_for(lambda: len(site.server.bodies) > N_ANSWERED)
    assert site.state(first)["name"] == "Running"
    before = time.monotonic()
    site.ask(f"/flow_runs/{first}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    site.wait_until(first, "Cancelled")
    record_property("seconds until it was cancelled", round(time.monotonic() - before, 1))
    site.wait_for(lambda: not [one for one in processes_of(site.outputs) if "prefect.engine" in one])
    answered = [str(body) for body in site.server.bodies[:N_ANSWERED]]

    site.server.behave = answer
    n_before = len(site.server.bodies)
    again = site.start("build", task="slow")
    site.wait_until(again, "Completed")
    asked_again = {str(body) for body in site.server.bodies[n_before:]}
    assert asked_again
    assert asked_again.isdisjoint(answered)
    assert "champion" in Registry(site.outputs).find("slow").aliases


def test_a_person_says_no_and_that_is_kept(site: Site) -> None:
    run = site.start("build", task="quick", promotion="ask")
    site.wait_until(run, "Paused")
    shown = site.artifacts(run)
    assert {"quick-rows", "quick-spent", "quick-scores", "quick-verdict"} <= set(shown)
    assert "/quick/release/" in shown["quick-verdict"]
    for blank in ("", "   ", "\u00a0\t"):
        without_name = site.ask(f"/flow_runs/{run}/resume", {"run_input": {"approve": True, "name": blank}})
        assert (without_name["status"], site.state(run)["name"]) == ("REJECT", "Paused")
        assert "field 'name'" in without_name["details"]["reason"]
    said = {"approve": False, "name": "Ann", "note": "wrong on <questions>"}
    site.wait_for(lambda: site.ask(f"/flow_runs/{run}/resume", {"run_input": said}).get("status") == "ACCEPT")
    assert site.wait_until(run, "Completed")["message"].startswith("Version 1 stays a candidate, says Ann.")
    (version,) = Registry(site.outputs).versions("quick")
    assert version.aliases == ("candidate",)
    assert [(one.how, one.by, one.note) for one in version.moves] == [("reject", "Ann", "wrong on <questions>")]


def test_a_run_that_waits_for_a_person_can_be_cancelled(site: Site) -> None:
    run = site.start("build", task="quick", promotion="ask")
    site.wait_until(run, "Paused")
    site.ask(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    site.wait_until(run, "Cancelled")
    site.wait_for(lambda: not [one for one in processes_of(site.outputs) if "prefect.engine" in one])


def test_a_built_model_answers_a_file_and_is_judged(site: Site, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "play a song"}\n' * 3, encoding="utf-8")
    given = {"model": "quick", "source": str(source), "target": str(target)}
    assert "3 rows" in site.wait_until(site.start("batch_predict", **given), "Completed")["message"]
    assert len(target.read_text(encoding="utf-8").splitlines()) == 3
    assert "is there already" in site.wait_until(site.start("batch_predict", **given), "Failed")["message"]
    verdict = site.start("verdict", model="quick")
    assert "LLM" in site.wait_until(verdict, "Completed")["message"]
    assert "Open the report" in site.artifacts(verdict)["quick-verdict"]


@pytest.mark.parametrize(
    ("deployment", "given", "kind"), [("label", {"n_rows": 6}, "labelled"), ("augment", {"per_label": 8}, "augmented")]
)
def test_real_texts_are_labelled_or_varied_into_a_file(
    site: Site, deployment: str, given: dict[str, int], kind: str
) -> None:
    run = site.start(deployment, task="real", most_calls=200, **given)
    said = site.wait_until(run, "Completed")["message"]
    path = Path(said.partition(" rows in ")[2].partition(": ")[0])
    assert path.parent == site.outputs / "real" / kind
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert said.startswith(f"{len(rows)} rows in ")
    assert {row["label"] for row in rows} <= set(LABELS)
    shown = site.artifacts(run)
    assert sum(line["rows"] for line in json.loads(shown[f"real-{kind}"])) == len(rows) > 3
    assert {"real-rows", "real-spent"} <= set(shown)


def test_a_schedule_starts_a_run(site: Site) -> None:
    import httpx

    deployment = site.deployment("verdict")
    begin = datetime.now(UTC).strftime("DTSTART:%Y%m%dT%H%M%SZ")
    few = {"rrule": f"{begin}\nRRULE:FREQ=SECONDLY;INTERVAL=15;COUNT=20"}  # the server plans some seconds ahead
    made = site.ask(
        f"/deployments/{deployment}/schedules", [{"schedule": few, "active": True, "parameters": {"model": "quick"}}]
    )
    asked = {"flow_runs": {"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": ["COMPLETED"]}}}}
    site.wait_for(lambda: [one for one in site.ask("/flow_runs/filter", asked) if one["auto_scheduled"]])
    schedule = f"{site.url}/deployments/{deployment}/schedules/{made[0]['id']}"
    site.wait_for(lambda: httpx.delete(schedule, timeout=60).status_code != 503)  # see `ask`


def test_what_cannot_be_done_is_said_by_the_run_or_refused_by_the_form(site: Site) -> None:
    assert "kind" in site.wait_until(site.start("build", task="wrong"), "Failed")["message"]
    assert "nothing to label" in site.wait_until(site.start("label", task="quick"), "Failed")["message"]
    refused = site.ask(f"/deployments/{site.deployment('build')}/create_flow_run", {"parameters": {"task": "mine"}})
    assert "'mine' is not one of" in str(refused["detail"])
    unknown = {"task": "quick", "most_cals": 5}
    refused = site.ask(f"/deployments/{site.deployment('build')}/create_flow_run", {"parameters": unknown})
    assert "('most_cals' was unexpected)" in str(refused["detail"])


def test_the_same_is_registered_on_a_server_that_is_there(
    site: Site, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    import prefect.settings

    with prefect.settings.temporary_settings({prefect.settings.PREFECT_API_URL: site.url}):
        done = factory("deploy", "--pool", "nobody", "--tasks", site.tasks, "--out", site.outputs)
        assert (done.code, "prefect work-pool create nobody --type process" in done.err) == (1, True)
        site.ask("/work_pools/", {"name": "cluster", "type": "process"})
        done = factory("deploy", "--pool", "cluster", "--tasks", site.tasks, "--out", site.outputs)
    assert (done.code, len(done.out.splitlines())) == (0, 6)
    found = {one["name"]: one for one in site.ask("/deployments/filter", {})}
    assert found["build"]["work_pool_name"] == "cluster"
    assert found["build"]["job_variables"]["env"]["FACTORY_TASKS"] == str(site.tasks.resolve())


def test_a_second_one_for_the_same_outputs_is_refused(site: Site) -> None:
    with (
        pytest.raises(FactoryError, match="runs already for these outputs"),
        pages(site.tasks, site.outputs, Ports(0, 0, 0), lambda message: None),
    ):
        pass


def test_no_page_of_another_site_starts_a_run_or_reads_one(site: Site) -> None:
    import httpx

    url = f"{site.url}/deployments/{site.deployment('build')}/create_flow_run"
    body, n_before = b'{"parameters": {"task": "quick"}}', len(site.ask("/flow_runs/filter", {}))
    foreign = {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}
    assert httpx.post(url, content=body, headers=foreign).status_code == 403
    rebound = {"host": f"evil.example:{httpx.URL(url).port}"}
    assert httpx.post(url, content=body, headers=rebound).status_code == 421
    assert httpx.get(site.url.removesuffix("api") + "v2/", headers=rebound).status_code == 421
    assert len(site.ask("/flow_runs/filter", {})) == n_before
