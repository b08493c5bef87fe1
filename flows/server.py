"""Prefect's server for one build, where the user has set none; and the one of `factory ui`, which also has the pages.

Prefect would start one itself, but in our process group, where Ctrl-C ends it first; it would outlive a killed build,
and keep its database in the user's home. Ours keeps it beside the results: to make a new one takes five seconds.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from factory.errors import FactoryError
from factory.teacher.llama_server import wait_for_end_of_parent
from flows.room import check_room

HOME = ".prefect"
"""Folder of the database, below the outputs; where PREFECT_HOME is set, that counts."""
START_S = 300.0
"""How long the server may take to start; five seconds are usual."""
DRAIN_S = 10.0
"""How long Prefect may take to send the events that are left when a build ends."""


class _NotStarted(Exception):
    """Our server did not start."""


@contextmanager
def prefect_server(outputs: Path) -> Iterator[Callable[[], None]]:
    """Give Prefect a server of our own while the block runs, unless the user has set PREFECT_API_URL.

    Args:
        outputs: Where results and models go.

    Yields:
        A function that waits until the server answers: it starts while other things are done.

    Raises:
        FactoryError: The server does not answer, or answers with an error.
        ArtifactError: Nothing can be written into the outputs, or their disk is full.
    """
    check_room(outputs)
    import httpx
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_URL, temporary_settings

    url = PREFECT_API_URL.value()
    if url:
        with _errors_in_one_line(url, httpx.HTTPError, outputs):
            yield lambda: None
        return
    home = Path(os.environ.get("PREFECT_HOME") or outputs / HOME).resolve()
    check_room(home)
    log = tempfile.TemporaryFile()  # unnamed: nothing to sweep up after a crash
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        child = start_server(listening, home, log)
    try:
        with temporary_settings({PREFECT_API_URL: url}), _errors_in_one_line(url, httpx.HTTPError, home):
            yield lambda: _wait(url, child, log)
    finally:
        # Now, while somebody takes them: at exit each event would wait some seconds for a server that is gone.
        EventsWorker.drain_all(timeout=DRAIN_S, at_exit=False)
        child.communicate()  # closes its standard input, which ends it
        log.close()


def start_server(
    listening: socket.socket, home: Path, log: IO[bytes], *, pages: bool = False
) -> subprocess.Popen[bytes]:
    """Start a server as a child process that ends when its standard input closes.

    Args:
        listening: Bound to a loopback port; may be closed afterwards.
        home: Folder of its database.
        log: Where its messages go.
        pages: Also serve Prefect's pages, and start runs that are due.

    Returns:
        The child; it answers some seconds later.
    """
    mode = ["pages"] if pages else []
    return subprocess.Popen(
        [sys.executable, "-m", "flows.server", str(listening.fileno()), str(home), *mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=log,
        pass_fds=[listening.fileno()],
        start_new_session=True,  # Ctrl-C goes to a whole process group
    )


def _wait(url: str, child: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    """Return once the server answers; say why when it ends, or takes too long."""
    import httpx

    deadline = time.monotonic() + START_S
    why = f"it did not start within {START_S:.0f} s"
    while time.monotonic() < deadline:
        if child.poll() is not None:
            log.seek(0)
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
            why = f"it ended while it started{f': {lines[-1][:200]}' if lines else ''}"
            break
        try:
            if httpx.get(f"{url}/ready", timeout=5, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass  # it is asked again
        time.sleep(0.1)
    raise _NotStarted(why)


@contextmanager
def _errors_in_one_line(url: str, kind: type[Exception], home: Path) -> Iterator[None]:
    """The teachers' errors are ours by now, so one of this kind comes from Prefect's client."""
    try:
        yield
    except FactoryError:
        raise
    except Exception as error:
        if not isinstance(error, kind | _NotStarted) and "Failed to reach API" not in str(error):
            raise
        check_room(home)  # a full disk shows first where most is written
        first_line = str(error).partition("\n")[0]
        again = "this is not the teacher; nothing paid for is lost: run the same command again"
        raise FactoryError(
            f"Prefect's server at {url} does not work: {first_line or type(error).__name__}",
            hint=f"{again}, if need be without {home}" if isinstance(error, _NotStarted) else again,
        ) from error


def serve(listening: socket.socket, home: Path) -> None:
    """Answer until the process ends; return when that failed."""
    import uvicorn
    from prefect.server.api.server import create_app

    from flows.guard import Guard

    app = Guard(create_app(), listening.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two servers must not make one database at once
        answering = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        answering.start()
        while answering.is_alive() and not server.started:
            time.sleep(0.05)
    answering.join()


def _serve_or_end(listening: socket.socket, home: Path) -> None:
    try:
        serve(listening, home)
    except Exception:
        traceback.print_exc()
    os._exit(1)


def _main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the build hears it too, reports to us, and then ends us
    home = Path(os.environ.setdefault("PREFECT_HOME", sys.argv[2]))
    listening = socket.socket(fileno=int(sys.argv[1]))
    os.environ["PREFECT__SERVER_FINAL"] = "1"
    if sys.argv[3:] == ["pages"]:
        port = listening.getsockname()[1]
        os.environ |= {
            "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
            # Prefect copies its pages somewhere to write this address into them: not among installed packages.
            "PREFECT_UI_STATIC_DIRECTORY": str(home / "pages"),
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            # No other page may read an answer; flows/guard.py lets none ask.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port},http://localhost:{port}",
        }
    else:
        os.environ |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    threading.Thread(target=_serve_or_end, args=[listening, home], daemon=True).start()
    wait_for_end_of_parent()
    os._exit(0)


if __name__ == "__main__":
    _main()
