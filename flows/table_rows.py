"""Rows of a table that the teacher writes: what they are written like, and which of them are learned from."""

from collections.abc import Mapping
from typing import Any

from factory.check import Task
from factory.curation.gather import GATHER, GatherParams
from factory.records import Rows
from factory.spec_table import Table
from factory.store import Artifact
from factory.students.tables.curate import CURATE_ROWS, CurateRowsParams
from factory.synthesis.rows import WRITE_ROWS, RowsOptions, WriteRowsParams
from factory.teacher import Teacher
from flows.steps import Runner, named


def with_written(
    task: Task,
    table: Table,
    files: Mapping[str, Artifact[Rows]],
    real: Artifact[Rows],
    teacher: Teacher,
    run: Runner,
) -> Artifact[Rows]:
    """Add rows that the teacher writes, where the spec names the strategy.

    Args:
        task: The task.
        table: What its rows hold.
        files: Its data files.
        real: Rows that people labelled.
        teacher: Whom to ask.
        run: Runs the stages.

    Returns:
        The real rows and what is left of the written ones; else the real rows themselves.
    """
    if not task.spec.synthesis.strategies:
        return real
    options = RowsOptions(**task.spec.synthesis.strategies[0].params)
    asked = WriteRowsParams(description=task.spec.description, table=table, seed=task.spec.seed, options=options)
    written = run(WRITE_ROWS, asked, inputs={"real": real}, resources={"teacher": teacher})
    bounds = CurateRowsParams(
        table=table,
        seed=task.spec.seed,
        least_confidence=options.least_confidence,
        least_uncertainty=options.least_uncertainty,
    )
    inputs: dict[str, Artifact[Any]] = {"rows": written, "real": real}
    if "holdout" in files:
        inputs["holdout"] = files["holdout"]
    curated = run(CURATE_ROWS, bounds, inputs=inputs)
    return run(named(GATHER, "written"), GatherParams(), inputs={"real": real, "written": curated})
