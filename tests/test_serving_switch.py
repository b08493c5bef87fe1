"""The champion moves while requests come: none fails, and what is broken never replaces what answers."""

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from factory.errors import ArtifactCorrupt, FactoryError
from factory.serving.http.live import Live, open_version
from factory.serving.http.locate import RegistrySource
from tests.serving import Pointer, Reply, Running, running


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def test_twenty_switches_under_load_fail_no_request(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        releases = [server.pointer.release(version) for version in (1, 2, 3)]
        ends = threading.Event()
        replies: list[Reply] = []

        def ask() -> None:
            while not ends.is_set():
                replies.append(server.ask("/v1/predict", {"texts": ["play", "rain"]}))

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask) for _ in range(4)]
            for number in range(20):
                server.pointer.wanted = releases[number % 3]
                wait_for(lambda: server.live.current.located == server.pointer.wanted)
            ends.set()
            for one in asking:
                one.result()
        assert {reply.status for reply in replies} == {200}
        assert {tuple(answer["label"] for answer in reply.json["answers"]) for reply in replies} == {
            ("music", "weather")
        }
        assert {reply.json["version"] for reply in replies} == {1, 2, 3}
        assert 'factory_switches_total{outcome="switched"}' in server.ask("/metrics").body.decode()


def test_what_is_in_flight_finishes_on_the_version_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as server:
        old, began, may_go = server.live.current, threading.Event(), threading.Event()
        predict = old.student.predict

        def slow(texts: list[str]) -> object:
            began.set()
            assert may_go.wait(10)
            return predict(texts)

        monkeypatch.setattr(old.student, "predict", slow)
        with ThreadPoolExecutor(1) as pool:
            reply = pool.submit(server.ask, "/v1/predict", {"texts": ["play"]})
            assert began.wait(10)
            server.pointer.wanted = server.pointer.release(2)
            wait_for(lambda: server.live.current.version == 2)
            may_go.set()
            assert reply.result().json["version"] == 1
        assert server.ask("/v1/predict", {"texts": ["play"]}).json["version"] == 2


def refused(server: Running) -> str:
    wait_for(lambda: server.live.problem is not None)
    assert server.ask("/v1/predict", {"texts": ["play"]}).json["version"] == 1
    ready = server.ask("/readyz").json
    assert (ready["ready"], ready["version"]) == (True, 1)
    assert 'factory_switches_total{outcome="refused"} 1.0' in server.ask("/metrics").body.decode()
    return str(ready["problem"])


@pytest.mark.parametrize("file", ["model.onnx", "config.json", "tokenizer.json", "predict.py"])
def test_a_tampered_version_never_replaces_the_one_that_answers(file: str, tmp_path: Path) -> None:
    with running(tmp_path) as server:
        second = server.pointer.release(2)
        path = Path(second.folder, file)
        whole = path.read_bytes()
        path.write_bytes(whole + b"\n")
        server.pointer.wanted = second
        assert f"{file}: the file was changed" in refused(server)
        path.write_bytes(whole)  # once it is mended, the switch happens by itself
        wait_for(lambda: server.live.current.version == 2)
        assert server.ask("/readyz").json["problem"] is None


def test_a_version_that_is_gone_or_a_registry_that_is_down_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        second = server.pointer.release(2)
        shutil.rmtree(second.folder)
        server.pointer.wanted = second
        assert "no such file" in refused(server)
        for error in (FactoryError("MLflow does not answer"), RuntimeError("nobody foresaw this")):
            server.pointer.wanted = error
            wait_for(lambda: str(server.pointer.wanted) in (server.live.problem or ""))
        assert server.ask("/v1/predict", {"texts": ["play"]}).json["version"] == 1


def test_a_tampered_release_is_not_opened_at_the_start(tmp_path: Path) -> None:
    pointer = Pointer(tmp_path)
    first = pointer.release(1)
    with Path(first.folder, "model.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ArtifactCorrupt, match="was changed"):
        Live("tiny", pointer)


def test_another_release_in_the_folder_of_a_version_is_not_taken_for_it(tmp_path: Path) -> None:
    pointer = Pointer(tmp_path)
    first, second = pointer.release(1), pointer.release(2)
    shutil.rmtree(first.folder)
    shutil.copytree(second.folder, first.folder)
    with pytest.raises(ArtifactCorrupt, match="holds another release than version 1"):
        open_version("tiny", first)


def test_the_same_release_under_another_number_is_not_opened_again(tmp_path: Path) -> None:
    pointer = Pointer(tmp_path)
    live = Live("tiny", pointer)
    student = live.current.student
    first = pointer.release(1)
    pointer.wanted = type(first)(7, first.content_hash, first.folder)
    live.look()
    assert (live.current.version, live.current.student is student) == (7, True)


@pytest.mark.parametrize("name", ["../tiny", "a/b", "", "Tiny", "x'; DROP TABLE"])
def test_what_is_no_name_of_a_task_is_served_by_nobody(name: str, tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match="expected the name of a task"):
        RegistrySource(tmp_path, name).locate()
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_was_never_built_is_said_in_the_words_of_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(FactoryError, match="tiny: no version is registered in sqlite") as caught:
        RegistrySource(tmp_path, "tiny").locate()
    assert caught.value.hint == "build it first: factory build tasks/tiny"
