"""Rows of a table without their answers, for what needs real cells and must not know more."""

from typing import Annotated

from pydantic import Field

from factory.records import Rows, all_kept
from factory.spec import Model
from factory.store import Stage


class UnlabelParams(Model):
    """How many rows to take."""

    n: Annotated[int, Field(ge=0)] | None = None
    """The first so many; null: all."""


def unlabel(params: UnlabelParams, *, rows: Rows) -> Rows:
    """Take the answers off rows; of no rows the columns remain."""
    kept = rows.kept if params.n is None else rows.kept.select(range(min(params.n, len(rows.kept))))
    feature = kept.features["label"]
    blank = kept.remove_columns("label").add_column("label", [None] * len(kept), feature=feature)
    return all_kept(blank.select_columns(kept.column_names))


UNLABEL: Stage[Rows] = Stage("unlabel", 1, UnlabelParams, unlabel, Rows)
