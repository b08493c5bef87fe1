"""The smallest shipped task, built with the real embedded teacher: nothing is scripted here."""

import json
from pathlib import Path

import pytest

from factory.check import check_task
from factory.teacher import open_teacher
from flows.outcome import release
from flows.recipe import recipe
from tests.plain_runner import Plain

TINY = Path(__file__).parents[1] / "tasks" / "tiny"


@pytest.mark.slow
@pytest.mark.teacher
def test_the_embedded_teacher_builds_the_tiny_task_and_a_second_build_asks_it_nothing(tmp_path: Path) -> None:
    task = check_task(TINY)
    teacher = open_teacher(task.spec.teacher, folder=TINY, outputs=tmp_path)
    try:
        run = Plain(tmp_path / task.spec.name)
        products = recipe(task, teacher, run)
        asked = teacher.spending.calls
    finally:
        teacher.close()
    assert asked > 12
    rows = products.rows.load().kept
    assert set(rows["label"]) <= set(task.spec.label_names)
    assert len(rows) >= 3
    evaluation = products.evaluation.load()
    assert evaluation.gold
    assert {one.name for one in evaluation.contenders} >= {"student", "teacher", "majority", "nearest-description"}
    outcome = release(task, products, list(run.artifacts.values()), tmp_path, run)
    assert json.loads((outcome.folder / "config.json").read_text())["labels"] == list(task.spec.label_names)

    # A fresh teacher without a child process: every stage and every reply is there already.
    again = open_teacher(task.spec.teacher, folder=TINY, outputs=tmp_path)
    second = Plain(tmp_path / task.spec.name)
    recipe(task, again, second)
    assert again.spending.calls == 0
    assert all(artifact.was_cached for artifact in second.artifacts.values())
