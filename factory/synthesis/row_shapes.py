"""What real rows of a label have in each column: cells to draw, and the JSON Schema of a row to be written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.spec_table import Column, ColumnKind, Table

MOST_ENUM = 100
"""Values of a category that the schema lists; of one with more, any text will do and be checked afterwards."""
MOST_DECIMALS = 4


@dataclass(frozen=True)
class Shape:
    """What the real rows of a label have in one column."""

    column: Column
    known: tuple[Any, ...]
    decimals: int = 0

    @classmethod
    def of(cls, column: Column, cells: Sequence[Any]) -> "Shape":
        """Look at the cells of a column."""
        known = tuple(cell for cell in cells if cell is not None)
        places = (
            [len(f"{cell:.{MOST_DECIMALS}f}".rstrip("0").partition(".")[2]) for cell in known]
            if column.kind.is_number
            else []
        )
        return cls(column, known, max(places, default=0))

    @property
    def can_be_drawn(self) -> bool:
        """Whether a cell of it can be given; dates and texts are for the teacher."""
        return bool(self.known) and self.column.kind not in (ColumnKind.DATE, ColumnKind.TEXT)

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw a cell: a number between two of the real rows, or what one of them has."""
        if not self.column.kind.is_number:
            return self.known[rng.integers(len(self.known))]
        number = float(np.quantile(np.array(self.known, dtype=np.float64), rng.random()))
        return (
            round(number)
            if self.column.kind is ColumnKind.INTEGER or not self.decimals
            else round(number, self.decimals)
        )

    @property
    def schema(self) -> dict[str, Any]:
        """What JSON Schema can say of a cell."""
        kind = self.column.kind
        if kind is ColumnKind.BOOLEAN:
            return {"type": "boolean"}
        if kind.is_number:
            return {"type": "integer" if kind is ColumnKind.INTEGER or not self.decimals else "number"}
        values = self.column.values or (tuple(dict.fromkeys(self.known)) if kind is ColumnKind.CATEGORY else ())
        return {"type": "string", "enum": list(values)} if 0 < len(values) <= MOST_ENUM else {"type": "string"}


def draw_cells(table: Table, shapes: Mapping[str, Shape], n_given: int, rng: np.random.Generator) -> dict[str, Any]:
    """Draw some cells of a row, each column by itself."""
    names = [column.name for column in table.columns if shapes[column.name].can_be_drawn]
    chosen = sorted(rng.permutation(len(names))[:n_given].tolist())
    return {names[at]: shapes[names[at]].draw(rng) for at in chosen}


def rows_schema(table: Table, shapes: Mapping[str, Shape], drawn: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a schema of one object a row; the order of its keys is the order of writing, given cells first."""

    def one_row(given: Mapping[str, Any]) -> dict[str, Any]:
        cells = {name: {"enum": [cell]} for name, cell in given.items()}
        cells |= {column.name: shapes[column.name].schema for column in table.columns if column.name not in given}
        return {"type": "object", "properties": cells, "required": list(cells), "additionalProperties": False}

    cases = {f"case_{number}": one_row(given) for number, given in enumerate(drawn, 1)}
    return {"type": "object", "properties": cases, "required": list(cases), "additionalProperties": False}


def as_json(row: Mapping[str, Any]) -> str:
    """Write a real row, or some cells, as the teacher shall: what is known, whole numbers without a point."""
    return json.dumps({name: _plain(cell) for name, cell in row.items() if cell is not None}, ensure_ascii=False)


def _plain(cell: Any) -> Any:
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return cell.isoformat() if hasattr(cell, "isoformat") else cell
