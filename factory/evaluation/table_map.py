"""The data map of a table: rows placed by their cells, each column of the same weight."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from factory.evaluation.data_map import DataMap, DataMapParams, Line, draw_map
from factory.records import Rows
from factory.spec_table import Table
from factory.store import Stage
from factory.students.tables.encoding import Encoding, Input

if TYPE_CHECKING:
    import pyarrow

MOST_VALUES = 30
"""Of a category that become directions of their own, the most frequent first."""
FARTHEST = 3.0
"""Standard deviations after which a number is no farther away: one typing error must not squeeze all others."""


class TableMapParams(DataMapParams):
    """How much is drawn, and what rows hold."""

    table: Table


def table_map(params: TableMapParams, *, rows: Rows, **others: Rows) -> DataMap:
    """Draw rows from each group and place them.

    Args:
        params: How many, and what they hold.
        rows: What students were trained on.
        **others: As `data_map` takes them.

    Returns:
        The map. Numbers are in standard deviations, categories yes or no for each value, what is missing lies in the
        middle.
    """
    types = {field.name: field.type for field in _fields(rows)}
    columns = [column for column in params.table.columns if column.name in types]

    def place(read: list[Line]) -> NDArray[np.float64]:
        import pyarrow as pa

        if not read:
            return np.zeros((0, 2))
        cells = {
            column.name: pa.array([row["features"].get(column.name) for row in read], types[column.name])
            for column in columns
        }
        encoding = Encoding.fit(cells, columns)
        matrix = encoding.matrix(cells).astype(np.float64)
        return np.hstack([_directions(matrix[:, at], one) for at, one in enumerate(encoding.inputs)])

    return draw_map(params, rows, others, place=place, show=lambda row: _shown(params.table, row))


TABLE_MAP = Stage("data-map", 1, TableMapParams, table_map, DataMap)


def _fields(rows: Rows) -> "pyarrow.Schema":
    import pyarrow as pa

    return pa.schema(rows.kept.features.arrow_schema.field("features").type)


def _directions(cells: NDArray[np.float64], one: Input) -> NDArray[np.float64]:
    """Return an input as directions of the map, shape (n_rows, n)."""
    if one.is_category:
        codes = range(min(len(one.values), MOST_VALUES))
        return np.stack([(cells == code).astype(np.float64) for code in codes] or [np.zeros(len(cells))], axis=1)
    known = cells[~np.isnan(cells)]
    spread = float(known.std()) if len(known) else 0.0
    if spread == 0.0:
        return np.zeros((len(cells), 1))
    scaled = np.clip((cells - known.mean()) / spread, -FARTHEST, FARTHEST)
    return np.asarray(np.nan_to_num(scaled)[:, None])


def _shown(table: Table, row: Line) -> tuple[str, str]:
    """Return the cells that are known, and the label; a number is no label to choose by."""
    cells: dict[str, Any] = row["features"]
    said = [f"{name}: {cell}" for name, cell in cells.items() if cell is not None]
    if table.labels:
        return ", ".join(said), str(row["label"] or "")
    answer = [] if row["label"] is None else [f"{table.target.column}: {row['label']:.6g}"]
    return ", ".join([*answer, *said]), ""
