"""The task spec: what `tasks/<name>/spec.yaml` may say, as frozen pydantic models.

Only structure lives here: `Spec`, and for whoever needs its parts the models of them. Names of plugins and their params
are checked by the floor that owns their table, data files by `factory.check`; both report through `SpecError` with the
line of the YAML they complain about.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr, model_validator

from factory.spec_base import Kind as Kind
from factory.spec_base import Label as Label
from factory.spec_base import Model as Model
from factory.spec_checks import (
    MOST_CHARS,
    MOST_LABELS,
    check_cascade,
    check_columns,
    check_description,
    check_for_tables,
    check_labels,
    check_left_out,
    check_making,
    check_name,
    check_needed,
    check_priors,
    check_refusal,
    check_target,
    check_teachers,
)
from factory.spec_data import Data as Data
from factory.spec_making import AugmentationSpec as AugmentationSpec
from factory.spec_making import LabellingSpec as LabellingSpec
from factory.spec_making import LoopSpec as LoopSpec
from factory.spec_making import Plugin as Plugin
from factory.spec_making import Rule as Rule
from factory.spec_making import SelfTrainingSpec as SelfTrainingSpec
from factory.spec_making import SynthesisSpec as SynthesisSpec
from factory.spec_release import CascadeSpec as CascadeSpec
from factory.spec_release import Gate as Gate
from factory.spec_release import VerdictSpec as VerdictSpec
from factory.spec_table import Column, PriorsSpec, Table, Target
from factory.spec_teacher import Budget as Budget
from factory.spec_teacher import Prices as Prices
from factory.spec_teacher import TeacherSpec as TeacherSpec

DEFAULT_ENCODER = "all-MiniLM-L6-v2"


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


class Spec(Model):
    """A task: `name`, `kind`, `description` and `labels` are enough for texts, the rest has defaults."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(allOf=_what_kinds_need()))

    name: Annotated[str, AfterValidator(check_name)]
    """Also the name of the outputs folder and of the registered model."""
    kind: Kind
    description: Annotated[
        str,
        Field(min_length=1, json_schema_extra={"maxLength": MOST_CHARS}),
        AfterValidator(check_description),
    ]
    """What the texts are and who writes them, or what the table holds; the teacher reads it in every prompt."""
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None = None
    """Of the texts, as ISO 639 abbreviates it (`en`, `sv`); the cards say it. Null: they say nothing of it."""
    labels: Annotated[
        tuple[Label, ...],
        Field(validate_default=True, json_schema_extra={"minItems": 2, "maxItems": MOST_LABELS}),
        AfterValidator(check_needed),
        AfterValidator(check_labels),
    ] = ()
    """What a row may be; of a table also the values of its target column. A regression has none."""
    columns: Annotated[
        tuple[Column, ...],
        Field(validate_default=True),
        AfterValidator(check_needed),
        AfterValidator(check_columns),
    ] = ()
    """The columns of a table, but for its target."""
    target: Annotated[
        Target | None,
        Field(validate_default=True),
        AfterValidator(check_needed),
        AfterValidator(check_target),
    ] = None
    """What is asked of each row of a table; a bare column name will do."""
    leave_out: Annotated[tuple[str, ...], AfterValidator(check_for_tables), AfterValidator(check_left_out)] = ()
    """Columns that the data files of a table have and no student shall see, because they give the answer away or will
    not be known; they may be described under `columns` all the same."""
    rules: Annotated[tuple[str, ...], AfterValidator(check_for_tables)] = ()
    """What must hold between the columns of a table, such as `years_employed <= age - 14`; see docs/how-to/tables.md.
    A row for which a rule is surely false is an error."""
    priors: Annotated[PriorsSpec, AfterValidator(check_priors)] = PriorsSpec()
    """Of a table: what the teacher believes of its columns, for the student `scorecard`."""
    data: Data = Data()
    teacher: TeacherSpec = TeacherSpec()
    teachers: Annotated[dict[str, TeacherSpec], AfterValidator(check_teachers)] = Field(default_factory=dict)
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
    """All are fitted; one is released: the best out of fold, or, where a teacher wrote most of the rows and such scores
    say little, the first that has an encoder."""
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
    def _check_parts(self) -> "Spec":
        check_refusal(self.refuse, self.data)
        check_cascade(self.cascade, self.students, self.data)
        check_making(self.synthesis, self.augmentation, self.labelling, self.data)
        return self


def spec_schema() -> dict[str, Any]:
    """Return the JSON Schema of `spec.yaml`, which editors complete and check by."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Spec.model_json_schema()}
