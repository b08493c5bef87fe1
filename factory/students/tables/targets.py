"""What a student of a table learns from: labels or numbers as arrays, straight from Arrow."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from factory.errors import FactoryError
from factory.records import column_of
from factory.spec_table import Table
from factory.students.targets import targets_of

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Answers:
    """The right answers to training rows; a row with a soft label comes once for each of its labels."""

    rows: NDArray[np.intp]
    """Positions of the rows, shape (n,)."""
    values: NDArray[np.float64]
    """Column of the label, or the number; shape (n,)."""
    weights: NDArray[np.float64]
    """Shape (n,), above 0."""


def answers_of(rows: "Dataset", table: Table, *, balanced: bool = False) -> Answers:
    """Read what is to be learned.

    Args:
        rows: Training rows of a table.
        table: What they hold.
        balanced: Give every label the same total weight.

    Returns:
        The answers.

    Raises:
        FactoryError: A row has no answer or an unknown one, or all rows have the same.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    label = column_of(rows, "label")
    weights = column_of(rows, "weight").to_numpy(zero_copy_only=False).astype(np.float64)
    if not table.labels:
        values = label.cast(pa.float64()).to_numpy(zero_copy_only=False)
        _require(values)
        return Answers(np.arange(len(values)), values, weights)
    if column_of(rows, "label_probs").null_count < len(rows):
        soft = targets_of(rows, table.labels)
        probs = soft.probs * soft.weights[:, None]
        positions, columns = np.nonzero(probs)
        found = Answers(positions, columns.astype(np.float64), probs[positions, columns])
    else:
        codes = pc.index_in(label, value_set=pa.array(table.label_names))
        values = codes.cast(pa.float64()).to_numpy(zero_copy_only=False)
        _require(values)
        found = Answers(np.arange(len(values)), values, weights)
    if not balanced:
        return found
    totals = np.bincount(found.values.astype(np.int64), weights=found.weights, minlength=len(table.labels))
    even = found.weights.sum() / np.count_nonzero(totals)
    return Answers(found.rows, found.values, found.weights * (even / totals[found.values.astype(np.int64)]))


def drawn(matrix: NDArray[np.float32], answers: Answers, most: int, seed: int) -> tuple[NDArray[np.float32], Answers]:
    """Return at most so many rows with their answers, drawn at random and in their order."""
    if len(matrix) <= most:
        return matrix, answers
    chosen = np.zeros(len(matrix), dtype=bool)
    chosen[np.random.default_rng(seed).choice(len(matrix), most, replace=False)] = True
    place = np.cumsum(chosen) - 1
    of_chosen = chosen[answers.rows]
    kept = Answers(place[answers.rows[of_chosen]], answers.values[of_chosen], answers.weights[of_chosen])
    return matrix[chosen], kept


def _require(values: NDArray[np.float64]) -> None:
    if np.isnan(values).any():
        raise FactoryError(
            f"training rows: {int(np.isnan(values).sum())} of {len(values)} have no answer, or one the spec lacks",
            hint="label every row before a student is fitted",
        )
    if len(values) < 2 or values.min() == values.max():
        raise FactoryError(
            f"training rows: all {len(values)} rows have the same answer, so there is nothing to learn",
            hint="bring rows with other answers",
        )
