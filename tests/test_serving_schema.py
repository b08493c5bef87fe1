"""The server does what its OpenAPI page says: schemathesis sends what the page allows, and what it forbids."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import running

# What a chat may ask of a classifier (a user message, no tools, a schema with one property) no schema can say.
CONFIG = """
[[operations]]
include-name = "POST /v1/chat/completions"
checks.positive_data_acceptance.enabled = false
"""


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    with running(tmp_path / "outputs") as server:
        command = [sys.executable, "-c", "from schemathesis.cli import schemathesis as run; run()", "run"]
        options = ["--max-examples", "10", "--phases", "coverage,fuzzing", "--seed", "1", "--no-color"]
        options += ["--generation-database", "none"]
        done = subprocess.run(
            [*command, f"{server.url}/openapi.json", *options],
            cwd=tmp_path, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
