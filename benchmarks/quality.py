"""How good the released student is, with no human label, beside the teacher and the baselines.

python -m benchmarks.quality --data FOLDER                        SNIPS, AG News and TREC-6, a build each
python -m benchmarks.quality --data FOLDER --sets ag_news         one of them
python -m benchmarks.quality --data FOLDER --outputs outputs      keep builds: a second run only reads them
python -m benchmarks.quality --data FOLDER --regime z1 --encoder all-mpnet-base-v2 --sets trec6 tweet_emotion

Each set becomes a task of its own (regime z0: label descriptions and nothing else; z1: the training texts as a pool
too, of which the teacher labels 400) whose test rows are the holdout, read by the final report alone. Teacher time is
what writing and verifying took; being asked directly, for comparison, is listed apart.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.make_task import make_task
from factory.spec import DEFAULT_ENCODER

SETS = ("snips_intent", "ag_news", "trec6")


@dataclass(frozen=True)
class Line:
    """One line of the table; accuracies in percent with 95% intervals."""

    name: str
    n_gold: int
    student: str
    accuracy: str
    macro_f1: str
    ece: str
    teacher: str
    n_teacher: int
    nearest_description: str
    n_training_rows: int
    teacher_minutes: float
    """Writing and verifying, as stored: a build that read some of it from the cache shows what it took then."""
    asked_directly_minutes: float
    calls: int
    written_tokens: int
    all_students: str


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


def line_of(outcome: dict[str, Any], outputs: Path) -> Line:
    """Read the figures of a build."""
    evaluation = outcome["evaluation"]
    contenders = {one["name"]: one for one in evaluation["contenders"]}
    student, teacher = contenders["student"], contenders.get("teacher")
    name = outcome["version"]["name"]
    stages = list(_stages(outputs / name, outcome))
    made = [stage for stage in stages if stage["varying"].get("teacher_calls") and stage["stage"] != "annotate-holdout"]
    direct = [stage for stage in stages if stage["stage"] == "annotate-holdout"]
    others = (one for one in evaluation["contenders"] if one["name"] not in ("student", "teacher", "majority"))
    lineage = json.loads((Path(outcome["path"]) / "lineage.json").read_text(encoding="utf-8"))
    rows = next(run for run in reversed(lineage["stages"]) if run["stage"].startswith(("label-noise", "leakage")))
    kept = manifest_of(outputs / name / rows["stage"] / rows["fingerprint"])["summary"].split()[0]
    return Line(
        name=name,
        n_gold=evaluation["n_rows"],
        student=evaluation["champion"],
        accuracy=percent(student["accuracy"]),
        macro_f1=percent(student["macro_f1"]),
        ece="" if student["ece"] is None else f"{100 * student['ece']:.1f}",
        teacher=percent(teacher["accuracy"]) if teacher else "not asked",
        n_teacher=teacher["n"] if teacher else 0,
        nearest_description=percent(contenders["nearest-description"]["accuracy"]),
        n_training_rows=int(kept.replace(",", "")),
        teacher_minutes=sum(stage["varying"]["seconds"] for stage in made) / 60,
        asked_directly_minutes=sum(stage["varying"]["seconds"] for stage in direct) / 60,
        calls=sum(stage["varying"]["teacher_calls"] for stage in made),
        written_tokens=sum(stage["varying"]["completion_tokens"] for stage in made),
        all_students=", ".join(f"{one['name']} {100 * one['accuracy']['value']:.1f}" for one in others),
    )


def _stages(root: Path, outcome: dict[str, Any]) -> Iterable[dict[str, Any]]:
    lineage = json.loads((Path(outcome["path"]) / "lineage.json").read_text(encoding="utf-8"))
    for run in lineage["stages"]:
        yield manifest_of(root / run["stage"] / run["fingerprint"])


def manifest_of(folder: Path) -> dict[str, Any]:
    """Read the manifest of a stored stage."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def percent(estimate: dict[str, float], sign: str = "") -> str:
    """Write an estimate with its interval, in percent; `sign` is `+` for differences."""
    value, low, high = (f"{100 * estimate[key]:{sign}.1f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def markdown(lines: list[Line]) -> str:
    """Write the table for docs/benchmarks.md."""
    head = (
        "| task | gold rows | student | accuracy, % | macro-F1, % | ECE, % | teacher asked directly, % (rows) | "
        "nearest description, % | training rows | teacher minutes (+ direct) | calls | tokens written |"
    )
    rows = [
        f"| {one.name} | {one.n_gold:,} | {one.student} | **{one.accuracy}** | {one.macro_f1} | {one.ece} | "
        f"{one.teacher} ({one.n_teacher}) | {one.nearest_description} | {one.n_training_rows} | "
        f"{one.teacher_minutes:.1f} (+ {one.asked_directly_minutes:.1f}) | {one.calls:,} | {one.written_tokens:,} |"
        for one in lines
    ]
    notes = [f"- {one.name}, accuracy of each: {one.all_students}" for one in lines]
    return "\n".join([head, "|" + "---|" * 12, *rows, "", *notes])


def main() -> None:
    """Build the sets and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET")
    parser.add_argument("--regime", choices=("z0", "z1"), default="z0", help="descriptions only, or also a pool")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, help="of filters, voters and the student blend")
    parser.add_argument("--outputs", type=Path, help="keep builds here; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    options = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        outputs = options.outputs or Path(scratch) / "outputs"
        for name in options.sets:
            task = Path(scratch) / name
            regime, encoder = options.regime, options.encoder
            make_task(options.data / name, task, regime=regime, with_train=False, encoder=encoder)
            print(f"== {name}", file=sys.stderr, flush=True)
            lines.append(line_of(build(task, outputs), outputs))
    print("\n".join(json.dumps(asdict(line)) for line in lines) if options.json else markdown(lines))


if __name__ == "__main__":
    main()
