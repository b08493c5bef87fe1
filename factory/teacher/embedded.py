"""`embedded`: the default teacher. llama.cpp in a child process on a loopback port; no account, no network."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from factory.errors import TeacherError, TeacherUnavailable
from factory.events import Progressed, emit
from factory.spec import TeacherSpec
from factory.teacher.budget import Spending
from factory.teacher.chat import Address, ChatConnection
from factory.teacher.endpoint import Retryable
from factory.teacher.engine import Engine, EngineTeacher
from factory.teacher.limits import Limits
from factory.teacher.llama_server import KEY_ENV
from factory.teacher.protocol import Request
from factory.teacher.replies import Replies
from factory.teacher.weights import find_weights, sha256_of
from factory.teacher.wire import encode

START_S = 300.0
"""How long llama.cpp may take to load; a cold disk needs most of it."""
TIMEOUT_S = 900.0
"""For one call, unless the spec says otherwise: all slots share the cores, so a long text may take minutes. llama.cpp
notices within a second that nobody waits for a call any more, and stops it."""
MOST_SLOTS = 16
"""Each slot needs memory for its context, and beyond this many the cores only wait for each other."""
LOG_LINES = 8

Command = Callable[[Path, int], Sequence[str]]
"""Weights and number of slots -> the command line of the child."""


def llama_command(weights: Path, n_slots: int) -> Sequence[str]:
    """Return the command that serves a GGUF file with llama.cpp."""
    settings = json.dumps({"n_slots": n_slots})
    return [sys.executable, "-m", "factory.teacher.llama_server", str(weights), settings]


class EmbeddedTeacher(EngineTeacher):
    """llama.cpp, started when the first reply is asked for that the cache does not hold, ended by `close`."""

    def __init__(
        self,
        spec: TeacherSpec,
        *,
        folder: Path | None = None,
        replies: Replies | None = None,
        command: Command = llama_command,
    ) -> None:
        named = None if spec.model is None else (folder or Path()) / spec.model
        limits = Limits(
            concurrency=min(spec.n_in_flight, MOST_SLOTS),
            requests_per_minute=spec.requests_per_minute,
            tokens_per_minute=spec.tokens_per_minute,
            timeout_s=spec.timeout_s or TIMEOUT_S,
            deadline_s=spec.deadline_s,
            max_attempts=3,
            first_call_alone=False,  # no key and no name that could be wrong
        )
        self._endpoint = _EmbeddedEndpoint(named, limits, command)
        spending = Spending(spec.budget, spec.known_prices)
        super().__init__(Engine(self._endpoint, replies=replies, spending=spending, limits=limits))

    def close(self) -> None:
        """End llama.cpp and close the reply cache."""
        self._endpoint.close()
        super().close()


class _EmbeddedEndpoint:
    def __init__(self, named: Path | None, limits: Limits, command: Command) -> None:
        self._named = named
        self._limits = limits
        self._command = command
        self._child: _Child | None = None

    @cached_property
    def identity(self) -> str:
        return f"embedded:{sha256_of(self._named)}"

    def encode(self, request: Request) -> dict[str, Any]:
        return encode(request, model="embedded")

    async def connect(self) -> "_EmbeddedConnection":
        if self._child is None or not self._child.is_running:
            self.close()
            weights = await asyncio.to_thread(find_weights, self._named)
            self._child = _Child.start(self._command(weights, self._limits.concurrency))
        try:
            base_url = await self._child.address()
        except BaseException:
            self.close()
            raise
        return _EmbeddedConnection(self._child, base_url, self._limits)

    def close(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


class _EmbeddedConnection:
    """A chat connection that knows whether its server still lives."""

    def __init__(self, child: "_Child", base_url: str, limits: Limits) -> None:
        self._child = child
        self._chat = ChatConnection(
            Address(
                base_url=f"{base_url}/v1",
                api_key=child.api_key,
                key_env=KEY_ENV,
                model="embedded",
                timeout_s=limits.timeout_s,
                concurrency=limits.concurrency,
            )
        )

    async def send(self, request: Request, payload: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._chat.send(request, payload)
        except Retryable as error:
            if self._child.is_running:
                raise
            hint = "run the same command again; if it was killed, the machine may be short of memory: 2.5 GB are needed"
            raise TeacherUnavailable(self._child.obituary(), hint=hint) from error

    async def aclose(self) -> None:
        await self._chat.aclose()


@dataclass
class _Child:
    """The server process, its key and its log."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]
    api_key: str
    base_url: str = ""

    @classmethod
    def start(cls, command: Sequence[str]) -> "_Child":
        api_key = secrets.token_urlsafe(24)
        log = tempfile.TemporaryFile()  # unnamed: nothing to sweep up after a crash
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # never written to: the child ends when it closes
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, KEY_ENV: api_key},
            start_new_session=True,  # Ctrl-C is for us; we end the child
        )
        child = cls(process, log, api_key)
        weakref.finalize(child, _end, process, log)  # also at interpreter exit, when nobody called `close`
        return child

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    async def address(self) -> str:
        """Wait until the child says where it listens; a child that ends or takes too long is a `TeacherError`."""
        if self.base_url:
            return self.base_url
        stdout = self.process.stdout
        if stdout is None:
            raise TeacherError("llama.cpp was started without an output")
        os.set_blocking(stdout.fileno(), False)
        started = time.monotonic()
        said = b""
        while not said.endswith(b"\n"):
            seconds = time.monotonic() - started
            if not self.is_running or seconds > START_S:
                hint = "check that the GGUF file is whole, and that 2.5 GB of memory are free"
                why = self.obituary() if not self.is_running else f"llama.cpp did not start within {START_S:.0f} s"
                raise TeacherError(why, hint=hint)
            said += stdout.read() or b""
            emit(Progressed("teacher", done=int(seconds), total=0, unit="s", note="starting llama.cpp"))
            await asyncio.sleep(0.2)
        self.base_url = said.decode().strip()
        return self.base_url

    def obituary(self) -> str:
        """Say how the child ended, with the last lines of its log."""
        self.log.seek(0)
        lines = self.log.read().decode("utf-8", "replace").strip().splitlines()[-LOG_LINES:]
        return "\n".join([f"llama.cpp ended with exit code {self.process.returncode}", *lines])

    def end(self) -> None:
        _end(self.process, self.log)


def _end(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """End the child at once; it has nothing to save."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, log):
        if stream is not None:
            stream.close()
