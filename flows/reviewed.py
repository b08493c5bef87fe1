"""What people said about rows in a review: which rows are trained on as they said, and which never.

One file holds it all, and is read in two parts. Texts that are real join the other real rows: they are also shown to
the teacher, and rows are written like them. Texts that the teacher wrote, and a person approved of, are only trained
on; they count as rows written, so that a review is no reason to write anything anew.
"""

from collections import Counter
from collections.abc import Mapping

from factory.check import Task
from factory.curation import FILTERS
from factory.curation.decided import DECIDED, DecidedParams
from factory.curation.leakage import LEAKAGE
from factory.encoders import load_encoder
from factory.labelling.reviewed import READ_REVIEWED, ReadReviewedParams
from factory.records import Rows
from factory.store import Artifact
from flows.steps import Runner, named

REVIEWED, ACCEPTED = "reviewed", "accepted"
"""The two parts among the files of a task: real texts, and written ones."""


def read_reviewed_file(task: Task, key: str, run: Runner) -> Artifact[Rows]:
    """Read one part of what people said."""
    params = ReadReviewedParams(labels=task.spec.label_names, written=key == ACCEPTED)
    return run(named(READ_REVIEWED, key), params, resources={"file": task.files[REVIEWED]})


def drop_decided(files: Mapping[str, Artifact[Rows]], rows: Artifact[Rows], suffix: str, run: Runner) -> Artifact[Rows]:
    """Drop the rows that people decided on; they come back as gold rows, or not at all."""
    said = {key: files[key] for key in (REVIEWED, ACCEPTED) if key in files}
    return run(named(DECIDED, suffix), DecidedParams(), inputs={"rows": rows, **said}) if said else rows


def gather_accepted(task: Task, files: Mapping[str, Artifact[Rows]], run: Runner) -> Artifact[Rows] | None:
    """Return the written rows that people approved of, without those too near to the holdout; None without any."""
    rows = files.get(ACCEPTED)
    return None if rows is None else without_leaks(task, rows, files, ACCEPTED, run)


def without_leaks(
    task: Task, rows: Artifact[Rows], files: Mapping[str, Artifact[Rows]], suffix: str, run: Runner
) -> Artifact[Rows]:
    """Drop rows too near to the holdout, if there is one and the spec does not forbid it."""
    leakage = next((plugin for plugin in task.spec.curation if FILTERS[plugin.name] is LEAKAGE), None)
    if leakage is None or "holdout" not in files:
        return rows
    inputs = {"rows": rows, "holdout": files["holdout"]}
    params = LEAKAGE.params(**leakage.params)
    return run(named(LEAKAGE, suffix), params, inputs=inputs, resources={"encoder": load_encoder(task.spec.encoder)})


def count_accepted(rows: Artifact[Rows] | None, run: Runner) -> Counter[str]:
    """Count written rows that people approved of, by label."""
    known = run.peek(rows) if rows is not None else None
    return Counter(known.kept["label"]) if known is not None else Counter()
