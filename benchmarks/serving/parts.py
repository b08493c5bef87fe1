"""The measurements, each a function from a `Bench` to lines of a table."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.bench import MINILM, REPEATS, STATIC, STUDENTS, Bench, Line, texts_body
from benchmarks.serving.hostile import hostile_texts
from benchmarks.serving.models import float32
from benchmarks.serving.processes import free_port, memory, running, say
from benchmarks.serving.rivals import sentence_sklearn, setfit
from benchmarks.serving.soak import soak
from factory.records import Origin, TextRow, text_dataset
from factory.release.predict import Predictor
from factory.release.registry import Registry


def mlflow_body(texts: Sequence[str]) -> object:
    """Of MLflow's /invocations."""
    return {"dataframe_split": {"columns": ["text"], "data": [[text] for text in texts]}}


def plain_body(texts: Sequence[str]) -> object:
    """Of the plain FastAPI pattern: one text."""
    return {"text": texts[0]}


def throughput(bench: Bench) -> list[Line]:
    """Texts a second in this process, no HTTP: the same texts, the same cores."""
    say("throughput")
    body, head, with_sklearn = sentence_sklearn(bench.data)
    predictor = Predictor(bench.folder(MINILM))
    contenders: dict[str, Callable[[Sequence[str]], list[str]]] = {
        "factory, int8 MiniLM artifact": lambda texts: [answer["label"] for answer in predictor.predict(texts)],
        "SetFit, PyTorch": setfit(body, head),
        "sentence-transformers + scikit-learn": with_sklearn,
    }
    gold = [str(row.label) for row in bench.data.test]
    found = {}
    for name, predict in contenders.items():
        predict(bench.data.texts[:64])
        seconds, labels = [], []
        for _ in range(REPEATS):
            started = time.perf_counter()
            labels = predict(bench.data.texts)
            seconds.append(time.perf_counter() - started)
        accuracy = float(np.mean([a == b for a, b in zip(labels, gold, strict=True)]))
        found[name] = (len(gold) / float(np.median(seconds)), accuracy)
    ours, theirs = found["factory, int8 MiniLM artifact"], found["SetFit, PyTorch"]
    lines = [Line("texts/s, short texts", who, f"{speed:,.0f}") for who, (speed, _) in found.items()]
    lines += [Line("accuracy, %", who, f"{100 * accuracy:.1f}") for who, (_, accuracy) in found.items()]
    ratio, fall = ours[0] / theirs[0], 100 * (theirs[1] - ours[1])
    lines.append(Line("throughput against SetFit", "factory", f"{ratio:.2f} times", "3 times", ratio >= 3))
    lines.append(Line("accuracy lost against SetFit", "factory", f"{fall:.1f} points", "0.5 points", fall <= 0.5))
    return lines


def http(bench: Bench) -> list[Line]:
    """One text a request: one client, then 32, ours and the rivals' servers."""
    say("http")
    lines = []
    with bench.factory(MINILM) as (port, pid):
        single, many = _single_and_many(bench, port, "/v1/predict", texts_body, "factory serve, int8 MiniLM", lines)
        lines.append(_at_most("p50, one client", "factory serve", single["p50_ms"], 5, "ms"))
        lines.append(_at_most("p99, 32 clients", "factory serve", many["p99_ms"], 80, "ms"))
        peak_mb = memory(pid)["VmHWM"] / 1e3
        lines.append(_at_most("server memory at its peak", "factory serve", peak_mb, 300, "MB"))
    with plain(bench) as port:
        _single_and_many(bench, port, "/predict", plain_body, "FastAPI + sentence-transformers (PyTorch)", lines)
    with mlflow_serving(bench) as port:
        _single_and_many(bench, port, "/invocations", mlflow_body, "MLflow scoring server, our model", lines)
    return lines


def static(bench: Bench) -> list[Line]:
    """The static tier: 32 clients, 32 texts a request."""
    say("static")
    with bench.factory(STATIC) as (port, _):
        bodies = bench.bodies(texts_body, 32)
        runs = [bench.load(port, "/v1/predict", bodies, clients=32, requests=bench.n(3000)) for _ in range(REPEATS)]
    speed = float(np.median([32 * run["n_requests"] / run["seconds"] for run in runs]))
    return [Line("texts/s over HTTP, 32 clients, 32 texts each", "factory serve, static", f"{speed:,.0f}", "5,000",
                 speed >= 5000 and not any(run["n_failed"] for run in runs))]  # fmt: skip


def cold(bench: Bench) -> list[Line]:
    """Seconds from the start of `python predict.py TEXT` to its answer."""
    say("cold")
    lines = []
    for task, bound in ((MINILM, 0.8), (STATIC, 0.4)):
        seconds = []
        for _ in range(7):
            started = time.perf_counter()
            command = [sys.executable, str(bench.folder(task) / "predict.py"), "play some jazz"]
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - started)
        median = float(np.median(seconds))
        lines.append(_at_most(f"cold start of predict.py, {task}", "factory", median, bound, "s"))
    return lines


def parity(bench: Bench) -> list[Line]:
    """The float32 graph against the student in Python on hostile texts."""
    say("parity")
    texts = hostile_texts(bench.data.texts, bench.n(10_000))
    lines = []
    for task in STUDENTS:
        predictor = Predictor(float32(bench.work / f"float32-{task}", bench.student(task)))
        ours = predictor.predict_proba(texts)
        rows = text_dataset([TextRow(text, None, Origin.GOLD) for text in texts])
        theirs = bench.student(task).student.predict_proba(rows)
        n_other = int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
        largest = float(np.abs(ours - theirs).max())
        is_met = n_other == 0 and largest <= 1e-3
        said = f"{n_other} of {len(texts):,} labels differ, largest difference {largest:.0e}"
        lines.append(Line(f"parity on hostile texts, {task}", "factory", said, "0, 1e-3", is_met))
    return lines


PARTS: dict[str, Callable[[Bench], list[Line]]] = {
    "throughput": throughput, "http": http, "static": static, "cold": cold, "parity": parity, "soak": soak,
}  # fmt: skip


def _single_and_many(
    bench: Bench, port: int, path: str, make: Callable[[Sequence[str]], object], who: str, lines: list[Line]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add what one client and 32 see; the run with the median p50 and p99 of several."""
    bodies = bench.bodies(make, 1)
    seen = []
    for clients, requests, key in ((1, bench.n(1000), "p50_ms"), (32, bench.n(4000), "p99_ms")):
        runs = [bench.load(port, path, bodies, clients=clients, requests=requests) for _ in range(REPEATS)]
        run = sorted(runs, key=lambda one: float(one[key]))[len(runs) // 2]
        rate = run["n_requests"] / run["seconds"]
        said = f"p50 {run['p50_ms']:.1f}, p99 {run['p99_ms']:.1f} ms, {rate:,.0f} requests/s, {run['n_failed']} failed"
        lines.append(Line(f"{clients} client{'s' if clients > 1 else ''}, one text", who, said))
        seen.append(run)
    return seen[0], seen[1]


def _at_most(what: str, who: str, value: float, bound: float, unit: str) -> Line:
    return Line(what, who, f"{value:.2f} {unit}", f"{bound:g} {unit}", value <= bound)


@contextmanager
def plain(bench: Bench) -> Iterator[int]:
    """Run the plain FastAPI pattern."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving.rivals", str(bench.data_folder), str(port)]
    with running(command, port, "/openapi.json"):
        yield port


@contextmanager
def mlflow_serving(bench: Bench) -> Iterator[int]:
    """Run MLflow's own scoring server on the registered version."""
    port = free_port()
    program = "from mlflow.cli import cli; cli()"
    command = [sys.executable, "-c", program, "models", "serve", "-m", f"models:/{MINILM}/1", "-p", str(port)]
    command += ["--env-manager", "local"]
    # MLflow starts `uvicorn` by its name, wherever the path leads.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with running(command, port, "/ping", {"MLFLOW_TRACKING_URI": Registry(bench.outputs).uri, "PATH": path}):
        yield port
