"""Rows of a table: typed cells of Arrow in, and out of, a `Dataset`; a row never becomes a Python object."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from factory.records import Origin, column_of

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset


def table_dataset(
    cells: "Mapping[str, pyarrow.Array]",
    label: "pyarrow.Array",
    *,
    origin: Origin,
    strategy: str = "",
    teacher: str = "",
    weight: float = 1.0,
    **given: "pyarrow.Array",
) -> "Dataset":
    """Put rows of a table into a `Dataset`, column by column: a row never becomes a Python object.

    Args:
        cells: Typed cells by column (`factory.tables.cells`), null where missing; they become the struct column
            `features`. Its order of columns is part of the row format and of the ids.
        label: Text for a classification, float64 for a regression, null where it is not known.
        origin: Who made the rows.
        strategy: The strategy that wrote all of them, if one did.
        teacher: Identity of the teacher that wrote or labelled all of them, if one did.
        weight: Of each row.
        **given: Columns of `text_features` that differ from row to row, such as `label_probs`.

    Returns:
        Rows with the columns of `text_features`, but `features` for `text`, and `label` of the type given.
    """
    import pyarrow as pa
    from datasets import Dataset

    n_rows = len(label)
    texts, numbers = pa.list_(pa.string()), pa.list_(pa.float64())
    columns: dict[str, pyarrow.Array] = {
        "id": cell_ids(cells, n_rows),
        "features": pa.StructArray.from_arrays(list(cells.values()), names=list(cells)),
        "label": label,
        "label_probs": pa.nulls(n_rows, numbers),
        "origin": pa.repeat(pa.scalar(origin.value), n_rows),
        "strategy": pa.repeat(pa.scalar(strategy), n_rows),
        "teacher": pa.repeat(pa.scalar(teacher), n_rows),
        "parents": pa.array([[]], texts).take(pa.repeat(pa.scalar(0), n_rows)),
        "weight": pa.repeat(pa.scalar(weight), n_rows),
        "replies": pa.array([[]], texts).take(pa.repeat(pa.scalar(0), n_rows)),
        **given,
    }
    return Dataset(pa.table(columns))


def cells_of(rows: "Dataset") -> "dict[str, pyarrow.Array]":
    """Return the typed cells of rows of a table by column, in the order of the rows."""
    import pyarrow as pa

    features = column_of(rows, "features")
    return {field.name: features.field(index) for index, field in enumerate(pa.schema(features.type))}


def rows_at(rows: "Dataset", positions: "NDArray[np.intp]") -> "Dataset":
    """Return the rows of a table at some positions as a copy: of many rows far faster to read than `select`."""
    import pyarrow as pa
    from datasets import Dataset

    whole = rows.with_format("arrow")[:] if len(rows) else rows.features.arrow_schema.empty_table()
    return Dataset(whole.take(pa.array(positions)))


def cell_ids(cells: "Mapping[str, pyarrow.Array]", n_rows: int) -> "pyarrow.Array":
    """Return the id of each row of a table: a hash of its cells, the same whatever its label.

    Args:
        cells: Typed cells by column, in the order of the spec.
        n_rows: How many rows there are.

    Returns:
        16 hex digits each: SHA-256 over 8 bytes a cell, which are the number itself or the hash of the text.
    """
    import pyarrow as pa

    matrix = np.zeros((n_rows, len(cells)), dtype=np.uint64)
    for position, column in enumerate(cells.values()):
        matrix[:, position] = _cell_keys(column)
    names = hashlib.sha256(json.dumps(list(cells), ensure_ascii=False).encode("utf-8", "surrogatepass")).digest()
    return pa.array([hashlib.sha256(names + line.tobytes()).hexdigest()[:16] for line in matrix], pa.string())


_MISSING = np.uint64(0x7FF8_0000_0000_0000)
"""Stands for a missing cell: the bits of a NaN, which no number has."""


def _cell_keys(column: "pyarrow.Array") -> NDArray[np.uint64]:
    """Return 8 bytes a cell; a whole number has those of the same number as a float."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(column.type):
        coded = column.dictionary_encode()
        keys = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in coded.dictionary.to_pylist()]
        of_value = np.array([*keys, int(_MISSING)], dtype=np.uint64)
        return np.asarray(of_value[pc.fill_null(coded.indices, len(keys)).to_numpy(zero_copy_only=False)])
    plain = column.cast(pa.int32()) if pa.types.is_date(column.type) else column
    numbers = plain.cast(pa.float64()).to_numpy(zero_copy_only=False) + 0.0  # -0.0 is 0.0
    return np.where(np.isnan(numbers), _MISSING, np.ascontiguousarray(numbers).view(np.uint64))
