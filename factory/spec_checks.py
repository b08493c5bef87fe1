"""What must hold of a whole `Spec` beyond the shape of each part: checks of its fields, and of some against others.

A check of a field returns the value as it is, or raises what is wrong with it; `info.data` has those of the fields
before it that were right. The checks of parts against each other run when every field was right.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from factory.spec_base import Kind, Label
from factory.spec_data import Data
from factory.spec_making import AugmentationSpec, LabellingSpec, Plugin, SelfTrainingSpec, SynthesisSpec
from factory.spec_release import TEACHER_TIER, CascadeSpec
from factory.spec_table import MOST_COLUMNS, Column, PriorsSpec, Target
from factory.spec_teacher import TeacherSpec

MOST_CHARS = 4_000
"""Of a task's description: it is part of every prompt, and a page of it is more than any teacher heeds."""
MOST_LABELS = 300
"""Nearly every prompt lists them all, so calls and their length grow together: 300 cost 115 million tokens."""
SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""Task names become folder names, registry names and URLs."""
RESERVED_NAMES = {"mlruns"}
"""What else lies in the outputs beside the folders of the tasks."""
RESERVED_TEACHERS = {
    "clusters",
    "encoder",
    "nearest-description",
    "params",
    "reviewed",
    "rows",
    "rules",
    "student",
    "teacher",
}
"""What else a stage that counts votes is given."""


def check_name(name: str) -> str:
    """Check the name of a task."""
    if not SAFE_NAME.fullmatch(name):
        raise ValueError("use 1 to 64 lower-case letters, digits, `-` and `_`, starting with a letter or digit")
    if name in RESERVED_NAMES:
        raise ValueError(f"{name!r} is the name of a folder that the outputs have already: choose another")
    return name


def check_description(description: str) -> str:
    """Check that a description fits into prompts."""
    if len(description) > MOST_CHARS:
        found = f"expected at most {MOST_CHARS:,} characters, got {len(description):,}"
        raise ValueError(f"{found}: it is part of every prompt, so keep it to what tells the texts apart")
    return description


def check_needed(value: Any, info: ValidationInfo) -> Any:
    """Check that `labels`, `columns` and `target` are given where the kind has them, and nowhere else."""
    kind, key = info.data.get("kind"), info.field_name
    if kind is None:  # a kind that is wrong itself has no further wishes
        return value
    needed = kind.has_labels if key == "labels" else kind.is_table
    if not value and needed:
        raise PydanticCustomError("missing", "is missing")
    if value and not needed:
        what = "a regression answers with a number" if key == "labels" else "only a table has them"
        raise ValueError(f"{what}, and the kind of this task is {kind}")
    return value


def check_labels(labels: tuple[Label, ...]) -> tuple[Label, ...]:
    """Check how many labels there are, and that no two can be taken for each other."""
    if len(labels) == 1:
        raise ValueError("expected at least 2 entries, got 1")
    if len(labels) > MOST_LABELS:
        found = f"expected at most {MOST_LABELS:,} entries, got {len(labels):,}"
        raise ValueError(f"{found}: prompts list them all; split the task into coarse and fine ones")
    first: dict[str, str] = {}
    repeated: list[tuple[tuple[int | str, ...], str, Any]] = []
    for index, name in enumerate(label.name for label in labels):
        seen = unicodedata.normalize("NFC", name)
        other = first.setdefault(seen.casefold(), name)
        if len(first) + len(repeated) == index + 1:
            continue
        words = f"{name!r} and {other!r} differ in case only"
        if unicodedata.normalize("NFC", other) == seen:
            words = f"{name!r} is given twice" + (", spelled with other characters" if name != other else "")
        repeated.append(((index, "name"), words, name))
    _raise_at(repeated, "labels")
    return labels


def check_columns(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Check how many columns there are, and that each is given once."""
    if len(columns) > MOST_COLUMNS:
        raise ValueError(f"expected at most {MOST_COLUMNS:,} entries, got {len(columns):,}")
    names = [column.name for column in columns]
    twice = [at for at, name in enumerate(names) if name in names[:at]]
    _raise_at([((at, "name"), f"{names[at]!r} is given twice", names[at]) for at in twice], "columns")
    return columns


def check_target(target: Target | None, info: ValidationInfo) -> Target | None:
    """Check the target of a table against its columns and its kind."""
    if target is None:
        return None
    if any(column.name == target.column for column in info.data.get("columns", ())):
        raise ValueError(f"{target.column!r} is described under `columns` too: a student shall not see it")
    kind = info.data.get("kind")
    if kind is Kind.TABULAR_CLASSIFICATION and (target.unit or target.range):
        raise ValueError("only a number has a unit or a range, and this task answers with a label")
    return target


def check_for_tables(names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """Check that only a table has `leave_out` or `rules`."""
    kind = info.data.get("kind")
    if names and kind is not None and not kind.is_table:
        raise ValueError(f"only a table has them, and the kind of this task is {kind}")
    return names


def check_left_out(names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """Check that the target and some columns are left when `leave_out` is taken away."""
    target, columns = info.data.get("target"), info.data.get("columns")
    if target is not None and target.column in names:
        raise ValueError(f"{target.column!r} is the target")
    if columns and all(column.name in names for column in columns):
        raise ValueError("nothing is left to learn from")
    return names


def check_priors(priors: PriorsSpec, info: ValidationInfo) -> PriorsSpec:
    """Check that only a table has `priors`."""
    kind = info.data.get("kind")
    if priors != PriorsSpec() and kind is not None and not kind.is_table:
        raise ValueError(f"only a table has columns to ask about, and the kind of this task is {kind}")
    return priors


def check_teachers(teachers: dict[str, TeacherSpec]) -> dict[str, TeacherSpec]:
    """Check the names of further teachers."""
    for name in teachers:
        if not SAFE_NAME.fullmatch(name):
            rule = "1 to 64 lower-case letters, digits, `-` and `_`, starting with a letter or digit"
            raise ValueError(f"{name!r}: a teacher's name has {rule}")
        if name in RESERVED_TEACHERS:
            raise ValueError(f"{name!r} is the name of something else where votes are counted: choose another")
    return teachers


def check_refusal(refuse: float | None, data: Data) -> None:
    """Check that there are real texts to learn from what is familiar."""
    if refuse is not None and data.calibration is None and data.pool is None:
        raise ValueError("refuse: what is familiar is learned from real texts: name data.calibration or data.pool")


def check_cascade(cascade: CascadeSpec | None, students: Sequence[Plugin], data: Data) -> None:
    """Check that the tiers are students of the spec, and that there are rows to choose thresholds on."""
    if cascade is None:
        return
    known = [*(student.name for student in students), TEACHER_TIER]
    unknown = [tier for tier in cascade.tiers if tier not in known]
    if unknown:
        raise ValueError(f"cascade: tiers: {', '.join(unknown)}: expected some of {', '.join(known)}")
    if data.calibration is None and data.pool is None:
        raise ValueError("cascade: thresholds are chosen on real rows: name them under data.calibration or data.pool")
    if cascade.self_verification and data.calibration is None:
        raise ValueError(
            "cascade: self_verification: whether the teacher is right only people can tell: name rows that they "
            "labelled under data.calibration"
        )


def check_making(
    synthesis: SynthesisSpec, augmentation: AugmentationSpec, labelling: LabellingSpec, data: Data
) -> None:
    """Check that what makes rows has what it makes them from."""
    if synthesis.loop is not None and not synthesis.strategies:
        raise ValueError("synthesis.loop: nobody writes: name a strategy, such as attributes, or leave loop out")
    has_rows = data.seeds is not None or data.train is not None
    if not has_rows and augmentation.strategies and augmentation != AugmentationSpec():
        raise ValueError("augmentation varies real labelled rows: name them under data.train or data.seeds")
    if labelling.self_training not in (None, SelfTrainingSpec()) and data.pool is None:
        raise ValueError("labelling.self_training labels rows of a pool: name a file under data.pool")


def _raise_at(found: Sequence[tuple[tuple[int | str, ...], str, Any]], title: str) -> None:
    """Raise what was found wrong inside a value: where, the words, and the input; nothing found raises nothing."""
    details = [
        InitErrorDetails(type=PydanticCustomError("in_our_words", "{words}", {"words": words}), loc=loc, input=given)
        for loc, words, given in found
    ]
    if details:
        raise ValidationError.from_exception_data(title, details)
