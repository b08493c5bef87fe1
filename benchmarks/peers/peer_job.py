"""What the scripts of this folder share: their command line, what they measure and how they report.

It runs in every peer's environment, so it needs nothing but the standard library.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MAX_TOKENS = 64
"""Of an answer."""
ANSWERS_FILE = "answers.json"
UNIT = 1 if os.uname().sysname == "Darwin" else 1024
"""Bytes in which the system tells the peak of memory."""


@dataclass(frozen=True)
class Job:
    """What a contender is asked to do: `calls` texts from a server, with whatever it keeps in `folder`."""

    url: str
    """Of the server, without `/v1`."""
    calls: int
    """Requests with the ids 1 to `calls`."""
    in_flight: int
    folder: Path
    """The same folder again means: the same job again, or more of it."""
    system: str = "You write movie reviews."
    model: str = "gpt-4o-mini"
    """A name that price lists know: some peers want to look it up."""
    fields: str = ""
    """Text fields of the JSON object to ask for, with commas; empty for plain text."""

    def arguments(self) -> list[str]:
        """Return the command line that says all this."""
        return [f"--{name.replace('_', '-')}={value}" for name, value in asdict(self).items()]

    @classmethod
    def from_command_line(cls) -> "Job":
        """Read what `arguments` wrote."""
        parser = argparse.ArgumentParser(description=cls.__doc__)
        parser.add_argument("--url", required=True)
        parser.add_argument("--calls", type=int, required=True)
        parser.add_argument("--in-flight", type=int, required=True)
        parser.add_argument("--folder", type=Path, required=True)
        parser.add_argument("--system", default=cls.system)
        parser.add_argument("--model", default=cls.model)
        parser.add_argument("--fields", default=cls.fields)
        return cls(**vars(parser.parse_args()))

    @property
    def base_url(self) -> str:
        """What clients call the base URL."""
        return f"{self.url}/v1"

    @property
    def ids(self) -> range:
        """Every row's number."""
        return range(1, self.calls + 1)

    @property
    def schema(self) -> dict[str, Any] | None:
        """JSON schema of the answer, or None for plain text."""
        if not self.fields:
            return None
        names = self.fields.split(",")
        properties = {name: {"type": "string"} for name in names}
        return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def prompt_of(number: int) -> str:
    """Return the text a row asks with."""
    return f"Write one short movie review, about the plot and the acting. id={number}"


def measure(play: Callable[[Job], Mapping[int, str]]) -> None:
    """Do the job of the command line, and print one JSON line about it.

    Args:
        play: Does the job and returns the answers it has, by id. Imports belong before it: only what happens inside is
            timed.
    """
    job = Job.from_command_line()
    job.folder.mkdir(parents=True, exist_ok=True)
    # Libraries print what they like, from processes of their own too; only the report goes to standard output.
    out = os.dup(1)
    os.dup2(2, 1)
    start_mb, start_cpu_s = _memory_mb("VmRSS"), _cpu_s()
    started = time.perf_counter()
    answers = play(job)
    wall_s = time.perf_counter() - started
    figures = {
        "wall_s": round(wall_s, 3),
        "cpu_s": round(_cpu_s(), 3),
        "run_cpu_s": round(_cpu_s() - start_cpu_s, 3),
        "start_mb": round(start_mb, 1),
        "peak_mb": round(_memory_mb("VmHWM"), 1),
        "peak_child_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * UNIT / 1e6, 1),
        "rows": len(answers),
        "wrong_rows": sum(f"id={number} " not in answer for number, answer in answers.items()),
    }
    (job.folder / ANSWERS_FILE).write_text(json.dumps(answers), encoding="utf-8")
    os.write(out, json.dumps(figures).encode() + b"\n")


def _cpu_s() -> float:
    """Return the processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _memory_mb(name: str) -> float:
    """Return what this process has now (`VmRSS`) or had at most (`VmHWM`)."""
    # Not `ru_maxrss` where it can be helped: a child inherits the peak of the process that started it.
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 1e6
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:"))
