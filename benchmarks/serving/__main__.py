"""Serve a released student, and measure it beside the usual ways, all in one run on one machine.

python -m benchmarks.serving --data ../shared/data/snips_intent                everything, with a short soak
python -m benchmarks.serving --data ... --only http static                     some of it
python -m benchmarks.serving --data ... --only soak --soak 1000000             the long one
python -m benchmarks.serving --data ... --out docs/benchmarks-serving.md       writes the page
"""

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from benchmarks.serving.bench import Bench, Line
from benchmarks.serving.models import read
from benchmarks.serving.parts import PARTS

PACKAGES = ("onnxruntime", "torch", "setfit", "sentence-transformers", "fastapi", "uvicorn", "mlflow")


def page(lines: list[Line], command: str) -> str:
    """Write the lines as a page of Markdown."""
    processor = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
         if line.startswith("model name")), platform.machine(),
    )  # fmt: skip
    cores = len(os.sched_getaffinity(0))
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    head = [
        "# Benchmarks of serving",
        "",
        f"`{command}`, {time.strftime('%Y-%m-%d')}; {processor}, {cores} cores shared by the server and the load",
        f"generator, load averages at the end {load}. Median of three runs each; "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES) + ".",
        "",
        "| what | who | measured | must reach | reached |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    shown = {True: "yes", False: "**no**", None: ""}
    return "\n".join(
        [*head, *(f"| {one.what} | {one.who} | {one.value} | {one.wanted} | {shown[one.met]} |" for one in lines), ""]
    )


def main() -> None:
    """Measure, print, and end with 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--train", type=int, default=4000, help="rows to train on")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the requests, for a quick look")
    parser.add_argument("--soak", type=int, default=50_000, help="requests of the soak")
    parser.add_argument("--work", type=Path, help="keep models and bodies here; default: a temporary folder")
    parser.add_argument("--out", type=Path, help="also write the page here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="factory-") as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        bench = Bench(
            options.data.resolve(), read(options.data, options.train), work, scale=options.scale, soak=options.soak
        )
        lines = []
        for name in options.only:
            found = PARTS[name](bench)
            lines += found
            for line in found:
                print(f"   {line.what} | {line.who} | {line.value} | {line.wanted} | {line.met}", file=sys.stderr)
    command = f"python -m benchmarks.serving --data {options.data.name} --only {' '.join(options.only)}"
    if "soak" in options.only:
        command += f" --soak {options.soak}"
    if options.json:
        print(json.dumps([asdict(line) for line in lines]))
    else:
        print(page(lines, command))
    if options.out is not None:
        options.out.write_text(page(lines, command), encoding="utf-8")
    sys.exit(any(line.met is False for line in lines))


if __name__ == "__main__":
    main()
