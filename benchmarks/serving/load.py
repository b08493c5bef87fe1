"""A load generator in a process of its own: clients in a closed loop over raw connections, a fifth of aiohttp's cost.

python -m benchmarks.serving.load PORT PATH --bodies FILE --clients 32 --requests 10000      prints one JSON object

It shares the cores with the server it asks, as everything on a small machine does.
"""

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import uvloop

N_WARM_UP = 50


@dataclass
class Load:
    """What the clients saw."""

    n_requests: int
    n_failed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    statuses: dict[str, int] = field(default_factory=dict)


class Client:
    """One connection that is opened again whenever the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> str:
        """Send a request and return its status; `lost` when the connection broke."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            lower = head.lower()
            await reader.readexactly(int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0]))
            if b"connection: close" in lower:
                self.close()
            return head[9:12].decode()
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.close()
            return "lost"

    def close(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def ask_all(port: int, requests: list[bytes], *, clients: int, n: int) -> Load:
    """Ask `n` times from some clients, each as soon as its last answer has come."""
    ms: list[float] = []
    statuses: dict[str, int] = {}
    left = iter(range(n))

    async def run(client: Client) -> None:
        for number in left:
            started = time.perf_counter()
            status = await client.ask(requests[number % len(requests)])
            ms.append(1000 * (time.perf_counter() - started))
            statuses[status] = statuses.get(status, 0) + 1
        client.close()

    started = time.perf_counter()
    await asyncio.gather(*(run(Client(port)) for _ in range(clients)))
    p50, p99 = np.percentile(ms, [50, 99])
    return Load(n, n - statuses.get("200", 0), time.perf_counter() - started, float(p50), float(p99), statuses)


def encode(path: str, body: bytes) -> bytes:
    """Write one request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def main() -> None:
    """Ask, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--bodies", type=Path, required=True, help="a body a line")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--requests", type=int, default=1000)
    options = parser.parse_args()
    requests = [encode(options.path, body) for body in options.bodies.read_bytes().splitlines()]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask_all(options.port, requests, clients=options.clients, n=N_WARM_UP))
        found = runner.run(ask_all(options.port, requests, clients=options.clients, n=options.requests))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
