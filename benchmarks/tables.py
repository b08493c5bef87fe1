"""All tables of docs/benchmarks.md in one run.

python -m benchmarks.tables --data FOLDER --outputs OUTPUTS > page.md

`make bench DATA=FOLDER` puts the page in its place. Builds land in OUTPUTS; a second run reads them and measures only
speed and start-up again.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.cells import Setup, opened
from benchmarks.latency import Measured
from benchmarks.latency import measure as measure_speed
from benchmarks.make_task import make_task
from benchmarks.quality import Cell, markdown, measure
from factory.check import check_task
from factory.records import Rows
from factory.release.export import ExportParams, export
from factory.store import Artifact
from factory.students.training import FittedStudent

SETS = ("snips_intent", "ag_news", "trec6")
N_STARTS = 5


def build(task: Path, outputs: Path) -> dict[str, Any]:
    """Build a task in a process of its own, as a person would, and return the outcome.

    Args:
        task: A task folder.
        outputs: Where results go.

    Returns:
        The last line that `factory build --json` wrote.

    Raises:
        SystemExit: The build failed; its message has been shown.
    """
    command = [sys.executable, "-m", "factory.cli", "build", str(task), "--out", str(outputs), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        last = ""
        for line in process.stdout or ():
            last = line
            event = json.loads(line)
            if event["event"] == "StageFinished":
                print(f"  {event['stage']}: {event['summary']}", file=sys.stderr, flush=True)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    outcome: dict[str, Any] = json.loads(last)
    return outcome


def cell_of(task: Path, outputs: Path) -> Cell:
    """Read the figures of a task that was built."""
    setup = Setup(check_task(task), outputs)
    with opened(setup) as run:
        return measure(setup.task, run, {})


def speed_table(outcome: dict[str, Any], outputs: Path) -> str:
    """Export every student of a build and time it; single texts and batches are those of its training rows."""
    root = outputs / outcome["version"]["name"]
    lineage = json.loads((Path(outcome["path"]) / "lineage.json").read_text(encoding="utf-8"))
    folders = {run["stage"]: root / run["stage"] / run["fingerprint"] for run in lineage["stages"]}
    rows = Artifact(folders["label-noise"], Rows, was_cached=True).load()
    labels = tuple(outcome["evaluation"]["labels"])
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        for stage, stored in folders.items():
            if not stage.startswith("fit-"):
                continue
            fitted = Artifact(stored, FittedStudent, was_cached=True).load()
            exported = export(ExportParams(name=fitted.name, labels=labels), fitted=fitted, rows=rows)
            folder = Path(scratch) / fitted.name
            folder.mkdir()
            exported.save(folder)
            lines.append((exported.parity.ships, measure_speed(fitted.name, folder, rows.kept["text"][:])))
    head = "| student | ships | p50 ms | p95 ms | texts/s in batches | folder to first answer, s | MB |"
    return "\n".join([head, "|" + "---|" * 7, *(_speed_line(ships, one) for ships, one in lines)])


def _speed_line(ships: str, one: Measured) -> str:
    speed = f"{one.p50_ms:.3f} | {one.p95_ms:.3f} | {one.texts_per_s:,.0f} | {one.open_s:.2f} | {one.mb:.1f}"
    return f"| {one.name} | {ships} | {speed} |"


def start_table(task: Path, name: str, outputs: Path) -> str:
    """Time what a person waits for before anything happens."""
    python = sys.executable
    commands = {
        "`import factory`": [python, "-c", "import factory"],
        "an empty Python, for comparison": [python, "-c", "pass"],
        "`factory --help`": [python, "-m", "factory.cli", "--help"],
        "`factory check`": [python, "-m", "factory.cli", "check", str(task)],
        "`factory predict NAME TEXT`": [
            python, "-m", "factory.cli", "predict", name, "some text", "--outputs", str(outputs),
        ],
        "`factory build`, everything cached": [
            python, "-m", "factory.cli", "build", str(task), "--out", str(outputs), "--quiet",
        ],
    }  # fmt: skip
    lines = ["| command | median s | of |", "|---|---|---|"]
    for what, command in commands.items():
        n = 2 if "build" in what else N_STARTS
        lines.append(f"| {what} | {statistics.median([_run(command) for _ in range(n)]):.2f} | {n} |")
    return "\n".join(lines)


def _run(command: list[str]) -> float:
    """Return the wall seconds of a process."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Build what is not built, measure, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--outputs", type=Path, required=True, help="where builds are and go")
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET")
    options = parser.parse_args()
    cells, outcomes = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.sets:
            # The shipped task where there is one, so that the figure is that of `make demo`.
            task = Path(__file__).parents[1] / "tasks" / name
            if not task.is_dir():
                task = Path(scratch) / name
                make_task(options.data / name, task, regime="z0")
            outcomes.append((task, build(task, options.outputs)))
            cells.append(cell_of(task, options.outputs))
        task, outcome = outcomes[0]
        speed, starts = (
            speed_table(outcome, options.outputs),
            start_table(task, outcome["version"]["name"], options.outputs),
        )
    where_measured = f"{os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    print(
        PAGE.format(
            where=where_measured, quality=markdown(cells), speed=speed, starts=starts, name=outcome["version"]["name"]
        )
    )


PAGE = """# Benchmarks

Regenerate with `make bench DATA=folder-of-public-sets`, which is `python -m benchmarks.tables`. Intervals are 95%
bootstrap intervals; gold rows are read by the final report alone. Measured on {where}.

## Quality without any human label

{quality}

## Speed and size of what is released

Every student of {name}, exported as it would be released, asked through `predict.py` in one process.

{speed}

## Starting

{starts}
"""

if __name__ == "__main__":
    main()
