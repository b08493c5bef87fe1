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
