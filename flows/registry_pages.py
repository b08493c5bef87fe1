"""The child process of `factory ui` with MLflow's pages, until its parent goes away.

    python -m flows.registry_pages PORT OUTPUTS

MLflow starts processes of its own; all are in one session with this one, and end with it.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from factory.release.mlflow_client import SETTINGS
from factory.release.registry import Registry
from factory.teacher.llama_server import wait_for_end_of_parent

GRACE_S = 3.0


def _end_all() -> None:
    wait_for_end_of_parent()
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


def _hear(*_: object) -> None:
    """Do nothing at a SIGTERM; to ignore the signal would be inherited by MLflow."""


def _main() -> int:
    signal.signal(signal.SIGTERM, _hear)
    threading.Thread(target=_end_all, daemon=True).start()
    outputs = Path(sys.argv[2]).resolve()
    registry = Registry(outputs)
    registry.make_database()  # under our lock: two that make its tables at once would spoil it
    environment = {**SETTINGS, **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    where = ["--backend-store-uri", registry.uri, "--host", "127.0.0.1", "--port", sys.argv[1], "--workers", "1"]
    where += ["--artifacts-destination", str(outputs / "mlruns")]  # else in the current folder
    server = subprocess.Popen([sys.executable, "-m", "mlflow", "server", *where], env=environment)
    return server.wait()


if __name__ == "__main__":
    sys.exit(_main())
