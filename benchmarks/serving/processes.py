"""Servers as processes of their own: start, wait, look at their memory, stop."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen


@contextmanager
def running(command: list[str], port: int, path: str, environment: dict[str, str] | None = None) -> Iterator[int]:
    """Run a server until the block ends; wait until it answers."""
    process = subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}{path}").close()
                break
            except (URLError, OSError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{' '.join(command[1:6])}: did not start") from None
                time.sleep(0.2)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, 15)  # of the session that was made above: MLflow starts children of its own
        process.wait(60)


def memory(pid: int) -> dict[str, int]:
    """Return VmRSS and VmHWM of a process, kB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {
        key: int(rest.split()[0])
        for key, _, rest in (line.partition(":") for line in lines)
        if key in ("VmRSS", "VmHWM")
    }


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def say(what: str) -> None:
    """Tell a person what is going on."""
    print(f"== {what}", file=sys.stderr, flush=True)
