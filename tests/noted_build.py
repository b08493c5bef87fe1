"""A build without Prefect that is noted as `flows.build` notes it, of a task in which things go wrong."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.check import check_task
from factory.teacher import open_teacher
from flows.builds import BuildNote
from flows.recipe import recipe
from tests.plain_runner import Plain
from tests.scripted_task import make_task, texts_of

GOOD, WRONG = texts_of("music")[0], texts_of("music")[1]
RAW = "```\n```"
PLAIN: dict[str, Any] = {"students": ["tfidf-linear"], "curation": [], "data": None}
"""A spec without an encoder: a build takes a second or two."""
MANY: dict[str, Any] = {"synthesis": {"per_label": 60, "max_rounds": 1}}
"""Enough prompts for each label that each of the script's answers is given."""
SPENT = {"input_usd_per_million": 1e6, "output_usd_per_million": 1e6}
"""A dollar a token."""


def scripted(folder: Path, **changes: Any) -> Path:
    """A task whose teacher takes one of its own texts for another label, and answers one prompt without a text."""
    teacher = {"name": "scripted", "model": "replies.jsonl", "prices": SPENT}
    make_task(folder, **{**PLAIN, "teacher": teacher, **changes})
    path = folder / "replies.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line["contains"].startswith(f'Text: "{WRONG}"'):
            line["reply"] = json.dumps("weather")
        if "the label table:" in line["contains"]:
            line["reply"] = [*line["reply"], RAW]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return folder


def build(folder: Path, outputs: Path) -> Plain:
    """Build without Prefect, noted as `flows.build` notes it."""
    task = check_task(folder)
    teacher = open_teacher(task.spec.teacher, folder=folder, outputs=outputs)
    root = outputs / task.spec.name
    note = BuildNote(root, prices=teacher.spending.prices)
    run = Plain(root, note=note)
    try:
        recipe(task, teacher, run)
    finally:
        teacher.close()
    note.finished()
    return run


@dataclass(frozen=True)
class Built:
    """A build that has ended."""

    folder: Path
    outputs: Path
    run: Plain
