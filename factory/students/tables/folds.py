"""Parting the rows of a table for cross-validation, without a Python object for each row."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from factory.records import Origin, column_of

if TYPE_CHECKING:
    from datasets import Dataset

MOST_HELD = 50_000
"""Rows held out of a large table: more would not make its figures surer."""
MOST_FOLDED_ROWS = 200_000
"""Above this one part is held out and no other: as many fits as folds would take long and say little more."""
N_LEVELS = 10
"""Parts of a range of numbers that are spread over the folds as evenly as labels are."""


def fold_numbers(rows: "Dataset", n_folds: int, *, seed: int) -> NDArray[np.int64]:
    """Give each row of a table the number of the fold it is held out in.

    Equal rows and those varied from one row share a fold. Each label, or tenth of the numbers, is dealt out evenly.

    Args:
        rows: Rows of a table.
        n_folds: How many folds are wanted.
        seed: Decides the order in which rows are dealt.

    Returns:
        Fold numbers from 0, shape (n_rows,); of a large table only fold 0 is to be held out, and other rows have 1.
    """
    families = _families(rows)
    _, first, member = np.unique(families, return_index=True, return_inverse=True)
    levels = _levels(rows)[first]
    shuffled = np.random.default_rng(seed).permutation(len(first))
    dealt = shuffled[np.argsort(levels[shuffled], kind="stable")]
    fold_of = np.empty(len(first), dtype=np.int64)
    if len(rows) > MOST_FOLDED_ROWS:
        every = max(n_folds, len(first) // MOST_HELD)
        fold_of[dealt] = (np.arange(len(first)) % every > 0).astype(np.int64)
    else:
        fold_of[dealt] = np.arange(len(first)) % min(n_folds, len(first))
    return fold_of[member]


def _families(rows: "Dataset") -> NDArray[np.uint64]:
    """Return a number for each row, that of the row it was varied from where it was."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = column_of(rows, "id")
    varied = pc.equal(column_of(rows, "origin"), Origin.AUGMENTED.value)
    if pc.any(varied).as_py():
        parents = column_of(rows, "parents")
        has_one = pc.and_(varied, pc.equal(pc.list_value_length(parents), 1))
        ids = pc.if_else(has_one, pc.list_element(pc.if_else(has_one, parents, pa.scalar([""])), 0), ids)
    codes = ids.dictionary_encode().indices
    return np.asarray(codes.to_numpy(zero_copy_only=False)).astype(np.uint64)


def _levels(rows: "Dataset") -> NDArray[np.int64]:
    import pyarrow as pa

    label = column_of(rows, "label")
    if pa.types.is_string(label.type):
        return np.asarray(label.dictionary_encode().indices.to_numpy(zero_copy_only=False)).astype(np.int64)
    numbers = label.to_numpy(zero_copy_only=False).astype(np.float64)
    edges = np.quantile(numbers, np.linspace(0, 1, N_LEVELS + 1)[1:-1])
    return np.asarray(np.searchsorted(edges, numbers), dtype=np.int64)
