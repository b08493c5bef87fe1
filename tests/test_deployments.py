"""What people start from Prefect: forms that offer what there is, wrong values that are refused, plain words."""

import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from factory.check import check_task
from factory.errors import FactoryError
from factory.events import Progressed, StageStarted, TeacherUsed
from factory.spec import Budget
from flows.choices import OUTPUTS_ENV, REPORTS_ENV, TASKS_ENV, model_names, report_link, task_names
from flows.following import Following, escaped
from flows.reports import reports_served
from flows.titles import title_of
from flows.ui import Ports, pages
from tests.conftest import Factory
from tests.scripted_task import make_task

ROOT = Path(__file__).parents[1]
FLOWS = {"build", "improve", "label", "augment", "batch_predict", "verdict"}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_home: Path) -> Path:
    """Return a place with a task folder, a folder that is none, and empty outputs, which the flows are told of."""
    make_task(tmp_path / "tasks" / "mine")
    (tmp_path / "tasks" / "notes").mkdir()
    monkeypatch.setenv(TASKS_ENV, str(tmp_path / "tasks"))
    monkeypatch.setenv(OUTPUTS_ENV, str(tmp_path / "outputs"))
    return tmp_path


def forms() -> dict[str, dict[str, Any]]:
    from prefect.utilities.callables import parameter_schema

    from flows.deployments import FLOWS as ALL

    return {one.name: parameter_schema(one).model_dump(exclude_unset=True) for one in ALL}


# Forms


def test_forms_offer_the_task_folders_and_the_models_that_there_are(folders: Path) -> None:
    asked = forms()
    assert set(asked) == FLOWS
    for name in ("build", "improve", "label", "augment"):
        assert asked[name]["properties"]["task"]["enum"] == ["mine"]
        assert asked[name]["required"] == ["task"]
    for name in ("batch_predict", "verdict"):
        assert asked[name]["properties"]["model"]["enum"] == ["scripted"]  # as its spec calls it
    make_task(folders / "tasks" / "second", name="other")
    assert forms()["build"]["properties"]["task"]["enum"] == ["mine", "second"]
    assert (task_names(), model_names()) == (["mine", "second"], ["other", "scripted"])


def test_every_field_of_a_form_is_explained_and_all_but_what_must_be_said_have_a_default(folders: Path) -> None:
    for form in forms().values():
        for name, field in form["properties"].items():
            assert len(field["description"]) > 10
            assert ("default" in field) == (name not in form["required"])
            assert "anyOf" not in field  # Prefect shows it as a choice of Python types


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "mien"}, r"no task folder 'mien'; known: mine"),
        ({"task": "../../etc"}, r"no task folder"),
        ({"task": "mine", "most_calls": -1}, "most_calls.*greater than or equal to 0"),
        ({"task": "mine", "promotion": "maybe"}, "promotion.*'gate' or 'ask'"),
    ],
)
def test_what_a_form_would_not_allow_is_refused_before_anything_is_done(
    folders: Path, given: dict[str, Any], message: str
) -> None:
    from prefect.exceptions import ParameterTypeError

    from flows.deployments import build

    with pytest.raises(ParameterTypeError, match=f"(?s){message}"):
        build.validate_parameters(given)


def test_a_field_that_no_form_has_is_refused_by_the_schema_that_prefect_checks(folders: Path) -> None:
    from prefect.utilities import schema_tools

    from flows.deployments import deployments

    for one in deployments():
        schema = one._parameter_openapi_schema.model_dump(exclude_unset=True)  # as it is sent to the server
        given = {name: schema["properties"][name].get("enum", ["x"])[0] for name in schema["required"]}
        schema_tools.validate(given, schema, raise_on_error=True)
        with pytest.raises(schema_tools.ValidationError, match="'most_cals' was unexpected"):
            schema_tools.validate({**given, "most_cals": 5}, schema, raise_on_error=True)


def test_prefect_yaml_says_what_factory_deploy_does(folders: Path) -> None:
    from flows.deployments import deployments

    said = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    pool = said[0]["work_pool"]
    made = deployments(pool=pool["name"], env=pool["job_variables"]["env"])
    assert {(one["name"], one["entrypoint"]) for one in said} == {(one.name, one.entrypoint) for one in made}
    assert {one.flow_name for one in made} == FLOWS
    assert all(one["work_pool"] == pool for one in said)
    assert {one.work_pool_name for one in made} == {pool["name"]}
    assert all(one.job_variables["env"] == pool["job_variables"]["env"] for one in made)


def test_deploying_without_a_server_says_what_to_set(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    done = factory("deploy", "--pool", "factory")
    assert (done.code, "set PREFECT_API_URL" in done.err) == (1, True)


def test_wishes_change_the_budget_and_who_promotes_and_nothing_else(folders: Path) -> None:
    from flows.build import Wishes

    task = check_task(folders / "tasks" / "mine")
    wished = Wishes(most_calls=7, promotion="ask").applied_to(task).spec
    assert (wished.teacher.budget, wished.promotion) == (Budget(calls=7), "ask")
    same = {"teacher": task.spec.teacher, "promotion": task.spec.promotion}
    assert wished.model_copy(update=same) == task.spec
    assert Wishes().applied_to(task) == task


def test_a_bound_in_dollars_on_a_teacher_without_prices_is_refused(tmp_path: Path, prefect_home: Path) -> None:
    from flows.build import Wishes

    teacher = {"name": "openai", "model": "mine", "base_url": "http://127.0.0.1:1/v1"}
    task = check_task(make_task(tmp_path / "task", teacher=teacher))
    with pytest.raises(FactoryError, match=r"scripted: teacher: .*price"):
        Wishes(most_usd=1.0).applied_to(task)


# Words


@pytest.mark.parametrize(
    ("stage", "title"),
    [
        ("annotate-pool-1", "The teacher labels pool-1"),
        ("verify-attributes-2", "The teacher labels again what it wrote: attributes 2"),
        ("fit-sentence-linear", "Train sentence-linear"),
        ("evaluate", "Judge everything on the holdout"),
        ("dedup-1", "Drop near duplicates, round 1"),
        ("read-holdout", "Read holdout"),
        ("something-new", "Something new"),
    ],
)
def test_titles_name_the_stage_and_what_it_works_on(stage: str, title: str) -> None:
    assert title_of(stage) == title


def test_progress_is_said_in_rows_and_money() -> None:
    run = Following("my_task", 100, Budget(calls=50, usd=2.0))
    assert run.rows_line() == (0.0, "0 rows accepted of 100 wanted, 0 rejected")
    assert run.spent_line() == (0.0, "the teacher was asked nothing")
    run.heard(StageStarted("annotate-pool-1", because="new"))
    run.heard(Progressed("annotate", 10, 40, "labels"))
    run.made["annotate-pool-1"] = 30
    run.rejections["The teacher labels", "unparseable"] = 2
    said = "30 rows accepted of 100 wanted, 2 rejected. Now: The teacher labels pool-1: 10 of 40 labels"
    assert run.rows_line() == (30.0, said)
    run.filtered = 120
    assert run.rows_line()[0] == 100.0
    run.heard(TeacherUsed("teacher", 10, 3, 900, 100, usd=1.5, tokens_per_s=1.0, teacher="a"))
    run.heard(TeacherUsed("teacher", 5, 0, 0, 0, usd=0.0, tokens_per_s=1.0, teacher="b"))
    said = "$1.50 of 2.0 for 15 of 50 calls (3 more from the cache) and 1,000 tokens"
    assert run.spent_line() == (75.0, said)
    assert run.key("rows") == "my-task-rows"


def test_texts_of_the_data_are_text_in_markdown_too() -> None:
    hostile = "<img src=x onerror=alert(1)> [a](javascript:b) **c** `d` &lt;"
    assert re.sub(r"\\(.)", "", escaped(hostile)) == "img src=x onerror=alert1 ajavascript:b c d lt;"


# Reports


@pytest.fixture
def reports(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    release = folders / "outputs" / "mine" / "release" / "0a1b"
    release.mkdir(parents=True)
    (release / "report.html").write_text("<p>good</p>", encoding="utf-8")
    (release / "lineage.json").write_text("{}", encoding="utf-8")
    (folders / "outputs" / "secret").write_text("x", encoding="utf-8")
    with reports_served(folders / "outputs", 0) as address:
        monkeypatch.setenv(REPORTS_ENV, address)
        yield address, release


def get(url: str, **headers: str) -> tuple[int, str, str]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers["Content-Security-Policy"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", ""


def test_a_report_is_shown_by_its_link_and_can_ask_nobody(reports: tuple[str, Path]) -> None:
    address, release = reports
    link = report_link(release)
    assert link == f"{address}/mine/release/0a1b/report.html"
    status, page, policy = get(link)
    assert (status, page) == (200, "<p>good</p>")
    assert "sandbox" in policy
    assert "connect-src 'none'" in policy
    assert f'href="{link.removeprefix(address)}"' in get(f"{address}/")[1]


@pytest.mark.parametrize(
    "path",
    [
        "/secret",
        "/mine/release/0a1b/lineage.json",
        "/mine/release/../../secret",
        "/%2e%2e/secret",
        "/mine/release/0a1b/",
    ],
)
def test_nothing_but_reports_is_served(reports: tuple[str, Path], path: str) -> None:
    assert get(reports[0] + path)[0] == 404


def test_another_name_that_leads_here_is_refused(reports: tuple[str, Path]) -> None:
    assert get(f"{reports[0]}/", Host="evil.example:80")[0] == 403


def test_a_release_elsewhere_has_no_link(reports: tuple[str, Path], tmp_path: Path) -> None:
    assert report_link(tmp_path / "elsewhere") is None


# Starting


def test_a_second_one_for_the_same_outputs_is_told_where_the_first_is(tmp_path: Path, prefect_home: Path) -> None:
    from flows.ui import _only_one

    with _only_one(tmp_path) as lock:
        lock.write("http://127.0.0.1:4200")
        lock.flush()
        with pytest.raises(FactoryError, match=r"runs already for these outputs: http://127\.0\.0\.1:4200"):
            _only_one(tmp_path).__enter__()


def test_a_port_that_is_taken_is_said_and_the_next_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    from flows.ui import _free_port

    said: list[str] = []
    with _free_port("Prefect", 0, said.append) as taken:
        port = taken.getsockname()[1]
        with _free_port("Prefect", port, said.append) as other:
            assert said == [f"port {port} is taken: Prefect is on {other.getsockname()[1]} instead"]


def test_outputs_that_cannot_be_written_are_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with (
        pytest.raises(FactoryError, match="cannot be written"),
        pages(tmp_path, tmp_path / "file", Ports(0, 0, 0), print),
    ):
        pass


@pytest.mark.parametrize(("name", "came"), [("nosuch", "nothing"), ("file", "a file")])
def test_a_folder_of_tasks_that_is_not_there_is_said_before_anything_is_started(
    factory: Factory, tmp_path: Path, name: str, came: str
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = factory("ui", "--tasks", tmp_path / name, "--out", tmp_path / "outputs", "--port", "0")
    assert (done.code, done.out) == (1, "")
    assert f"{tmp_path / name}: expected a folder that holds the task folders, got {came}" in done.err
    assert "--tasks" in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_folder_without_a_task_is_warned_of_and_one_with_a_task_is_not(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "tasks" / "notes").mkdir(parents=True)
    (tmp_path / "file").write_text("", encoding="utf-8")
    make_task(tmp_path / "others" / "mine")
    for tasks in ("tasks", "others"):
        with pytest.raises(FactoryError), pages(tmp_path / tasks, tmp_path / "file", Ports(0, 0, 0), said.append):
            pass
    (warning,) = said
    assert warning.startswith(f"warning: no task folder (DIR/spec.yaml) in {tmp_path / 'tasks'}")


@pytest.mark.parametrize("name", ["", "   ", "\u00a0\t\n"])
def test_an_approval_without_a_name_is_refused_by_the_schema_that_prefect_checks(name: str) -> None:
    from prefect.utilities import schema_tools

    from flows.approval import Approval

    schema = Approval.model_json_schema()
    schema_tools.validate({"name": " 李 "}, schema, raise_on_error=True)
    with pytest.raises(schema_tools.ValidationError, match="field 'name'"):
        schema_tools.validate({"name": name}, schema, raise_on_error=True)


# Ending


def test_a_run_that_is_told_to_end_ends_even_if_it_does_not_listen() -> None:
    code = """
import os, signal, threading, time
from flows.ending import ends_when_told
signal.signal(signal.SIGTERM, lambda *_: None)  # it hears, and goes on
with ends_when_told(grace_s=0.2):
    threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
    while True:
        time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 143


def test_a_run_that_nobody_ends_goes_on() -> None:
    code = """
import time
from flows.ending import ends_when_told
with ends_when_told(grace_s=0.0):
    time.sleep(0.1)
with ends_when_told(grace_s=0.0):
    pass
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "done\n"
