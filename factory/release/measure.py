"""How fast and how large the exported folder is, here and now.

The one stage whose files hold measured time: they differ from run to run and from machine to machine, so the machine
is part of the fingerprint, and what depends on them is made anew when they are.
"""

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from factory.errors import FactoryError
from factory.evaluation.cost import WATTS_PER_THREAD
from factory.evaluation.result import JsonResult, Number
from factory.events import Progressed, emit
from factory.records import Rows
from factory.release.answer import asked_of, is_table
from factory.release.energy import joules_between, read_joules
from factory.release.export import Exported
from factory.release.predict import Predictor
from factory.spec import Model
from factory.store import Stage

N_WARM_UP = 20
BATCH_SECONDS = 1.0
"""Batches are asked at least this long, so that a fast student is not measured on a single one."""


class MeasureParams(Model):
    """How long to measure."""

    n_calls: Annotated[int, Field(ge=1)] = 300
    """Texts asked one by one."""
    n_batch: Annotated[int, Field(ge=1)] = 1000
    """Texts asked at once."""


class Speed(JsonResult):
    """Seconds and megabytes of one exported folder on one machine."""

    file: ClassVar[str] = "speed.json"

    p50_ms: Number
    """Median of one text asked alone, from the text to the probabilities."""
    p95_ms: Number
    p99_ms: Number
    texts_per_s: Number
    """Texts asked in batches."""
    size_mb: Number
    """Bytes on disk of all that is needed to predict, in millions; card and report come on top."""
    memory_mb: Number
    """Most memory of a process that runs `predict.py` on one text, in millions of bytes."""
    joules_per_thousand: Number
    """Energy of a thousand answers in batches."""
    energy: Literal["measured", "estimated"]
    """By the processor's own meter, or seconds times assumed watts where it cannot be read."""
    n_calls: int
    n_batch: int
    threads: int
    """Processors this process may use; onnxruntime takes no more."""
    machine: str
    unit: Literal["text", "row"] = "text"
    """What was asked, and what the figures that speak of texts are of."""

    @property
    def summary(self) -> str:
        """One line for a person."""
        return (
            f"{self.p50_ms:.2f} ms a {self.unit} (95% within {self.p95_ms:.2f}), "
            f"{self.texts_per_s:,.0f} {self.unit}s/s, {self.size_mb:.1f} MB"
        )


@dataclass(frozen=True)
class Machine:
    """The computer this runs on: a resource, because results depend on it."""

    @cached_property
    def identity(self) -> str:
        """Processor and how many of them this process may use."""
        return f"{_processor()}, {_n_threads()} threads"


def measure(params: MeasureParams, *, exported: Exported, rows: Rows, machine: Machine) -> Speed:
    """Ask the exported folder in this process, one text at a time and in batches.

    Args:
        params: How long.
        exported: What to ask.
        rows: Texts to ask with, repeated when there are too few.
        machine: Where this runs.

    Returns:
        Quantiles of single answers, throughput, size, memory, energy.

    Raises:
        FactoryError: There is no text to ask with, or the folder's own program fails.
    """
    n_asked = max(params.n_calls, params.n_batch)
    texts = asked_of(rows.kept.select(range(min(len(rows.kept), n_asked))))
    if not texts:
        raise FactoryError("measure: expected texts to ask with, got none", hint="give it the validation rows")
    texts = [texts[position % len(texts)] for position in range(n_asked)]
    unit: Literal["text", "row"] = "row" if is_table(rows.kept) else "text"
    emit(Progressed(MEASURE.name, 0, params.n_calls, f"{unit}s", "one at a time"))
    with exported.on_disk() as folder:
        predictor = Predictor(folder)
        for text in texts[:N_WARM_UP]:
            predictor.predict_proba([text])
        single_s = [_seconds(predictor, [text]) for text in texts[: params.n_calls]]
        emit(Progressed(MEASURE.name, params.n_calls, params.n_calls, f"{unit}s", "in batches"))
        batch = texts[: params.n_batch]
        batches_s: list[float] = []
        metered = read_joules()
        while sum(batches_s) < BATCH_SECONDS:
            batches_s.append(_seconds(predictor, batch))
        joules = joules_between(metered, read_joules())
        memory_mb = _memory_mb(folder, texts[0])
    assumed = sum(batches_s) * _n_threads() * WATTS_PER_THREAD
    return Speed(
        p50_ms=float(np.quantile(single_s, 0.5)) * 1e3,
        p95_ms=float(np.quantile(single_s, 0.95)) * 1e3,
        p99_ms=float(np.quantile(single_s, 0.99)) * 1e3,
        memory_mb=memory_mb,
        joules_per_thousand=1000 * (assumed if joules is None else joules) / (len(batch) * len(batches_s)),
        energy="estimated" if joules is None else "measured",
        texts_per_s=len(batch) / float(np.median(batches_s)),
        size_mb=exported.size_mb,
        n_calls=params.n_calls,
        n_batch=params.n_batch,
        threads=_n_threads(),
        machine=machine.identity,
        unit=unit,
    )


MEASURE = Stage("measure", 4, MeasureParams, measure, Speed)


def _seconds(predictor: Predictor, texts: list[Any]) -> float:
    started = time.perf_counter()
    predictor.predict_proba(texts)
    return time.perf_counter() - started


_ASK_AND_TELL = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def _memory_mb(folder: Path, asked_row: Any) -> float:
    """Run the folder's own program and ask the system what it took at most."""
    # A text of its own file: one that begins with a dash would be an option.
    asked = folder / "asked.jsonl"
    asked.write_text(
        json.dumps(asked_row if isinstance(asked_row, dict) else {"text": asked_row}) + "\n", encoding="utf-8"
    )
    # By way of a small process: Linux counts the peak of whoever started a program as the program's own.
    command = [sys.executable, str(folder / "predict.py"), "--in", str(asked)]
    done = subprocess.run([sys.executable, "-c", _ASK_AND_TELL, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise FactoryError(f"measure: predict.py did not answer: {last}", hint=f"run {' '.join(command)}")
    return float(done.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e6


def _n_threads() -> int:
    # Not `os.cpu_count`: a container is often allowed fewer.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """Return the processor's own name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
