"""The audit of what the teacher wrote: which files of the task it is compared with."""

from collections.abc import Mapping

from factory.check import Task
from factory.encoders import load_encoder
from factory.evaluation.audit import AUDIT, Audit, AuditParams
from factory.records import Rows
from factory.store import Artifact
from flows.steps import Runner

REAL = ("pool", "seeds", "train")
"""Real texts that may be looked at before the final report; the holdout may not."""


def audit_rows(task: Task, files: Mapping[str, Artifact[Rows]], rows: Artifact[Rows], run: Runner) -> Artifact[Audit]:
    """Audit the generated rows among those that students are trained on; nothing is dropped."""
    real = {key: files[key] for key in REAL if key in files}
    params = AuditParams(labels=task.spec.labels, seed=task.spec.seed)
    return run(AUDIT, params, inputs={"rows": rows, **real}, resources={"encoder": load_encoder(task.spec.encoder)})
