"""Asking the teacher about the columns of a table: whether a build does, and the model that needs no labelled row."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from factory.check import Task
from factory.labelling.priors import PRIORS, PriorsParams
from factory.records import Rows
from factory.spec_table import Table
from factory.store import Artifact
from factory.tables.priors import Priors
from factory.teacher import Teacher
from flows.steps import Runner

TRAINED_ON = ("train", "seeds", "reviewed")
"""Files of rows that people labelled for training."""
FEW_ROWS = 200
"""From here on rows say more than a teacher believes (docs/benchmarks-tables.md)."""


def wants_priors(task: Task) -> bool:
    """Tell whether a build asks the teacher about the columns; see `PriorsSpec.ask`."""
    how = task.spec.priors.ask
    if how != "auto":
        return how == "always"
    n_rows = n_labelled(task)
    return n_rows == 0 or (n_rows < FEW_ROWS and task.spec.names_teacher)


def n_labelled(task: Task) -> int:
    """Count labelled rows, up to `FEW_ROWS`: by their lines, so that a plan knows before they are read."""
    found = 0
    for key in TRAINED_ON:
        if key in task.files:
            path = task.files[key].path
            with path.open("rb") as file:
                # The first line of a CSV file holds the names of the columns.
                found += sum(1 for line in islice(file, FEW_ROWS + 1) if line.strip()) - (path.suffix != ".jsonl")
    return min(found, FEW_ROWS)


def ask_columns(
    task: Task, table: Table, rows: Artifact[Rows] | None, teacher: Teacher, run: Runner
) -> Artifact[Priors]:
    """Ask what each column tells about the answer.

    Args:
        task: The task.
        table: Its columns.
        rows: Rows that show which cells there are, best those of the pool; without any, the spec must do.
        teacher: Whom to ask.
        run: Runs the stage.

    Returns:
        The priors.
    """
    params = PriorsParams(description=task.spec.description, table=table, n_wordings=task.spec.priors.wordings)
    inputs: Mapping[str, Artifact[Any]] = {} if rows is None else {"rows": rows}
    return run(PRIORS, params, inputs=inputs, resources={"teacher": teacher})
