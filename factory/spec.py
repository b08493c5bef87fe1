"""The task spec: what `tasks/<name>/spec.yaml` may say, as frozen pydantic models.

Only structure lives here. Names of plugins and their params are checked by the floor that owns their table, data
files by `factory.check`; both report through `SpecError` with the line of the YAML they complain about.
"""

import json
import os
import re
import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from factory.errors import Problem, SpecError
from factory.spec_base import Label as Label
from factory.spec_base import Model as Model
from factory.spec_base import Named
from factory.spec_errors import problems_of
from factory.spec_source import Source, read_source
from factory.spec_table import MOST_COLUMNS, Column, Table, Target, with_table_defaults

SPEC_FILE = "spec.yaml"
REVIEWED_FILE = "reviewed.jsonl"
"""Beside it, where a spec names no other: rows that people labelled in a review."""
PRICES_FILE = Path(__file__).with_name("prices.yaml")

MOST_CHARS = 4_000
"""Of a task's description: it is part of every prompt, and a page of it is more than any teacher heeds."""
MOST_LABELS = 300
"""Nearly every prompt lists them all, so calls and their length grow together: 300 cost 115 million tokens."""
RESERVED_NAMES = {"mlruns"}
"""What else lies in the outputs beside the folders of the tasks."""
RESERVED_TEACHERS = {"encoder", "nearest-description", "params", "reviewed", "rows", "rules", "student", "teacher"}
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
    """Rows that people labelled because no other labeller could; written by `factory review import` and trained on.
    Default: `reviewed.jsonl`, where it exists."""
    ceiling: str | None = None
    """Real labelled rows that are not trained on: they give the ceiling the student is compared with."""
    calibration: str | None = None
    """Gold rows on which the thresholds of a cascade are chosen; nothing is trained on them."""
    holdout: str | None = None
    """Gold rows, read only by the final report."""
    licence: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Under which terms these files came, in words; the card of a release repeats it."""


class Budget(Model):
    """The most a build may ask of the teacher, answers from the cache included; null means no bound."""

    calls: Annotated[int, Field(gt=0)] | None = None
    tokens: Annotated[int, Field(gt=0)] | None = None
    usd: Annotated[float, Field(ge=0)] | None = None


class Prices(Model):
    """What the teacher costs, in US dollars for a million tokens."""

    input_usd_per_million: Annotated[float, Field(ge=0)]
    output_usd_per_million: Annotated[float, Field(ge=0)]


OPENAI_URL = "https://api.openai.com/v1"


class _PriceList(Model):
    """What is in `prices.yaml`."""

    batch_ratio: Annotated[float, Field(gt=0, le=1)]
    models: dict[str, tuple[float, float]]


@cache
def _price_list() -> _PriceList:
    return _PriceList.model_validate(yaml.safe_load(PRICES_FILE.read_text(encoding="utf-8")))


def _is_plain_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # a port that is no number is found when it is asked for
    except ValueError:
        return False
    return bool(re.fullmatch(r"https?://[^@\s]+", url) and parts.hostname)


class TeacherSpec(Model):
    """Which LLM may be asked, how fast, and what may be spent."""

    name: Literal["embedded", "openai", "scripted"] = "embedded"
    model: str | None = None
    """Model name at the endpoint (`openai`), or path of another GGUF file (`embedded`)."""
    base_url: str | None = None
    """Endpoint of an OpenAI-compatible server; default: the value of OPENAI_BASE_URL, else OpenAI's own."""
    mode: Literal["live", "batch"] = "live"
    """`batch` sends requests through the Batch API of `openai`: usually at half the price, answered within a day."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; the key itself is never written anywhere."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Requests in flight at once; default: 4 for the embedded teacher, 8 for others."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    """How long one attempt may take; default: 900 for the embedded teacher, 120 for others."""
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    """How long one request may take with all its attempts; then its row is left out and asked for again next time."""
    hedge_after_s: Annotated[float, Field(gt=0)] | None = None
    """A call without an answer for so long is made a second time and the first answer counts; both are charged."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Tokens of the prompt and the most that may be written, evenly spread, as servers count them."""
    budget: Budget = Budget()
    prices: Prices | None = None
    """What is really paid, in mode `batch` too; default: the list of known prices (factory/prices.yaml) for models of
    OpenAI itself."""

    # Neither message repeats the value: it may hold a secret.
    @field_validator("api_key_env")
    @classmethod
    def _check_variable_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("the name of an environment variable that holds the key, never the key itself")
        return name

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is not None and not _is_plain_url(url):
            raise ValueError("expected http://... or https://... without user and password")
        return url

    @property
    def n_in_flight(self) -> int:
        """Requests in flight at once."""
        # Four already keep two cores busy, and each further slot of llama.cpp reads the shared part of a prompt anew.
        return self.concurrency or (4 if self.name == "embedded" else 8)

    @property
    def known_prices(self) -> Prices | None:
        """Prices of the spec, else those of the list; None where neither knows."""
        if self.prices is not None or self.name != "openai" or self.model is None:
            return self.prices
        if not self.is_openai:
            return None  # another server may serve a model of the same name at any price
        known = _price_list().models.get(re.sub(r"-\d{4}-\d\d-\d\d$", "", self.model))
        ratio = _price_list().batch_ratio if self.mode == "batch" else 1.0
        return known and Prices(input_usd_per_million=known[0] * ratio, output_usd_per_million=known[1] * ratio)

    @property
    def url(self) -> str:
        """Address of an OpenAI-compatible server, from the spec or the environment."""
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL

    @property
    def is_openai(self) -> bool:
        """Whether that is OpenAI itself."""
        parts = urlsplit(self.url)
        return (parts.scheme, parts.hostname) == ("https", "api.openai.com")

    @model_validator(mode="after")
    def _check_money(self) -> "TeacherSpec":
        if self.name == "openai" and self.budget.usd is not None and self.known_prices is None:
            raise ValueError(
                f"a usd budget needs prices, and those of {self.model} are not known: give "
                "prices: {input_usd_per_million, output_usd_per_million}"
            )
        if self.name == "openai" and self.model is None:
            raise ValueError("the openai teacher needs a model name")
        if self.name != "openai" and self.mode == "batch":
            raise ValueError(f"mode batch is for the openai teacher; the {self.name} teacher answers live")
        if self.name == "embedded" and self.hedge_after_s is not None:
            raise ValueError("hedge_after_s: the embedded teacher has nobody to ask a second time but itself")
        return self


class Plugin(Named):
    """A plugin by name with its parameters; a bare name will do."""

    name: Annotated[str, Field(min_length=1)]
    params: dict[str, Any] = Field(default_factory=dict)


class LoopSpec(Model):
    """Further rounds, about what a student that was trained on the rows so far finds hard."""

    rounds: Annotated[int, Field(ge=1, le=20)] = 3
    """At most."""
    prompts_per_round: Annotated[int, Field(ge=2)] | None = None
    """Prompts that ask for texts in a round, at most; null: two for each label. One half is as in any other round and
    tells how much the student has learned, the other half is about hard rows and confused labels."""
    stop_gain: Annotated[float, Field(ge=0, le=1)] = 0.005
    """No further round when the next is expected to gain less agreement with the teacher than this: 0.005 is half a
    point."""


class SynthesisSpec(Model):
    """How training texts are written."""

    strategies: tuple[Plugin, ...] = (Plugin(name="attributes"),)
    per_label: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Accepted rows wanted for each label, real and varied ones included; null: 60, or 10 where the teacher labels a
    pool or there are train rows, since real texts teach more than written ones do."""
    max_rounds: Annotated[int, Field(ge=1, le=20)] = 3
    """Rounds of writing, verifying and counting before a shortfall is accepted and reported. Rows that the last filter,
    `label-noise`, rejects are not written again: it judges a finished set."""
    loop: LoopSpec | None = None
    """Rounds with a student in the loop, after each label has its rows; null: none. `{}` takes the defaults."""


class Rule(Model):
    """A label for every text that holds one of some keywords, or that a regular expression matches."""

    label: str
    keywords: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    """Words or phrases, found whole and in any case."""
    pattern: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    r"""A regular expression in RE2's syntax, which cannot be made to run for ever: no look-around, no references back.
    `\b` and `\w` know the letters a to z only, `\p{L}` all; `(?i)` in front ignores case."""

    @model_validator(mode="after")
    def _check_one_condition(self) -> "Rule":
        if bool(self.keywords) == (self.pattern is not None):
            raise ValueError("expected keywords or a pattern, one of them: {label: refund, keywords: [money back]}")
        return self


class AugmentationSpec(Model):
    """How the rows of `data.seeds` and `data.train` are varied; without such rows nothing is."""

    strategies: tuple[Plugin, ...] = (Plugin(name="more-like-these"), Plugin(name="paraphrase"))
    """An empty list switches it off."""
    per_label: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Texts to ask for from the rows of each label, shared evenly by the strategies; null: 40, or as `per_row` says."""
    per_row: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Texts to ask for from each row instead, so that frequent labels get more of them."""

    @model_validator(mode="after")
    def _check_amount(self) -> "AugmentationSpec":
        if self.per_label is not None and self.per_row is not None:
            raise ValueError("give per_label or per_row, not both")
        return self


class SelfTrainingSpec(Model):
    """How the first of the students labels rows of the pool that no teacher was asked about."""

    per_label: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Rows of each label at most."""
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Of the rows that get a label: the share to take, surest first."""
    weight: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of such a row in training, where one that a teacher labelled has 1."""


class LabellingSpec(Model):
    """What the teacher does after writing."""

    verify: bool = True
    """Label each generated text again, keep the distribution as soft label, reject what disagrees."""
    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Calibrated probability that the teacher's second label needs, where its server gives log-probabilities."""
    on_disagreement: Literal["reject", "relabel"] = "reject"
    """What becomes of a text whose second label is not the one it was written for."""
    soft_labels: bool = False
    """Train students on the teacher's distributions instead of its labels; see docs/decisions/0005."""
    label_pool: Annotated[int, Field(ge=0)] = 400
    """Rows of the pool that the teacher labels for training; 0 for none."""
    voters: tuple[Plugin, ...] = (Plugin(name="teacher"), Plugin(name="nearest-description"))
    """Who has a say on the pool rows that the teacher labelled: `teacher`, `nearest-description`, `rules`, `student`;
    none: its answers stand, without calibration. `teacher` may come several times, with `params: {ask, teacher}`; the
    first of them labels the rows."""
    rules: Annotated[tuple[Rule, ...], Field(max_length=1000)] = ()
    """What the voter `rules` goes by; each rule votes for itself."""
    aggregation: Plugin = Plugin(name="pooled")
    """How votes become one answer: `pooled` multiplies distributions, those of one teacher averaged first; `majority`,
    `dawid-skene`, `mace`, and `discounted`, for voters who repeat each other, count labels."""
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that the winning label must exceed; other rows are left to people (`factory review`)."""
    self_training: SelfTrainingSpec | None = SelfTrainingSpec()
    """Let a student label more of the pool when the teacher's rows are settled; null: no."""
    ask_directly: Annotated[int, Field(ge=0)] = 200
    """Holdout rows on which the teacher itself is measured (a stratified sample); 0 for none."""


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

    @field_validator("tiers")
    @classmethod
    def _check_tiers(cls, tiers: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(tiers)) < len(tiers):
            raise ValueError("a tier is named twice")
        if TEACHER_TIER in tiers[:-1]:
            raise ValueError("the teacher is the dearest tier: put it last")
        return tiers

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
    """What filters, the voter `nearest-description` and its baseline compare texts with: a name, a hub id or a folder.
    Students have an encoder of their own, which is released with them."""
    gate: Gate = Gate()
    cascade: CascadeSpec | None = None
    """Answer with several tiers, the cheapest that is sure enough first."""
    verdict: VerdictSpec = VerdictSpec()
    refuse: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """Share of real texts (of `data.calibration`, else of the pool) that may be refused, so that foreign ones are: such
    answers say `abstained`. Null: every text is answered."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0

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
