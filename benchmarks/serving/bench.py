"""What all measurements share: models, request bodies, the load generator and the server under test."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.models import Data, fit, release
from benchmarks.serving.processes import free_port, running, say
from factory.students.training import FittedStudent

MINILM, STATIC = "minilm", "static"
STUDENTS = {MINILM: "sentence-linear", STATIC: "static-embedding"}
REPEATS = 3
"""Each figure is the median of so many."""


@dataclass(frozen=True)
class Line:
    """One line: what, by whom, how much; `wanted` is the bound it must meet."""

    what: str
    who: str
    value: str
    wanted: str = ""
    met: bool | None = None


class Bench:
    """Models, folders and processes of one run."""

    def __init__(self, data_folder: Path, data: Data, work: Path, *, scale: float, soak: int) -> None:
        self.data_folder, self.data, self.work = data_folder, data, work
        self.scale, self.soak_requests = scale, soak
        self.outputs = work / "outputs"
        self._fitted: dict[str, FittedStudent] = {}
        self._folders: dict[str, Path] = {}

    def student(self, task: str) -> FittedStudent:
        """Return the trained student of a task; trained when it is first asked for."""
        if task not in self._fitted:
            say(f"training {STUDENTS[task]}")
            self._fitted[task] = fit(STUDENTS[task], self.data)
        return self._fitted[task]

    def folder(self, task: str) -> Path:
        """Return its release folder, registered as the champion; of the static student there is a second version."""
        if task not in self._folders:
            student = self.student(task)
            say(f"releasing {STUDENTS[task]}")
            n_versions = 2 if task == STATIC else 1
            self._folders[task] = release(self.outputs, task, student, self.data, n_versions=n_versions)[0]
        return self._folders[task]

    def n(self, wanted: int) -> int:
        """Scale a number of requests."""
        return max(20, int(wanted * self.scale))

    def bodies(self, make: Callable[[Sequence[str]], object], size: int) -> Path:
        """Write request bodies of `size` test texts each."""
        texts = self.data.texts
        groups = [[texts[(start + k) % len(texts)] for k in range(size)] for start in range(0, len(texts), size)]
        path = self.work / f"bodies-{size}-{make.__name__}.jsonl"
        path.write_text("".join(json.dumps(make(group)) + "\n" for group in groups), encoding="utf-8")
        return path

    def load(self, port: int, path: str, bodies: Path, *, clients: int, requests: int) -> dict[str, Any]:
        """Run the load generator in its own process."""
        command = [sys.executable, "-m", "benchmarks.serving.load", str(port), path, "--bodies", str(bodies)]
        command += ["--clients", str(clients), "--requests", str(requests)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))

    @contextmanager
    def factory(self, task: str) -> Iterator[tuple[int, int]]:
        """Run `factory serve`; lend its port and process id."""
        self.folder(task)
        port = free_port()
        command = [sys.executable, "-m", "factory", "serve", task, "--outputs", str(self.outputs), "--port", str(port)]
        with running(command, port, "/readyz") as pid:
            yield port, pid


def texts_body(texts: Sequence[str]) -> object:
    """Of /v1/predict."""
    return {"texts": list(texts)}
