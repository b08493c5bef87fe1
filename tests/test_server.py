"""Where a build writes, and Prefect's server: what is said when either fails, and that nobody waits for ever."""

import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from factory.errors import ArtifactError, FactoryError
from flows import server
from flows.room import check_room
from flows.server import prefect_server
from tests.conftest import Factory
from tests.scripted_task import make_task

Usage = type(shutil.disk_usage("/"))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(12_000_000, 11_850_000, 150_000))


@pytest.fixture
def never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: Any, **more: Any) -> None:
        pytest.fail("a process was started")

    monkeypatch.setattr(server.subprocess, "Popen", start)


@pytest.mark.usefixtures("full_disk", "never_started")
def test_a_build_on_a_full_disk_says_so_before_anything_is_started(factory: Factory, tmp_path: Path) -> None:
    done = factory("build", make_task(tmp_path / "task"), "--out", tmp_path / "outputs")
    assert done.code == 1
    assert "outputs: the disk is full: 0.1 MB are free, and a build needs at least 50" in done.err
    assert "hint: free some space" in done.err


@pytest.mark.usefixtures("never_started")
@pytest.mark.parametrize("out", ["/proc/x", "task/spec.yaml", "task/spec.yaml/below"])
def test_outputs_that_cannot_be_written_are_named(factory: Factory, tmp_path: Path, out: str) -> None:
    folder = make_task(tmp_path / "task")
    done = factory("build", folder, "--out", tmp_path / out)  # an absolute path stays
    assert done.code == 1
    assert f"error: {tmp_path / out}: cannot be written: " in done.err
    assert "hint: name a folder that may be written" in done.err
    assert "Traceback" not in done.err


def test_a_plan_refuses_a_file_in_place_of_the_outputs(factory: Factory, tmp_path: Path) -> None:
    folder = make_task(tmp_path / "task")
    done = factory("plan", folder, "--out", folder / "spec.yaml")
    assert (done.code, done.out) == (1, "")
    assert f"{folder / 'spec.yaml'}: expected a folder, got a file" in done.err


def test_a_disk_that_takes_no_byte_is_found_by_writing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(ArtifactError, match="cannot be written: File too large"):
            check_room(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
def test_a_disk_that_filled_up_is_blamed_and_not_prefect(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the disk is full"):
        with server._errors_in_one_line("http://here/api", OSError, tmp_path):
            raise RuntimeError("Failed to reach API at http://here/api")


@pytest.mark.slow
def test_a_server_that_cannot_start_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "prefect.db").write_bytes(b"no database " * 1000)
    with pytest.raises(FactoryError, match=r"Prefect's server at \S+ does not work: it ended while it st") as caught:
        with prefect_server(tmp_path / "outputs") as wait:
            wait()
    assert caught.value.hint.endswith(f"run the same command again, if need be without {tmp_path / 'home'}")
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_server_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setattr(server, "START_S", 0.5)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another server that never ends its start
        with pytest.raises(FactoryError, match=r"it did not start within 0 s"), prefect_server(tmp_path) as wait:
            wait()
