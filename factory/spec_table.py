"""What the spec of a table says beside that of texts: its columns, and what is asked of each row."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from factory.spec_base import Label, Model, Named

MOST_COLUMNS = 2_000
"""Of a table: each is a line of the card and a line of the report."""
MOST_VALUES = 10_000
"""Categories that the spec lists for one column."""
DEFAULT_STUDENTS = ("linear", "hist-gradient-boosting", "lightgbm", "ebm")

TABLE_DEFAULTS: dict[str, Any] = {
    "students": list(DEFAULT_STUDENTS),
    "curation": [],
    "synthesis": {"strategies": []},
    "augmentation": {"strategies": []},
    "labelling": {"verify": False, "label_pool": 0, "voters": [], "ask_directly": 0},
}
"""What a spec of a table means where it says nothing: train on the rows that there are, and ask the teacher nothing."""


class ColumnKind(StrEnum):
    """What the cells of a column are."""

    NUMERIC = "numeric"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    ORDINAL = "ordinal"
    """Categories in an order, such as levels of education."""
    DATE = "date"
    TEXT = "text"
    """Free text."""

    @property
    def is_number(self) -> bool:
        """Whether its cells are numbers."""
        return self in (ColumnKind.NUMERIC, ColumnKind.INTEGER)

    @property
    def has_order(self) -> bool:
        """Whether one cell can be more than another."""
        return self not in (ColumnKind.CATEGORY, ColumnKind.TEXT)


CellName = Annotated[str, Field(min_length=1, max_length=200)]
Bounds = tuple[float | None, float | None]


def _wrong(words: str, key: str) -> PydanticCustomError:
    return PydanticCustomError("in_our_words", "{words}", {"words": f"{key}: {words}"})


class Column(Model):
    """One column of the table."""

    name: CellName
    """As in the data files, letter for letter."""
    kind: ColumnKind
    description: Annotated[str, Field(max_length=1_000)] = ""
    """What it means and how it is measured; people and the teacher read it."""
    unit: Annotated[str, Field(max_length=50)] = ""
    """Of a number, such as EUR or months."""
    range: Bounds | None = None
    """Least and greatest number that can be; null on either side for no bound. Data outside it is an error."""
    values: Annotated[tuple[CellName, ...], Field(max_length=MOST_VALUES)] = ()
    """All categories there can be; of an ordinal column from least to most. Default for a category: those of the
    training rows, and a new one counts as missing."""
    monotone: Literal["increasing", "decreasing"] | None = None
    """With more of this the last label becomes more likely or the number greater (increasing), or less so."""
    protected: bool = False
    """Whether the report compares errors over its values, as for sex or age."""
    missing: Literal["allow", "refuse"] = "allow"
    """Empty cells: `allow` lets students learn what it means that nothing is known, `refuse` makes them errors."""
    missing_codes: tuple[str | int | float, ...] = ()
    """What stands for an empty cell in the data files, such as ? or -1. NA is text unless it is named here."""
    date_order: Literal["day-first", "month-first"] | None = None
    """What 03/04/2024 means; 2024-04-03 and 03.04.2024 need no telling."""

    @model_validator(mode="after")
    def _check_fit(self) -> "Column":
        kind = self.kind
        if kind is ColumnKind.ORDINAL and len(self.values) < 2:
            raise _wrong("an ordinal column lists at least two, from least to most", "values")
        if self.values and kind not in (ColumnKind.CATEGORY, ColumnKind.ORDINAL):
            raise _wrong(f"only a category or ordinal column has them, and {self.name!r} is {kind}", "values")
        repeated = next((value for at, value in enumerate(self.values) if value in self.values[:at]), None)
        if repeated is not None:
            raise _wrong(f"{repeated!r} is given twice", "values")
        if (self.range or self.unit) and not kind.is_number:
            key = "range" if self.range else "unit"
            raise _wrong(f"only a numeric or integer column has one, and {self.name!r} is {kind}", key)
        _check_range(self.range)
        if self.monotone and not kind.has_order:
            raise _wrong(f"{self.name!r} is {kind}, which has no more and less", "monotone")
        if self.date_order and kind is not ColumnKind.DATE:
            raise _wrong(f"only a date column has one, and {self.name!r} is {kind}", "date_order")
        return self

    @property
    def phrase(self) -> str:
        """The description, or the name in words; with the unit."""
        words = self.description or self.name.replace("_", " ")
        return f"{words} ({self.unit})" if self.unit else words


class PriorsSpec(Model):
    """What the teacher is asked about the columns of a table, instead of about its rows."""

    ask: Literal["auto", "always", "never"] = "auto"
    """`auto`: where there are no labelled rows; and where there are fewer than 200 and the spec names a teacher."""
    wordings: Annotated[int, Field(ge=1, le=2)] = 1
    """Orders in which each question names the answers; a column on which two disagree counts for less."""


class Target(Named):
    """What is asked of each row: for a classification one of the spec's `labels`, for a regression a number."""

    bare: ClassVar[str] = "column"

    column: CellName
    """Its column in the data files; JSON rows may call it `target` instead."""
    description: Annotated[str, Field(max_length=1_000)] = ""
    unit: Annotated[str, Field(max_length=50)] = ""
    """Of the number."""
    range: Bounds | None = None
    """Least and greatest number that can be; null on either side for no bound."""

    @model_validator(mode="after")
    def _check_fit(self) -> "Target":
        _check_range(self.range)
        return self


class Table(Model):
    """What the rows of a table hold, as far as stages need to know: `Spec.table`."""

    columns: tuple[Column, ...]
    """Those that students see, in the order of the spec."""
    target: Target
    labels: tuple[Label, ...]
    """Spec order; empty for a regression."""
    left_out: tuple[str, ...] = ()
    """Columns of the files that are skipped."""
    rules: tuple[str, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        """Label names in spec order; empty for a regression."""
        return tuple(label.name for label in self.labels)


def _check_range(bounds: Bounds | None) -> None:
    low, high = bounds or (None, None)
    if low is not None and high is not None and not low < high:
        raise _wrong(f"expected the least number first, got [{low:g}, {high:g}]", "range")


def with_table_defaults(data: Any) -> Any:
    """Fill what the spec of a table leaves out, key by key; other specs come back as they are."""
    if not isinstance(data, dict) or not str(data.get("kind", "")).startswith("tabular-"):
        return data
    filled = dict(data)
    for key, default in TABLE_DEFAULTS.items():
        given = filled.get(key, default)
        both = isinstance(given, dict) and isinstance(default, dict)
        filled[key] = {**default, **given} if both else given
    return filled
