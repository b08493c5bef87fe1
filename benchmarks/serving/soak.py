"""Many requests while the champion moves: none may fail, and memory must stay flat."""

import json
import threading
import time
from urllib.request import urlopen

from benchmarks.serving.bench import STATIC, Bench, Line, texts_body
from benchmarks.serving.processes import memory, say
from factory.release.registry import Registry

N_SWITCHES = 20
GROWTH = 0.1
"""Flat: no more than this share above what the server had after its first thousand requests and switches."""


def soak(bench: Bench) -> list[Line]:
    """Ask in rounds of a twentieth; in each the champion moves, and the round lasts until the server has followed."""
    say(f"soak, {bench.soak_requests:,} requests")
    registry, started = Registry(bench.outputs), time.monotonic()
    with bench.factory(STATIC) as (port, pid):
        bodies = bench.bodies(texts_body, 1)
        n_asked = n_failed = 0
        kb = []
        for number in range(N_SWITCHES + 2):
            switch = threading.Thread(target=_switch, args=(registry, port, 1 + (number + 1) % 2))
            switch.start()
            n_left = bench.soak_requests // N_SWITCHES
            while n_left > 0 or switch.is_alive():
                n_now = max(min(n_left, 20_000), 1000)
                run = bench.load(port, "/v1/predict", bodies, clients=32, requests=n_now)
                n_asked, n_failed, n_left = n_asked + n_now, n_failed + run["n_failed"], n_left - n_now
            switch.join()
            kb.append(memory(pid)["VmRSS"])
        _, version = _version(port)
    # What the libraries set aside once is no leak: two versions have been open by the third round.
    before, most, last = kb[1], max(kb[2:]), kb[-1]
    took = f"{n_asked:,} requests, {N_SWITCHES + 2} switches, {time.monotonic() - started:.0f} s"
    said = f"{before / 1e3:.0f}, {most / 1e3:.0f}, {last / 1e3:.0f} MB"
    return [
        Line("failed requests", f"factory serve, static: {took}", str(n_failed), "0", n_failed == 0 and version > 0),
        Line("memory after two switches, most, last", "factory serve", said, "flat", last <= (1 + GROWTH) * before),
    ]


def _switch(registry: Registry, port: int, version: int) -> None:
    """Move the champion, and wait until the server has followed."""
    registry.promote(STATIC, str(version), force=True)
    deadline = time.monotonic() + 120
    while _version(port)[1] != version:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the server did not follow to version {version}: {_version(port)[0]}")
        time.sleep(0.2)


def _version(port: int) -> tuple[str | None, int]:
    with urlopen(f"http://127.0.0.1:{port}/readyz") as reply:
        said = json.load(reply)
    return said["problem"], said["version"]
