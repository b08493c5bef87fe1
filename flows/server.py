"""Prefect's server for one build, where the user has set none.

Prefect would start one itself, but in our process group, where Ctrl-C ends it first; it would outlive a killed build,
and keep its database in the user's home. Ours keeps it beside the results: to make a new one takes five seconds.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from factory.errors import FactoryError
from factory.teacher.llama_server import wait_for_end_of_parent

HOME = ".prefect"
"""Folder of the database, below the outputs; where PREFECT_HOME is set, that counts."""
DRAIN_S = 10.0
"""How long Prefect may take to send the events that are left when a build ends."""


@contextmanager
def prefect_server(outputs: Path) -> Iterator[None]:
    """Give Prefect a server of our own while the block runs, unless the user has set PREFECT_API_URL.

    Args:
        outputs: Where results and models go.

    Yields:
        Nothing; the server may still be starting, and Prefect's first request waits for it.

    Raises:
        FactoryError: The server does not answer, or answers with an error.
    """
    import httpx
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_URL, temporary_settings

    url = PREFECT_API_URL.value()
    if url:
        with _errors_in_one_line(url, httpx.HTTPError):
            yield
        return
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        child = subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(listening.fileno()), str((outputs / HOME).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listening.fileno()],
            start_new_session=True,  # Ctrl-C goes to a whole process group
        )
    try:
        with temporary_settings({PREFECT_API_URL: url}), _errors_in_one_line(url, httpx.HTTPError):
            yield
    finally:
        # Now, while somebody takes them: at exit each event would wait some seconds for a server that is gone.
        EventsWorker.drain_all(timeout=DRAIN_S, at_exit=False)
        child.communicate()  # closes its standard input, which ends it


@contextmanager
def _errors_in_one_line(url: str, kind: type[Exception]) -> Iterator[None]:
    """The teachers' errors are ours by now, so one of this kind comes from Prefect's client."""
    try:
        yield
    except FactoryError:
        raise
    except Exception as error:
        if not isinstance(error, kind) and "Failed to reach API" not in str(error):
            raise
        first_line = str(error).partition("\n")[0]
        raise FactoryError(
            f"Prefect's server at {url} does not work: {first_line or type(error).__name__}",
            hint="this is not the teacher; nothing paid for is lost: run the same command again",
        ) from error


def serve(listening: socket.socket, home: Path) -> None:
    """Answer until the process ends."""
    import uvicorn
    from prefect.server.api.server import create_app

    server = uvicorn.Server(uvicorn.Config(create_app, factory=True, log_level="critical"))
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two servers must not make one database at once
        answering = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        answering.start()
        while answering.is_alive() and not server.started:
            time.sleep(0.05)


def _main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the build hears it too, reports to us, and then ends us
    home = Path(os.environ.setdefault("PREFECT_HOME", sys.argv[2]))
    home.mkdir(parents=True, exist_ok=True)
    os.environ |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    threading.Thread(target=serve, args=[socket.socket(fileno=int(sys.argv[1])), home], daemon=True).start()
    wait_for_end_of_parent()
    os._exit(0)


if __name__ == "__main__":
    _main()
