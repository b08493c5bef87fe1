"""The registry on a real MLflow with SQLite, and opening what it knows."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from factory.errors import ArtifactCorrupt, ArtifactMissing, FactoryError
from factory.release.registry import Registry
from factory.release.versions import Version
from factory.serving.predictor import load
from tests.conftest import Factory
from tests.released import stored_release

pytestmark = pytest.mark.slow
METRICS = {"accuracy": 0.9}


@pytest.fixture
def outputs(registry_outputs: Path) -> Path:
    return registry_outputs


def register(outputs: Path, *, page: str = "<p>1</p>", passed: bool = False) -> Version:
    folder = stored_release(outputs, page).folder
    return Registry(outputs).register(
        "tiny", folder, metrics=METRICS, tags={"student": "tiny-encoder"}, passed_gate=passed
    )


def aliases(outputs: Path) -> dict[int, tuple[str, ...]]:
    return {version.version: version.aliases for version in Registry(outputs).versions("tiny")}


def test_a_build_becomes_candidate_and_champion_if_it_passed_the_gate(outputs: Path) -> None:
    first = register(outputs, passed=True)
    assert (first.version, first.aliases, first.metrics) == (1, ("candidate", "champion"), METRICS)
    assert (first.tags, first.passed_gate) == ({"student": "tiny-encoder"}, True)
    second = register(outputs, page="<p>2</p>")
    assert (second.version, second.aliases) == (2, ("candidate",))
    assert aliases(outputs) == {2: ("candidate",), 1: ("champion",)}
    assert Registry(outputs).resolve("tiny") == outputs / first.path
    assert Registry(outputs).resolve("tiny", "candidate") == outputs / second.path
    assert Registry(outputs).resolve("tiny", "2") == outputs / second.path


def test_the_name_of_the_champion_goes_to_the_candidate_and_back(outputs: Path) -> None:
    registry = Registry(outputs)
    register(outputs, passed=True)
    register(outputs, page="<p>2</p>", passed=True)
    assert aliases(outputs) == {2: ("candidate", "champion"), 1: ("previous",)}
    assert registry.rollback("tiny", note="wrong on questions").version == 1
    assert aliases(outputs) == {2: ("candidate", "previous"), 1: ("champion",)}
    assert registry.rollback("tiny").version == 2
    assert aliases(outputs) == {2: ("candidate", "champion"), 1: ("previous",)}
    assert registry.promote("tiny", "previous", note="as agreed").version == 1
    assert registry.promote("tiny", "1").aliases == ("champion",)
    second, first = registry.versions("tiny")
    assert [(move.how, move.was, move.note) for move in first.moves] == [
        ("gate", None, ""),
        ("rollback", 2, "wrong on questions"),
        ("promote", 2, "as agreed"),
    ]
    assert [(move.how, move.was) for move in second.moves] == [("gate", 1), ("rollback", 1)]
    assert {move.by for move in first.moves} == {getpass.getuser()}


def test_a_version_that_failed_its_gate_is_promoted_only_by_force(outputs: Path) -> None:
    register(outputs)
    with pytest.raises(FactoryError, match="tiny: version 1 did not pass its gate") as caught:
        Registry(outputs).promote("tiny")
    assert "--force" in caught.value.hint
    assert aliases(outputs) == {1: ("candidate",)}
    promoted = Registry(outputs).promote("tiny", force=True)
    assert (promoted.aliases, promoted.moves[0].forced) == (("candidate", "champion"), True)


def test_a_version_whose_files_were_changed_is_not_promoted(outputs: Path) -> None:
    register(outputs, passed=True)
    second = register(outputs, page="<p>2</p>")
    (outputs / second.path / "card.md").write_text("the best")
    with pytest.raises(ArtifactCorrupt, match=r"card.md: the file was changed"):
        Registry(outputs).promote("tiny", force=True)
    assert aliases(outputs) == {2: ("candidate",), 1: ("champion",)}


def test_a_version_is_promoted_where_no_name_is_on_any(outputs: Path) -> None:
    register(outputs, passed=True)
    with Registry(outputs).client() as client:
        for alias in ("candidate", "champion"):
            client.delete_registered_model_alias("tiny", alias)
    assert Registry(outputs).promote("tiny", "1").aliases == ("champion",)


def test_there_is_no_going_back_from_the_first_champion(outputs: Path) -> None:
    register(outputs, passed=True)
    with pytest.raises(ArtifactMissing, match="there was no champion before this one"):
        Registry(outputs).rollback("tiny")


def test_tags_that_only_look_like_ours_are_kept_as_tags(outputs: Path) -> None:
    register(outputs)
    with Registry(outputs).client() as client:
        client.set_model_version_tag("tiny", "1", "champion/of the world", "yes")
    (version,) = Registry(outputs).versions("tiny")
    assert (version.moves, version.tags["champion/of the world"]) == ((), "yes")


@pytest.fixture
def server(outputs: Path, registry_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real MLflow server with a database and a place for files of its own."""
    place = outputs.parent / "server"
    place.mkdir()
    shutil.copyfile(registry_database, place / "mlflow.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{place}/mlflow.db", "--artifacts-destination", str(place / "files")]
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(2000):  # a machine that is busy takes a minute
            with suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):
                break
            assert process.poll() is None, (place / "log").read_text()
            time.sleep(0.1)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def test_the_same_commands_work_on_a_server(outputs: Path, server: str, factory: Factory) -> None:
    register(outputs, passed=True)
    register(outputs, page="<p>2</p>")
    told = ["tiny", "--outputs", outputs]
    assert "did not pass its gate" in factory("promote", *told).err
    assert "version 2 is the champion; version 1" in factory("promote", *told, "--force", "--note", "try it").out
    assert "version 2 is the champion already" in factory("promote", *told).out
    assert "promoted by" in factory("models", *told).out
    assert "version 1 is the champion again; version 2" in factory("rollback", *told).out
    assert aliases(outputs) == {2: ("candidate", "previous"), 1: ("champion",)}
    shutil.rmtree(outputs / "tiny" / "release")
    assert load(outputs, "tiny").predict(["play jazz"])[0]["label"] == "music"
    assert not (outputs / "mlruns").exists()


def test_a_broken_database_is_named(outputs: Path) -> None:
    elsewhere = outputs / "elsewhere"  # one that MLflow has not opened yet
    elsewhere.mkdir()
    (elsewhere / "mlflow.db").write_bytes(b"no database " * 1000)
    with pytest.raises(FactoryError, match=r"sqlite:\S+/elsewhere/mlflow\.db does not .*not a database") as caught:
        Registry(elsewhere).versions("tiny")
    assert caught.value.hint.startswith("if the file is broken, move it away")


@pytest.mark.parametrize("name", ["a'b", "../tiny", "", "Tiny", "x" * 65])
def test_what_is_no_name_of_a_task_is_asked_of_nobody(tmp_path: Path, name: str) -> None:
    with pytest.raises(FactoryError, match="expected the name of a task"):
        Registry(tmp_path).resolve(name)
    assert list(tmp_path.iterdir()) == []


def test_the_same_content_is_the_same_version(outputs: Path) -> None:
    first = register(outputs)
    register(outputs, page="<p>2</p>")
    again = register(outputs, passed=True)
    assert (again.version, again.aliases) == (1, ("candidate", "champion"))
    assert aliases(outputs) == {2: (), 1: ("candidate", "champion")}
    assert again.passed_gate
    assert first.content_hash == again.content_hash


def test_two_processes_that_register_at_once_make_one_version(outputs: Path) -> None:
    stored_release(outputs)
    threads = [threading.Thread(target=register, args=(outputs,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert aliases(outputs) == {1: ("candidate",)}


def test_nothing_is_written_outside_the_outputs_and_nothing_is_pickled(outputs: Path) -> None:
    register(outputs)
    assert [path.name for path in Path.cwd().iterdir()] == ["outputs"]
    (model,) = (outputs / "mlruns").rglob("model")
    written = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    released = {f"artifacts/release/{path.name}" for path in stored_release(outputs).folder.iterdir()}
    assert written == released | {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "student.py"}
    assert str(Path(__file__).parents[1]) not in (model / "MLmodel").read_text()


def served(outputs: Path) -> Any:
    """Load the only version as MLflow does where it serves one."""
    import mlflow

    (model,) = (outputs / "mlruns").rglob("model")
    return mlflow.pyfunc.load_model(str(model))


def test_mlflow_itself_can_serve_a_version(outputs: Path) -> None:
    register(outputs)
    (answer,) = served(outputs).predict([{"text": "play jazz"}])
    assert answer == load(outputs, "tiny").predict(["play jazz"])[0]


def test_mlflow_serves_no_version_that_was_tampered_with(outputs: Path) -> None:
    register(outputs)
    (program,) = (outputs / "mlruns").rglob("predict.py")
    program.write_text("print('mine now')")
    with pytest.raises(ValueError, match=r"predict.py: not the file that was released"):
        served(outputs)


def test_finding_a_version_needs_no_mlflow_until_its_database_changes(outputs: Path) -> None:
    register(outputs)
    expected = outputs / Registry(outputs).versions("tiny")[0].path
    code = (
        "import sys; from pathlib import Path; from factory.release.registry import Registry; "
        "print(Registry(Path(sys.argv[1])).resolve('tiny')); sys.exit('mlflow' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(outputs)], capture_output=True, text=True)
    assert (found.returncode, found.stdout.strip(), found.stderr) == (0, str(expected), "")


def test_an_alias_moved_by_someone_else_is_seen(outputs: Path) -> None:
    register(outputs, passed=True)
    second = register(outputs, page="<p>2</p>")
    with Registry(outputs).client() as client:
        client.set_registered_model_alias("tiny", "champion", "2")
    assert Registry(outputs).resolve("tiny") == outputs / second.path


@pytest.mark.parametrize("rubbish", ["", "{", "[]", '{"stamp": 1}', "null"])
def test_a_broken_copy_of_the_registry_is_not_believed(rubbish: str, outputs: Path) -> None:
    version = register(outputs)
    (outputs / "tiny" / "versions.json").write_text(rubbish)
    assert Registry(outputs).versions("tiny") == (version,)


def test_a_release_that_is_gone_is_fetched_from_mlflow(outputs: Path) -> None:
    version = register(outputs)
    shutil.rmtree(outputs / "tiny" / "release")
    folder = Registry(outputs).resolve("tiny")
    assert folder.is_relative_to(outputs / "tiny" / "downloaded")
    assert load(outputs, "tiny").predict(["play jazz"])[0]["label"] == "music"
    assert version.content_hash.startswith(folder.name)


def test_a_version_that_does_not_exist_is_missing(outputs: Path) -> None:
    with pytest.raises(ArtifactMissing, match="tiny: no version is registered") as caught:
        Registry(outputs).resolve("tiny")
    assert caught.value.hint == "build it first: factory build tasks/tiny"
    register(outputs)
    with pytest.raises(ArtifactMissing, match="got '7'; known are 1, candidate"):
        Registry(outputs).resolve("tiny", "7")


def test_asking_an_empty_outputs_folder_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ArtifactMissing, match="no version is registered"):
        load(tmp_path / "outputs", "tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_tampered_release_is_not_opened(outputs: Path) -> None:
    version = register(outputs)
    with (outputs / version.path / "model.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ArtifactCorrupt, match=r"model.onnx: the file was changed"):
        load(outputs, "tiny")


def test_a_server_that_is_down_is_said_fast_and_loses_nothing(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(FactoryError, match=f"MLflow at http://127.0.0.1:{port} does not answer") as caught:
        register(outputs)
    assert time.monotonic() - started < 20
    assert "secret" not in str(caught.value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert register(outputs).version == 1


def test_whoever_was_asked_is_kept_with_the_answer(outputs: Path) -> None:
    registry = Registry(outputs)
    folder = stored_release(outputs).folder
    waiting = registry.register("tiny", folder, metrics=METRICS, tags={}, passed_gate=True, asks=True)
    assert (waiting.aliases, waiting.passed_gate, waiting.moves) == (("candidate",), True, ())
    rejected = registry.reject("tiny", "1", note="wrong on questions", by="Ann")
    assert rejected.aliases == ("candidate",)
    approved = registry.promote("tiny", "1", note="better now", by="Bob")
    assert approved.aliases == ("candidate", "champion")
    said = [(move.how, move.by, move.note, move.was) for move in registry.find("tiny").moves]
    assert said == [("reject", "Ann", "wrong on questions", None), ("promote", "Bob", "better now", None)]
    assert "rejected by Ann: wrong on questions" in approved.moves[0].summary
