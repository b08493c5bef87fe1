"""What several test files share: one Prefect server, and the command line inside the test's own process."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from tests.noted_build import MANY, Built, build, scripted

settings.register_profile("factory", deadline=None)  # how long an example takes says more about the machine
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
