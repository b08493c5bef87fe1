"""What several test files share: one Prefect server, an MLflow database, the command line inside the test's process."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from tests.noted_build import MANY, Built, build, scripted

# How long an example takes says more about the machine. The same examples every time, so that a change is blamed for
# what it broke and for nothing else; FACTORY_EXPLORE=1 looks for others.
settings.register_profile("factory", deadline=None, derandomize=os.environ.get("FACTORY_EXPLORE") != "1")
settings.load_profile("factory")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Factory = Callable[..., Done]


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep Prefect's files out of the user's home; the server it starts for the first flow serves all of them."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))  # read when Prefect is imported, which no test module does
        yield home
    if worker := sys.modules.get("prefect.events.worker"):
        # While its server lives: at exit, each event that is left waits some seconds for one that is gone.
        worker.EventsWorker.drain_all(timeout=10, at_exit=False)


@pytest.fixture(scope="session")
def noted(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Return a build that tests only look at."""
    place = tmp_path_factory.mktemp("noted")
    folder = scripted(place / "task", **MANY)
    return Built(folder, place / "outputs", build(folder, place / "outputs"))


@pytest.fixture(scope="session")
def registry_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty MLflow database: making its tables takes seconds, copying it none."""
    from factory.release.registry import Registry

    outputs = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with Registry(outputs).client() as client:
            client.search_registered_models()
    return outputs / "mlflow.db"


@pytest.fixture
def registry_outputs(tmp_path: Path, registry_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return outputs with an empty registry, in an empty current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    shutil.copyfile(registry_database, outputs / "mlflow.db")
    return outputs


@pytest.fixture
def factory(prefect_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Factory:
    """Return a function that runs a `factory` command in this process, as its console script does."""
    from factory.cli import main

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["factory", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run
