"""The task spec: what `tasks/<name>/spec.yaml` may say, as frozen pydantic models.

Only structure lives here. Names of plugins and their params are checked by the floor that owns their table, data
files by `factory.check`; both report through `SpecError` with the line of the YAML they complain about.
"""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""Task names become folder names, registry names and URLs."""


class Model(BaseModel):
    """Base of every spec model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Kind(StrEnum):
    """What a row and its label look like."""

    TEXT_CLASSIFICATION = "text-classification"


class Label(Model):
    """One answer a row may get."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """What the student answers; also what the teacher is shown, so a telling name helps."""
    description: str = ""
    """What belongs under this label, in a phrase; defaults to the name."""

    @property
    def phrase(self) -> str:
        """The description, or the name in words."""
        return self.description or re.sub(r"[_\-/]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.name)).lower()


class Data(Model):
    """Files of the task folder; every one is optional."""

    seeds: str | None = None
    """A few labelled examples written by people."""
    pool: str | None = None
    """Real texts without labels."""
    train: str | None = None
    """Real labelled rows; when present they give the ceiling the student is compared with."""
    holdout: str | None = None
    """Gold rows, read only by the final report."""


class Budget(Model):
    """The most a build may ask of the teacher, answers from the cache included; null means no bound."""

    calls: Annotated[int, Field(gt=0)] | None = None
    tokens: Annotated[int, Field(gt=0)] | None = None
    usd: Annotated[float, Field(ge=0)] | None = None


class Prices(Model):
    """What the teacher costs, in US dollars for a million tokens."""

    input_usd_per_million: Annotated[float, Field(ge=0)]
    output_usd_per_million: Annotated[float, Field(ge=0)]


class TeacherSpec(Model):
    """Which LLM may be asked, how fast, and what may be spent."""

    name: Literal["embedded", "openai", "scripted"] = "embedded"
    model: str | None = None
    """Model name at the endpoint (`openai`), or path of another GGUF file (`embedded`)."""
    base_url: str | None = None
    """Endpoint of an OpenAI-compatible server; default: the value of OPENAI_BASE_URL, else OpenAI's own."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; the key itself is never written anywhere."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 8
    """Requests in flight at once."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """How long one request may take."""
    budget: Budget = Budget()
    prices: Prices | None = None

    @model_validator(mode="after")
    def _check_money(self) -> "TeacherSpec":
        if self.name == "openai" and self.budget.usd is not None and self.prices is None:
            raise ValueError("a usd budget needs prices: {input_usd_per_million, output_usd_per_million}")
        if self.name == "openai" and self.model is None:
            raise ValueError("the openai teacher needs a model name")
        return self


class Plugin(Model):
    """A plugin by name with its parameters; in YAML a bare name will do."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class SynthesisSpec(Model):
    """How training texts are written."""

    strategies: tuple[Plugin, ...] = (Plugin(name="attributes"),)
    per_label: Annotated[int, Field(ge=1, le=100_000)] = 60
    """Accepted rows wanted for each label."""
    max_rounds: Annotated[int, Field(ge=1, le=20)] = 3
    """Rounds of writing, verifying and counting before a shortfall is accepted and reported."""


class LabellingSpec(Model):
    """What the teacher does after writing."""

    verify: bool = True
    """Label each generated text again, keep the distribution as soft label, reject what disagrees."""
    ask_directly: Annotated[int, Field(ge=0)] = 200
    """Holdout rows on which the teacher itself is measured (a stratified sample); 0 for none."""


class Gate(Model):
    """Bounds a candidate must meet to become champion; null bounds are not checked."""

    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    macro_f1: Annotated[float, Field(ge=0, le=1)] | None = None
    p95_ms: Annotated[float, Field(gt=0)] | None = None
    size_mb: Annotated[float, Field(gt=0)] | None = None


class Spec(Model):
    """A task: `name`, `kind`, `description` and `labels` are enough, the rest has defaults."""

    name: str
    """Also the name of the outputs folder and of the registered model."""
    kind: Kind
    description: Annotated[str, Field(min_length=1)]
    """What the texts are and who writes them; the teacher reads it in every prompt."""
    labels: Annotated[tuple[Label, ...], Field(min_length=2)]
    data: Data = Data()
    teacher: TeacherSpec = TeacherSpec()
    synthesis: SynthesisSpec = SynthesisSpec()
    labelling: LabellingSpec = LabellingSpec()
    curation: tuple[Plugin, ...] = (Plugin(name="dedup"), Plugin(name="leakage"), Plugin(name="label-noise"))
    students: Annotated[tuple[Plugin, ...], Field(min_length=1)] = (
        Plugin(name="tfidf-linear"),
        Plugin(name="static-embedding"),
        Plugin(name="sentence-linear"),
    )
    gate: Gate = Gate()
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0

    @property
    def label_names(self) -> tuple[str, ...]:
        """Label names in spec order: the column order of every probability matrix."""
        return tuple(label.name for label in self.labels)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not SAFE_NAME.fullmatch(name):
            raise ValueError("use 1 to 64 lower-case letters, digits, `-` and `_`, starting with a letter or digit")
        return name

    @field_validator("labels", mode="before")
    @classmethod
    def _accept_bare_labels(cls, value: object) -> object:
        return _expand_names(value)

    @field_validator("curation", "students", mode="before")
    @classmethod
    def _accept_bare_plugins(cls, value: object) -> object:
        return _expand_names(value)

    @field_validator("labels")
    @classmethod
    def _check_duplicates(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        seen: dict[str, str] = {}
        for label in labels:
            folded = label.name.casefold()
            if folded in seen:
                raise ValueError(f"two labels are called {label.name!r} and {seen[folded]!r}")
            seen[folded] = label.name
        return labels


def _expand_names(value: object) -> object:
    """Let a list hold bare names beside mappings."""
    if isinstance(value, list | tuple):
        return [{"name": item} if isinstance(item, str) else item for item in value]
    return value
