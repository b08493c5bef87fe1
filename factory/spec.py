"""The task spec: what `tasks/<name>/spec.yaml` may say, as frozen pydantic models.

Only structure lives here. Names of plugins and their params are checked by the floor that owns their table, data
files by `factory.check`; both report through `SpecError` with the line of the YAML they complain about.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PrivateAttr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from factory.errors import Problem, SpecError
from factory.spec_base import Label as Label
from factory.spec_base import Model as Model
from factory.spec_errors import problems_of
from factory.spec_making import AugmentationSpec as AugmentationSpec
from factory.spec_making import LabellingSpec as LabellingSpec
from factory.spec_making import LoopSpec as LoopSpec
from factory.spec_making import Plugin as Plugin
from factory.spec_making import Rule as Rule
from factory.spec_making import SelfTrainingSpec as SelfTrainingSpec
from factory.spec_making import SynthesisSpec as SynthesisSpec
from factory.spec_source import Source, read_source
from factory.spec_table import MOST_COLUMNS, Column, PriorsSpec, Table, Target, with_table_defaults
from factory.spec_teacher import Budget as Budget
from factory.spec_teacher import Prices as Prices
from factory.spec_teacher import TeacherSpec as TeacherSpec

SPEC_FILE = "spec.yaml"
REVIEWED_FILE = "reviewed.jsonl"
ORDERED_FILE = "ordered.jsonl"
UNLABELLED = frozenset({"pool", "ordered"})
"""Data files whose rows need no label; one that is there is not read."""
"""Beside it, where a spec names no other: rows that people labelled in a review."""

MOST_CHARS = 4_000
"""Of a task's description: it is part of every prompt, and a page of it is more than any teacher heeds."""
MOST_LABELS = 300
"""Nearly every prompt lists them all, so calls and their length grow together: 300 cost 115 million tokens."""
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
DEFAULT_ENCODER = "all-MiniLM-L6-v2"
SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""Task names become folder names, registry names and URLs."""


class Kind(StrEnum):
    """What a row and its label look like."""

    TEXT_CLASSIFICATION = "text-classification"
    TABULAR_CLASSIFICATION = "tabular-classification"
    TABULAR_REGRESSION = "tabular-regression"

    @property
    def is_table(self) -> bool:
        """Whether a row is a line of a table."""
        return self is not Kind.TEXT_CLASSIFICATION

    @property
    def has_labels(self) -> bool:
        """Whether the answer is one of some labels; else it is a number."""
        return self is not Kind.TABULAR_REGRESSION


class Data(Model):
    """Files of the task folder; every one is optional."""

    seeds: str | None = None
    """A few labelled examples written by people."""
    pool: str | None = None
    """Real texts without labels."""
    train: str | None = None
    """Real labelled rows to train on, beside what is made of them and written."""
    reviewed: str | None = None
    """What people said about rows: which label they have, which are never trained on; written by `factory review`.
    Default: `reviewed.jsonl`, where it exists."""
    ordered: str | None = None
    """Texts that a model in use lacked; written by `factory improve`. The teacher labels every one of them. Default:
    `ordered.jsonl`, where it exists."""
    ceiling: str | None = None
    """Real labelled rows that are not trained on: they give the ceiling the student is compared with."""
    calibration: str | None = None
    """Gold rows on which the thresholds of a cascade are chosen; nothing is trained on them."""
    holdout: str | None = None
    """Gold rows, read only by the final report."""
    licence: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Under which terms these files came, in words; the card of a release repeats it."""


class Gate(Model):
    """Bounds a candidate must meet to become champion; null bounds are not checked."""

    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    macro_f1: Annotated[float, Field(ge=0, le=1)] | None = None
    auc: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of a table with labels: how often a row of the last label is ranked above another."""
    r2: Annotated[float, Field(le=1)] | None = None
    """Of a table with numbers: the share of their variance that is explained."""
    p95_ms: Annotated[float, Field(gt=0)] | None = None
    size_mb: Annotated[float, Field(gt=0)] | None = None


TEACHER_TIER = "teacher"


class CascadeSpec(Model):
    """Several answerers in a row, and what is promised of them together; all that is given must hold at once."""

    tiers: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=2, max_length=4)]
    """Students of the spec, cheapest first; the last may be `teacher`."""
    accuracy: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of all answers that must be right."""
    within: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Accuracy that may be lost against the best tier, such as 0.005; where nothing else is given, that."""
    teacher_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of texts that may reach the last tier."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Probability that the promise does not hold."""
    n_rows: Annotated[int, Field(ge=3)] = 1000
    """Rows of the pool that the teacher labels to choose the thresholds on, where there is no `data.calibration`."""
    self_verification: bool = False
    """The teacher says of each answer it gives whether it is right, and where it is not sure enough nobody answers:
    `abstained`. The promise is then one about the answers that are given. Needs `accuracy` and `data.calibration`."""

    @field_validator("tiers")
    @classmethod
    def _check_tiers(cls, tiers: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(tiers)) < len(tiers):
            raise ValueError("a tier is named twice")
        if TEACHER_TIER in tiers[:-1]:
            raise ValueError("the teacher is the dearest tier: put it last")
        return tiers

    @model_validator(mode="after")
    def _check_verification(self) -> "CascadeSpec":
        if self.self_verification and self.tiers[-1] != TEACHER_TIER:
            raise ValueError("self_verification: the teacher verifies its own answers: name it last among the tiers")
        if self.self_verification and self.accuracy is None:
            raise ValueError(
                "self_verification: answers are given up so that those that are given are right: say under accuracy "
                "how many of them"
            )
        return self

    @property
    def loss_margin(self) -> float | None:
        """What may be lost against each tier; None when that is not promised."""
        return 0.005 if self.accuracy is None and self.teacher_share is None and self.within is None else self.within

    @property
    def bounds_loss(self) -> bool:
        """Whether accuracy is promised; then the cheapest thresholds are wanted, else the most accurate."""
        return self.accuracy is not None or self.loss_margin is not None

    @property
    def rates(self) -> tuple[float, ...]:
        """How frequent a wrong answer, and a call of the last tier, may be, of those that are bounded."""
        wrong = () if self.accuracy is None else (1 - self.accuracy,)
        return wrong if self.teacher_share is None else (*wrong, self.teacher_share)


def _what_kinds_need() -> list[Any]:
    """Return the part of the JSON Schema that says which keys which kind must have."""
    needed = {
        kind: [
            key
            for key, is_needed in (("labels", kind.has_labels), ("columns", kind.is_table), ("target", kind.is_table))
            if is_needed
        ]
        for kind in Kind
    }
    return [
        {"if": {"properties": {"kind": {"const": kind.value}}}, "then": {"required": keys}}
        for kind, keys in needed.items()
    ]


class VerdictSpec(Model):
    """When the student may replace the LLM, and what its own machine costs."""

    margin: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Accuracy the student may surely not lose against the teacher."""
    machine_usd_per_hour: Annotated[float, Field(ge=0)] | None = None
    """Of the machine the student runs on, to count its answers in money too."""


class Spec(Model):
    """A task: `name`, `kind`, `description` and `labels` are enough for texts, the rest has defaults."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(allOf=_what_kinds_need()))

    name: str
    """Also the name of the outputs folder and of the registered model."""
    kind: Kind
    description: Annotated[str, Field(min_length=1, json_schema_extra={"maxLength": MOST_CHARS})]
    """What the texts are and who writes them, or what the table holds; the teacher reads it in every prompt."""
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None = None
    """Of the texts, as ISO 639 abbreviates it (`en`, `sv`); the cards say it. Null: they say nothing of it."""
    labels: Annotated[
        tuple[Label, ...],
        Field(validate_default=True, json_schema_extra={"minItems": 2, "maxItems": MOST_LABELS}),
    ] = ()
    """What a row may be; of a table also the values of its target column. A regression has none."""
    columns: Annotated[tuple[Column, ...], Field(validate_default=True)] = ()
    """The columns of a table, but for its target."""
    target: Annotated[Target | None, Field(validate_default=True)] = None
    """What is asked of each row of a table; a bare column name will do."""
    leave_out: tuple[str, ...] = ()
    """Columns that the data files of a table have and no student shall see, because they give the answer away or will
    not be known; they may be described under `columns` all the same."""
    rules: tuple[str, ...] = ()
    """What must hold between the columns of a table, such as `years_employed <= age - 14`; see docs/how-to/tables.md.
    A row for which a rule is surely false is an error."""
    priors: PriorsSpec = PriorsSpec()
    """Of a table: what the teacher believes of its columns, for the student `scorecard`."""
    data: Data = Data()
    teacher: TeacherSpec = TeacherSpec()
    teachers: dict[str, TeacherSpec] = Field(default_factory=dict)
    """Other LLMs by a name of your choice, each with a budget of its own; they vote on pool rows where
    `labelling.voters` asks them: `{name: teacher, params: {teacher: NAME}}`."""
    augmentation: AugmentationSpec = AugmentationSpec()
    synthesis: SynthesisSpec = SynthesisSpec()
    labelling: LabellingSpec = LabellingSpec()
    curation: tuple[Plugin, ...] = (Plugin(name="dedup"), Plugin(name="leakage"), Plugin(name="label-noise"))
    students: Annotated[tuple[Plugin, ...], Field(min_length=1)] = (
        Plugin(name="blend"),
        Plugin(name="sentence-linear"),
        Plugin(name="static-embedding"),
        Plugin(name="tfidf-linear"),
    )
    encoder: Annotated[str, Field(min_length=1)] = DEFAULT_ENCODER
    """What filters, the voters `clusters` and `nearest-description` and the baseline compare texts with: a name, a
    hub id or a folder.
    Students have an encoder of their own, which is released with them."""
    gate: Gate = Gate()
    promotion: Literal["gate", "ask"] = "gate"
    """Who makes a version the champion: its gate alone, or a person is asked once it has passed."""
    cascade: CascadeSpec | None = None
    """Answer with several tiers, the cheapest that is sure enough first."""
    verdict: VerdictSpec = VerdictSpec()
    refuse: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """Share of real texts (of `data.calibration`, else of the pool) that may be refused, so that foreign ones are: such
    answers say `abstained`. Null: every text is answered."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    # Noted when the file is read: a copy with another budget counts `teacher` among the fields that were set.
    _names_teacher: bool = PrivateAttr(default=False)

    def model_post_init(self, _context: Any) -> None:
        """Note what the file itself says."""
        self._names_teacher = "teacher" in self.model_fields_set

    @property
    def names_teacher(self) -> bool:
        """Whether the spec itself has a `teacher`, whatever a run wants otherwise."""
        return self._names_teacher

    @property
    def label_names(self) -> tuple[str, ...]:
        """Label names in spec order: the column order of every probability matrix."""
        return tuple(label.name for label in self.labels)

    @property
    def table(self) -> Table | None:
        """What the rows of a table hold; None for texts."""
        if self.target is None:
            return None
        columns = tuple(column for column in self.columns if column.name not in self.leave_out)
        return Table(columns=columns, target=self.target, labels=self.labels, left_out=self.leave_out, rules=self.rules)

    @property
    def wanted_per_label(self) -> int:
        """Accepted rows wanted for each label."""
        has_pool = self.data.pool is not None and self.labelling.label_pool > 0
        return self.synthesis.per_label or (10 if has_pool or self.data.train is not None else 60)

    @model_validator(mode="after")
    def _check_refusal(self) -> "Spec":
        if self.refuse is not None and self.data.calibration is None and self.data.pool is None:
            raise ValueError("refuse: what is familiar is learned from real texts: name data.calibration or data.pool")
        return self

    @model_validator(mode="after")
    def _check_cascade(self) -> "Spec":
        if self.cascade is None:
            return self
        known = [*(student.name for student in self.students), TEACHER_TIER]
        unknown = [tier for tier in self.cascade.tiers if tier not in known]
        if unknown:
            raise ValueError(f"cascade: tiers: {', '.join(unknown)}: expected some of {', '.join(known)}")
        if self.data.calibration is None and self.data.pool is None:
            raise ValueError(
                "cascade: thresholds are chosen on real rows: name them under data.calibration or data.pool"
            )
        if self.cascade.self_verification and self.data.calibration is None:
            raise ValueError(
                "cascade: self_verification: whether the teacher is right only people can tell: name rows that they "
                "labelled under data.calibration"
            )
        return self

    @model_validator(mode="after")
    def _check_loop(self) -> "Spec":
        if self.synthesis.loop is not None and not self.synthesis.strategies:
            raise ValueError("synthesis.loop: nobody writes: name a strategy, such as attributes, or leave loop out")
        return self

    @model_validator(mode="after")
    def _check_augmentation(self) -> "Spec":
        has_rows = self.data.seeds is not None or self.data.train is not None
        if not has_rows and self.augmentation.strategies and self.augmentation != AugmentationSpec():
            raise ValueError("augmentation varies real labelled rows: name them under data.train or data.seeds")
        return self

    @model_validator(mode="after")
    def _check_self_training(self) -> "Spec":
        if self.labelling.self_training not in (None, SelfTrainingSpec()) and self.data.pool is None:
            raise ValueError("labelling.self_training labels rows of a pool: name a file under data.pool")
        return self

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not SAFE_NAME.fullmatch(name):
            raise ValueError("use 1 to 64 lower-case letters, digits, `-` and `_`, starting with a letter or digit")
        if name in RESERVED_NAMES:
            raise ValueError(f"{name!r} is the name of a folder that the outputs have already: choose another")
        return name

    @field_validator("teachers")
    @classmethod
    def _check_teachers(cls, teachers: dict[str, TeacherSpec]) -> dict[str, TeacherSpec]:
        for name in teachers:
            if not SAFE_NAME.fullmatch(name):
                rule = "1 to 64 lower-case letters, digits, `-` and `_`, starting with a letter or digit"
                raise ValueError(f"{name!r}: a teacher's name has {rule}")
            if name in RESERVED_TEACHERS:
                raise ValueError(f"{name!r} is the name of something else where votes are counted: choose another")
        return teachers

    @field_validator("description")
    @classmethod
    def _check_length(cls, description: str) -> str:
        if len(description) > MOST_CHARS:
            found = f"expected at most {MOST_CHARS:,} characters, got {len(description):,}"
            raise ValueError(f"{found}: it is part of every prompt, so keep it to what tells the texts apart")
        return description

    # A kind that is wrong itself has no further wishes.
    @field_validator("labels", "columns", "target")
    @classmethod
    def _check_needed(cls, value: Any, info: ValidationInfo) -> Any:
        kind, key = info.data.get("kind"), info.field_name
        needed = kind is None or (kind.has_labels if key == "labels" else kind.is_table)
        if not value and needed and kind is not None:
            raise PydanticCustomError("missing", "is missing")
        if value and not needed:
            what = "a regression answers with a number" if key == "labels" else "only a table has them"
            raise ValueError(f"{what}, and the kind of this task is {kind}")
        return value

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        if len(columns) > MOST_COLUMNS:
            raise ValueError(f"expected at most {MOST_COLUMNS:,} entries, got {len(columns):,}")
        names = [column.name for column in columns]
        twice = [at for at, name in enumerate(names) if name in names[:at]]
        _raise_at([((at, "name"), f"{names[at]!r} is given twice", names[at]) for at in twice], "columns")
        return columns

    @field_validator("target")
    @classmethod
    def _check_target(cls, target: Target | None, info: ValidationInfo) -> Target | None:
        if target is None:
            return None
        if any(column.name == target.column for column in info.data.get("columns", ())):
            raise ValueError(f"{target.column!r} is described under `columns` too: a student shall not see it")
        kind = info.data.get("kind")
        if kind is Kind.TABULAR_CLASSIFICATION and (target.unit or target.range):
            raise ValueError("only a number has a unit or a range, and this task answers with a label")
        return target

    @field_validator("leave_out", "rules")
    @classmethod
    def _check_for_tables(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        kind, target, columns = (info.data.get(key) for key in ("kind", "target", "columns"))
        if names and kind is not None and not kind.is_table:
            raise ValueError(f"only a table has them, and the kind of this task is {kind}")
        if info.field_name == "rules":
            return names
        if target is not None and target.column in names:
            raise ValueError(f"{target.column!r} is the target")
        if columns and all(column.name in names for column in columns):
            raise ValueError("nothing is left to learn from")
        return names

    @field_validator("priors")
    @classmethod
    def _check_priors(cls, priors: PriorsSpec, info: ValidationInfo) -> PriorsSpec:
        kind = info.data.get("kind")
        if priors != PriorsSpec() and kind is not None and not kind.is_table:
            raise ValueError(f"only a table has columns to ask about, and the kind of this task is {kind}")
        return priors

    @field_validator("labels")
    @classmethod
    def _check_number(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        if len(labels) == 1:
            raise ValueError("expected at least 2 entries, got 1")
        if len(labels) > MOST_LABELS:
            found = f"expected at most {MOST_LABELS:,} entries, got {len(labels):,}"
            raise ValueError(f"{found}: prompts list them all; split the task into coarse and fine ones")
        return labels

    @field_validator("labels")
    @classmethod
    def _check_duplicates(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
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


def _raise_at(found: Sequence[tuple[tuple[int | str, ...], str, Any]], title: str) -> None:
    """Raise what was found wrong inside a value: where, the words, and the input; nothing found raises nothing."""
    details = [
        InitErrorDetails(type=PydanticCustomError("in_our_words", "{words}", {"words": words}), loc=loc, input=given)
        for loc, words, given in found
    ]
    if details:
        raise ValidationError.from_exception_data(title, details)


def load_spec(folder: Path) -> Spec:
    """Read the structure of a task folder's spec; `factory.check.check_task` looks at plugins and data too.

    Args:
        folder: A task folder, with a `spec.yaml` in it.

    Returns:
        The spec.

    Raises:
        SpecError: The folder or the file is missing or wrong; holds every problem of the structure.
    """
    spec, problems = parse_spec(spec_source(folder))
    if spec is None:
        raise SpecError(problems)
    return spec


def spec_source(folder: Path) -> Source:
    """Read `spec.yaml` of a task folder as plain data with lines.

    Args:
        folder: A task folder.

    Returns:
        The data, whatever it says.

    Raises:
        SpecError: There is no such folder or file, or it is no YAML mapping.
    """
    if not folder.exists():
        raise SpecError([Problem(folder, None, "", "no such folder")])
    if not folder.is_dir():
        raise SpecError([Problem(folder, None, "", f"expected a task folder with a {SPEC_FILE} in it, got a file")])
    return read_source(folder / SPEC_FILE)


def parse_spec(source: Source) -> tuple[Spec | None, list[Problem]]:
    """Validate what a file says: return the spec, or None and every problem of its structure."""
    try:
        # Strict, so that `seed: true` is not 1; through JSON, where strict still takes lists for tuples.
        return Spec.model_validate_json(json.dumps(with_table_defaults(source.data)), strict=True), []
    except ValidationError as error:
        return None, problems_of(error, Spec, source)


def spec_schema() -> dict[str, Any]:
    """Return the JSON Schema of `spec.yaml`, which editors complete and check by."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Spec.model_json_schema()}
