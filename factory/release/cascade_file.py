"""`cascade.json` of a release: who answers first, how sure it must be, and what was promised of them together."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from factory.errors import ArtifactCorrupt, ArtifactMissing
from factory.evaluation.cascade import CascadeChoice
from factory.evaluation.policies import NEVER
from factory.evaluation.result import Number, Part
from factory.evaluation.verification import Verification
from factory.spec_release import TEACHER_TIER

CASCADE_FILE = "cascade.json"
TIERS = "tiers"
"""Folder of the students that are tiers and not the released one, each in a folder of its own name."""
FORMAT_VERSION = 1
VERIFYING_VERSION = 2
"""Of a file whose teacher verifies its answers: a program that knows no such thing must refuse it."""
SAFE = re.compile(r"[a-z0-9][a-z0-9-]*")


class TierEntry(Part):
    """A tier, in the order of asking."""

    name: str
    threshold: Number | None = Field(ge=0, le=NEVER)
    """It answers where its calibrated probability is at least this, above 1 only in place of a teacher that gave no
    answer; null for the last, unless that is a teacher that verifies its answers: below it nobody answers."""
    is_released: bool
    """Whether it is the model of the release itself; other students are below `tiers/`."""

    @property
    def folder(self) -> str | None:
        """Where it lies in the release; None for the teacher."""
        if self.name == TEACHER_TIER:
            return None
        return "." if self.is_released else f"{TIERS}/{self.name}"


class CascadeFile(Part):
    """What a program that answers in tiers must know."""

    format_version: Literal[1, 2]
    tiers: tuple[TierEntry, ...] = Field(min_length=1)
    promise: str
    is_certified: bool
    """False when no thresholds kept the promise on the rows at hand: then the last tier answers everything."""
    delta: Number
    truth: Literal["gold", "teacher"]
    n_rows: int
    teacher: str
    """Identity of the teacher the thresholds were chosen for; empty when it is no tier."""
    verification: Verification | None = None
    """What makes a confidence of what the teacher says of its own answer; left out where it is not asked."""

    @model_validator(mode="after")
    def _check_order(self) -> "CascadeFile":
        for position, tier in enumerate(self.tiers):
            is_last = position == len(self.tiers) - 1
            if (tier.threshold is None) != (is_last and self.verification is None):
                raise ValueError(
                    f"{tier.name}: every tier but the last has a threshold, and the last has none unless it is verified"
                )
            if tier.name == TEACHER_TIER and not is_last:
                raise ValueError("the teacher can only be the last tier")
            if not SAFE.fullmatch(tier.name):
                raise ValueError(f"{tier.name!r} is no name of a student")
        if self.verification is not None and not self.calls_teacher:
            raise ValueError("verification: nobody verifies answers but the teacher, and it is no tier")
        if self.tiers[0].name == TEACHER_TIER:
            raise ValueError("the teacher needs a student before it, for when it gives no answer")
        if len({tier.name for tier in self.tiers}) < len(self.tiers):
            raise ValueError("a tier is named twice")
        expected = FORMAT_VERSION if self.verification is None else VERIFYING_VERSION
        if self.format_version != expected:
            raise ValueError(f"format_version: expected {expected}, for that is what verification or its absence needs")
        return self

    def to_json(self) -> str:
        """Return what the file holds."""
        return self.model_dump_json(indent=1, exclude=None if self.verification else {"verification"}) + "\n"

    @property
    def calls_teacher(self) -> bool:
        """Whether a text may reach the teacher."""
        return self.tiers[-1].name == TEACHER_TIER


def describe(choice: CascadeChoice, *, released: str, teacher: str) -> CascadeFile:
    """Write down a choice of thresholds for a release.

    Args:
        choice: What was chosen.
        released: Name of the student that the release itself is.
        teacher: Identity of the teacher.

    Returns:
        The content of the file.
    """
    tiers = [TierEntry(name=one.name, threshold=one.threshold, is_released=one.name == released) for one in choice.rule]
    if choice.rule[0].name == TEACHER_TIER:
        tiers.insert(0, TierEntry(name=released, threshold=NEVER, is_released=True))
    # Where it always answers, however unsure it is, it need not be asked.
    verification = None if choice.rule[-1].threshold is None else choice.verification
    return CascadeFile(
        format_version=FORMAT_VERSION if verification is None else VERIFYING_VERSION,
        tiers=tuple(tiers),
        promise=choice.promise,
        is_certified=choice.is_certified,
        delta=choice.delta,
        truth=choice.truth,
        n_rows=choice.n_design + choice.n_test,
        teacher=teacher if choice.calls_teacher else "",
        verification=verification,
    )


def read_cascade(folder: Path) -> CascadeFile:
    """Read the file of a release.

    Args:
        folder: The release.

    Returns:
        Its content.

    Raises:
        ArtifactMissing: The release has no cascade.
        ArtifactCorrupt: The file is not what this version can read.
    """
    path = folder / CASCADE_FILE
    if not path.is_file():
        raise ArtifactMissing(f"{path}: this release has no cascade", hint="add `cascade:` to the spec and build again")
    try:
        return CascadeFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactCorrupt(f"{path}: {where or 'the file'}: {first['msg']}", hint="build the task again") from error
