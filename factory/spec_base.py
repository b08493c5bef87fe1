"""The base of every model of the spec, and what tasks of every kind have, for the modules that make the spec up."""

import re
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Model(BaseModel):
    """Base of every spec model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        str_strip_whitespace=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # so that editors show them
    )


class Named(Model):
    """What a bare name can stand for."""

    bare: ClassVar[str] = "name"
    """The key that it is the value of."""

    @model_validator(mode="before")
    @classmethod
    def _accept_bare_name(cls, value: Any) -> Any:
        # A number is no name either, but then it is the name that is wrong.
        return {cls.bare: value} if isinstance(value, str | bool | int | float) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(schema)
        definition = handler.resolve_ref_schema(reference)
        mapping = dict(definition)
        definition.clear()
        definition |= {"anyOf": [{"type": "string", "minLength": 1}, mapping]}
        return reference


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


class Label(Named):
    """One answer a row may get; a bare name will do."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """What the student answers; also what the teacher is shown, so a telling name helps."""
    description: Annotated[str, Field(max_length=1_000)] = ""
    """What belongs under this label, in a phrase; defaults to the name."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("a label name is one line of printable characters")
        return name

    @property
    def phrase(self) -> str:
        """The description, or the name in words."""
        return self.description or re.sub(r"[_\-/]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.name)).lower()
