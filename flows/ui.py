"""`factory ui`: Prefect's pages, MLflow's pages, the reports, and a worker that runs what people start there.

Each is a child process on a loopback port that ends when this process closes its standard input, or dies.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from factory.errors import FactoryError
from factory.release.mlflow_client import TRACKING_URI, shown
from factory.spec_file import SPEC_FILE
from flows.choices import OUTPUTS_ENV, REPORTS_ENV, TASKS_ENV
from flows.reports import reports_served
from flows.room import check_room
from flows.server import HOME, start_server

HOST = "127.0.0.1"
START_S = 300.0
"""How long all may take to start; twenty seconds are usual, the first time."""
END_S = 20.0
"""How long a child may take to end; the worker cancels its runs first."""
PORTS_TRIED = 50
Say = Callable[[str], None]
LOG_LINES = 8


@dataclass(frozen=True)
class Ports:
    """Where pages are wanted; 0: anywhere."""

    prefect: int = 4200
    mlflow: int = 5000
    reports: int = 4280


@dataclass(frozen=True)
class Addresses:
    """Where pages are."""

    prefect: str
    mlflow: str
    reports: str

    def as_json(self) -> dict[str, str]:
        """Return them for programs."""
        return asdict(self)


@dataclass
class Child:
    """A process that ends when its standard input closes."""

    name: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def end(self) -> None:
        """End it and all that it started."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()

    def check(self) -> None:
        """Raise an error with the last lines of its log when it has ended by itself."""
        if self.process.poll() is None:
            return
        self.log.seek(0)
        lines = self.log.read().decode("utf-8", "replace").strip().splitlines()[-LOG_LINES:]
        said = "\n".join(f"  {line[:300]}" for line in lines)
        raise FactoryError(f"{self.name} ended by itself, with exit code {self.process.returncode}\n{said}")


@contextmanager
def pages(tasks: Path, outputs: Path, ports: Ports, say: Say) -> Iterator["Pages"]:
    """Start everything, and end it with the block.

    Args:
        tasks: Folder of the task folders.
        outputs: Where results and models go.
        ports: Where pages are wanted.
        say: Tells a person something.

    Yields:
        What runs.

    Raises:
        FactoryError: There is no folder of tasks, something does not start, or runs for these outputs already.
        ArtifactError: Nothing can be written into the outputs.
    """
    _look_for_tasks(tasks, say)
    check_room(outputs)
    home = Path(os.environ.get("PREFECT_HOME") or outputs / HOME).resolve()
    check_room(home)
    with ExitStack() as stack:
        lock = stack.enter_context(_only_one(outputs))
        found = {
            what: _free_port(what, wanted, say)
            for what, wanted in (("Prefect", ports.prefect), ("MLflow", ports.mlflow), ("the reports", ports.reports))
        }
        listening = found["Prefect"]
        port = {what: one.getsockname()[1] for what, one in found.items()}
        for what in ("MLflow", "the reports"):
            found[what].close()
        tracking = os.environ.get(TRACKING_URI, "")
        addresses = Addresses(
            f"http://{HOST}:{port['Prefect']}",
            shown(tracking) if tracking.startswith("http") else f"http://{HOST}:{port['MLflow']}",
            stack.enter_context(reports_served(outputs, port["the reports"])),
        )
        lock.write(addresses.prefect)
        lock.flush()
        children: list[Child] = []
        stack.callback(_end_all, children)
        log = tempfile.TemporaryFile()
        with listening:
            children.append(Child("Prefect's server", start_server(listening, home, log, pages=True), log))
        if not tracking.startswith("http"):
            children.append(_started("MLflow", ["flows.registry_pages", str(port["MLflow"]), str(outputs)], {}))
        worker = {
            "PREFECT_API_URL": f"{addresses.prefect}/api",
            "PREFECT_HOME": str(home),
            "PREFECT_LOGGING_LEVEL": "INFO",  # the log of a run is shown on its page
            TASKS_ENV: str(tasks.resolve()),
            OUTPUTS_ENV: str(outputs.resolve()),
            REPORTS_ENV: addresses.reports,
        }
        children.append(_started("the worker", ["flows.worker"], worker))
        running = Pages(addresses, tuple(children))
        running.wait_until_ready()
        yield running


@dataclass(frozen=True)
class Pages:
    """What runs."""

    addresses: Addresses
    children: tuple[Child, ...]

    def wait_until_ready(self) -> None:
        """Return once runs can be started; MLflow, which nobody needs for that, may take some seconds more."""
        import httpx

        url = f"{self.addresses.prefect}/api/ready"
        worker_said = self.children[-1].process.stdout
        answers = is_serving = False
        deadline = time.monotonic() + START_S
        if worker_said is not None:
            os.set_blocking(worker_said.fileno(), False)
        while not (answers and is_serving):
            self.check()
            if time.monotonic() > deadline:
                slow = "the worker" if answers else "Prefect's server"
                raise FactoryError(
                    f"{slow} is not ready after {START_S:.0f} s", hint="see what keeps this machine busy"
                )
            try:
                answers = answers or httpx.get(url, timeout=5, trust_env=False).is_success
            except httpx.HTTPError:
                pass  # it is asked again
            is_serving = is_serving or b"ready" in (worker_said.read() or b"" if worker_said is not None else b"")
            time.sleep(0.1)

    def check(self) -> None:
        """Raise an error when one of them has ended."""
        for child in self.children:
            child.check()

    def wait(self) -> None:
        """Wait for ever; an error when one of them ends."""
        while True:
            self.check()
            time.sleep(1)


def _end_all(children: Sequence[Child]) -> None:
    """End the last one first: the worker, which says of its runs that they are cancelled."""
    for child in reversed(children):
        child.end()


def _started(name: str, module: Sequence[str], environment: Mapping[str, str]) -> Child:
    log = tempfile.TemporaryFile()
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        stdin=subprocess.PIPE,  # never written to: the child ends when it closes
        stdout=subprocess.PIPE if name == "the worker" else log,
        stderr=log,
        env={**os.environ, **environment},
        start_new_session=True,  # Ctrl-C is for us; we end the child
    )
    return Child(name, process, log)


def _free_port(what: str, wanted: int, say: Say) -> socket.socket:
    """Return a socket that listens on the port that is wanted, or on the next that is free, which is said."""
    last: OSError | None = None
    for port in range(wanted, wanted + PORTS_TRIED if wanted else 1):
        try:
            found = socket.create_server((HOST, port))
        except (OSError, OverflowError) as error:
            last = error if isinstance(error, OSError) else None
            continue
        if wanted and port != wanted:
            say(f"port {wanted} is taken: {what} is on {port} instead")
        return found
    raise FactoryError(f"no port for {what} between {wanted} and {wanted + PORTS_TRIED - 1}: {last or 'out of range'}")


def _look_for_tasks(tasks: Path, say: Say) -> None:
    """Refuse a folder that is not there; an empty one may be filled while the pages are open."""
    if not tasks.is_dir():
        came = "a file" if tasks.exists() else "nothing"
        raise FactoryError(
            f"{tasks}: expected a folder that holds the task folders, got {came}",
            hint="name it with --tasks, or make a first task there: factory init --help",
        )
    if not any(tasks.glob(f"*/{SPEC_FILE}")):
        say(f"warning: no task folder (DIR/{SPEC_FILE}) in {tasks}: nothing can be built before one is there")


@contextmanager
def _only_one(outputs: Path) -> Iterator[IO[str]]:
    """Keep a second `factory ui` away: it would take the runs of the first for left over."""
    with (outputs / ".ui.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            where = file.read().strip() or "somewhere"
            raise FactoryError(f"factory ui runs already for these outputs: {where}") from error
        file.truncate(0)
        yield file
