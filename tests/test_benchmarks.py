"""The benchmark of the teacher runs from end to end; its figures are not looked at."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_benchmark_of_the_teacher_runs_without_peers(tmp_path: Path) -> None:
    options = ["--peers", "none", "--only", "faults", "--scale", "0.02", "--repeat", "1", "--work", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.teacher", *options, "--json"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "factory" in {run["contender"] for run in json.loads(done.stdout)["runs"]}


def test_the_load_generator_counts_what_was_answered_and_what_failed(tmp_path: Path) -> None:
    from tests.serving import running

    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text('{"texts": ["play jazz"]}\n{"texts": ["rain", "snow"]}\n{"texts": []}\n', encoding="utf-8")
    with running(tmp_path / "outputs") as server:
        command = [sys.executable, "-m", "benchmarks.serving.load", str(server.port), "/v1/predict", "--bodies", bodies]
        done = subprocess.run(
            [*command, "--clients", "4", "--requests", "90"],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["n_requests"], found["n_failed"], found["statuses"]) == (90, 30, {"200": 60, "422": 30})
    assert 0 < found["p50_ms"] <= found["p99_ms"]
