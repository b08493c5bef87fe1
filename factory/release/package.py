"""The folder that is released: what `export` gave, and everything a stranger needs to trust it.

model.onnx  tokenizer.json or vocabulary.json  config.json  predict.py  requirements.txt    to predict with
card.md  report.html                                                                        to read
lineage.json  parity.json  manifest.json (written by the store)                             to check
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from factory.evaluation.audit import Audit
from factory.evaluation.cascade import CascadeChoice
from factory.evaluation.result import Part
from factory.evaluation.telling import AnyEvaluation, gate_figures
from factory.release.cards import TEMPLATE_FILES, model_card
from factory.release.cascade_file import CASCADE_FILE, describe
from factory.release.code import Code
from factory.release.export import Exported
from factory.release.files import Files
from factory.release.gate import GateResult, check_gate
from factory.release.measure import Speed
from factory.release.refusal import Refusal, with_refusal
from factory.spec import Gate, Kind, Label, Model
from factory.spec_table import Table
from factory.store import Artifact, Result, Stage

SAME_FOR_ALL = ("predict.py", "requirements.txt", "parity.json")
"""Files of an export that lie in the release itself, or say how it was made."""
CARD, REPORT, LINEAGE = "card.md", "report.html", "lineage.json"


class StageRun(Part):
    """One stage of the build."""

    stage: str
    fingerprint: str
    content_hash: str


class Lineage(Part):
    """Where a release comes from; the file names the code too. The time of each stage is in its manifest."""

    spec_sha256: str
    """Of the text of the task's spec.yaml."""
    stages: tuple[StageRun, ...]
    """In the order of the build, those before this one."""
    teacher: str
    """Identity of the teacher; empty when none was asked."""
    data_sha256: dict[str, str]
    """Of each file of the task folder, by its role: seeds, pool, holdout..."""


class PackageParams(Model):
    """What the card and the lineage say that no stage knows."""

    name: str
    description: str
    labels: tuple[Label, ...]
    kind: Kind = Kind.TEXT_CLASSIFICATION
    table: Table | None = None
    """What the rows of a table hold; None for texts."""
    student: str
    """Name in the table of students."""
    n_training_rows: int
    gate: Gate = Gate()
    unfinished: dict[str, str] = Field(default_factory=dict)
    """Stages some of whose requests the teacher did not answer, and why it did not."""
    lineage: Lineage
    licence: str = "apache-2.0"
    """Of the released folder, as the Hugging Face hub abbreviates it; that of the encoder inside, if there is one."""
    licences: tuple[str, ...] = ()
    """Of what went into the student: encoder, teacher, data; one line each."""
    language: str | None = None
    """Two letters, where it is known."""


@dataclass(frozen=True)
class Page:
    """The report, a resource of `package`."""

    html: str
    identity: str
    """Hash of the results it shows. Not of the page: it tells seconds and dates too, which make no new release."""


class Release(Files):
    """The released folder."""

    @property
    def summary(self) -> str:
        """One line for a person."""
        return f"{self.size_mb:.1f} MB, card, report and lineage"


def stage_run(artifact: Artifact[Result]) -> StageRun:
    """Say in the lineage which artifact was used."""
    return StageRun(
        stage=artifact.folder.parent.name, fingerprint=artifact.fingerprint, content_hash=artifact.content_hash
    )


def package(
    params: PackageParams,
    *,
    exported: Exported,
    speed: Speed,
    evaluation: AnyEvaluation,
    audit: Audit,
    report: Page,
    code: Code,
    cascade: CascadeChoice | None = None,
    refusal: Refusal | None = None,
    **tiers: Exported,
) -> Release:
    """Put card, report and lineage beside the exported files.

    Args:
        params: What the card says that no stage knows.
        exported: Everything needed to predict.
        speed: Measured on the machine that built it.
        evaluation: Figures with their intervals.
        audit: Of the generated texts.
        report: The page for people.
        code: What made them.
        cascade: Thresholds of the task's cascade, where it has one.
        refusal: Below which familiarity a text is refused, where some may be.
        **tiers: The students that are its tiers, by name; the released one need not be among them.

    Returns:
        The released files.
    """
    gate = gate_result(params.gate, speed, evaluation)
    lineage = {**params.lineage.model_dump(mode="json"), "code": code.model_dump(mode="json")}
    added = {
        CARD: model_card(params, exported, speed, evaluation, audit, gate, cascade).encode(),
        REPORT: report.html.encode(),
        LINEAGE: (json.dumps(lineage, indent=1) + "\n").encode(),
    }
    if cascade is not None:
        added |= _tiers(params, cascade, tiers)
    if refusal is not None:
        added["config.json"] = with_refusal(exported.contents["config.json"], refusal)
    return Release({**exported.contents, **added})


PACKAGE = Stage("release", 6, PackageParams, package, Release, files=TEMPLATE_FILES)


def _tiers(params: PackageParams, cascade: CascadeChoice, tiers: Mapping[str, Exported]) -> dict[str, bytes]:
    """Return `cascade.json`, and what is needed to predict with each tier that is not the released student."""
    described = describe(cascade, released=params.student, teacher=params.lineage.teacher)
    files = {CASCADE_FILE: described.to_json().encode()}
    for tier in described.tiers:
        if tier.folder not in (None, "."):
            contents = tiers[tier.name].contents
            files |= {f"{tier.folder}/{name}": contents[name] for name in contents if name not in SAME_FOR_ALL}
    return files


def gate_result(gate: Gate, speed: Speed, evaluation: AnyEvaluation) -> GateResult:
    """Check the spec's gate; figures on synthetic rows do not count."""
    return check_gate(
        gate,
        **gate_figures(evaluation),
        p95_ms=speed.p95_ms,
        size_mb=speed.size_mb,
    )
