"""How fast the embedded teacher writes and labels under different settings of llama.cpp, through the product itself.

python -m benchmarks.embedded [--repeat 2] [--json]

Every setting answers the same requests: real prompts of `tasks/snips_intent`, long ones that write texts and short ones
that label them, nothing cached. Every slot is warm: it has read what the prompts begin with alike, as after the first
minute of a build. Settings take turns, so that a machine that slows down slows all of them; figures are medians over
the turns. Give it a quiet machine: llama.cpp's threads wait for each other.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from factory.labelling.asking import LABEL, requests_of
from factory.spec import Spec, TeacherSpec
from factory.spec_file import load_spec
from factory.synthesis.attributes import AttributesOptions, attribute_prompts
from factory.synthesis.strategy import WriteParams
from factory.teacher import Reply, Request, ask
from factory.teacher.embedded import EmbeddedTeacher
from factory.teacher.llama_server import Settings

TASK = Path(__file__).parents[1] / "tasks" / "snips_intent"
N_WRITING, N_LABELLING, TOKENS = 24, 24, 48
# 24 requests fill 2, 4, 6 and 8 slots evenly: no slot waits for the last one.
OURS = Settings()
SWEEP = [
    OURS,
    replace(OURS, n_slots=2),
    replace(OURS, n_slots=6),
    replace(OURS, n_slots=8),
    replace(OURS, n_slots=8, kv_unified=True),
    replace(OURS, cache_type="q8_0"),
    replace(OURS, n_ubatch=128),
    replace(OURS, n_threads=1),
    replace(OURS, cache_prompt=False, slot_prompt_similarity=0.0),
    replace(OURS, spin_count=0),
    replace(OURS, spin_count=300_000),
]


@dataclass(frozen=True)
class Speed:
    """One turn of one setting."""

    written_per_s: float
    """Tokens of texts, all slots together, reading of what is new in each prompt included."""
    labels_per_s: float


def writing(spec: Spec) -> list[Request]:
    """Return prompts that ask for texts, a label after the other, each about things of its own."""
    params = WriteParams(
        description=spec.description,
        labels=spec.labels,
        wanted=(24,) * len(spec.labels),
        round=1,
        seed=0,
        options=AttributesOptions(),
    )
    things = {label.name: tuple(f"{label.name} {number}" for number in range(24)) for label in spec.labels}
    asked = [one.request for one in attribute_prompts(params, things)]
    return [replace(request, max_tokens=TOKENS) for request in asked[:N_WRITING]]


def labelling(spec: Spec) -> list[Request]:
    """Return prompts that ask for the label of a text."""
    rows = (TASK / "holdout.jsonl").read_text(encoding="utf-8").splitlines()[:N_LABELLING]
    return requests_of(LABEL, spec.description, spec.labels, [json.loads(row)["text"] for row in rows])


def measure(settings: Settings, spec: Spec) -> Speed:
    """Start llama.cpp with some settings and time both kinds of work, each after calls that warm every slot."""
    teacher = EmbeddedTeacher(
        TeacherSpec(concurrency=settings.n_slots),
        command=lambda weights, _: [
            sys.executable, "-m", "factory.teacher.llama_server", str(weights), json.dumps(asdict(settings)),
        ],
    )  # fmt: skip
    try:
        n_written, seconds = _timed(teacher, writing(spec), settings.n_slots)
        n_labels = len(labelling(spec))
        _, label_seconds = _timed(teacher, labelling(spec), settings.n_slots)
    finally:
        teacher.close()
    return Speed(n_written / seconds, n_labels / label_seconds)


def _timed(teacher: EmbeddedTeacher, requests: Sequence[Request], n_slots: int) -> tuple[int, float]:
    ask(teacher, [replace(request, max_tokens=1) for request in requests[-n_slots:]])
    started = time.perf_counter()
    answers = ask(teacher, requests)
    seconds = time.perf_counter() - started
    return sum(answer.completion_tokens for answer in answers if isinstance(answer, Reply)), seconds


def sweep(repeat: int) -> dict[Settings, list[Speed]]:
    """Measure every setting `repeat` times, taking turns."""
    spec = load_spec(TASK)
    turns: dict[Settings, list[Speed]] = {settings: [] for settings in SWEEP}
    for turn in range(repeat):
        for settings in SWEEP:
            turns[settings].append(measure(settings, spec))
            print(f"turn {turn + 1} of {repeat}: {name_of(settings)}: {turns[settings][-1]}", file=sys.stderr)
    return turns


def medians(turns: dict[Settings, list[Speed]]) -> dict[Settings, Speed]:
    """Return the median of each figure over the turns."""
    return {
        settings: Speed(
            statistics.median(speed.written_per_s for speed in speeds),
            statistics.median(speed.labels_per_s for speed in speeds),
        )
        for settings, speeds in turns.items()
    }


def table(found: dict[Settings, Speed]) -> str:
    """Write the figures as a table, each beside its share of the best one."""
    best_written = max(speed.written_per_s for speed in found.values())
    best_labels = max(speed.labels_per_s for speed in found.values())
    lines = ["| setting | tokens written/s | of the best | labels/s | of the best |", "|" + "---|" * 5]
    for settings, speed in found.items():
        name = f"**{name_of(settings)}**" if settings == OURS else name_of(settings)
        written = f"{speed.written_per_s:.1f} | {speed.written_per_s / best_written:.2f}"
        lines.append(f"| {name} | {written} | {speed.labels_per_s:.2f} | {speed.labels_per_s / best_labels:.2f} |")
    return "\n".join(lines)


def name_of(settings: Settings) -> str:
    """Say how settings differ from the shipped ones."""
    changed = {key: value for key, value in asdict(settings).items() if value != asdict(Settings())[key]}
    return ", ".join(f"{key} {value}" for key, value in changed.items()) or "as shipped"


def main() -> None:
    """Sweep and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=2, help="turns for each setting; 40 seconds or so each")
    parser.add_argument("--json", action="store_true", help="write every turn as JSON")
    options = parser.parse_args()
    turns = sweep(options.repeat)
    if options.json:
        print(json.dumps([{**asdict(key), "turns": [asdict(one) for one in turns[key]]} for key in turns], indent=2))
    else:
        print(table(medians(turns)))


if __name__ == "__main__":
    main()
