"""How a student of a table treats groups of people: selection and error rates by the protected columns of the spec.

A rate has Wilson's 95% interval (Wilson, JASA 22, 1927), an AUC and a mean error a bootstrap interval over the rows of
the group. A group of few rows is counted and not measured: its figures would say more about chance than about it.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from factory.evaluation.auroc import auroc
from factory.evaluation.metrics import Estimate, with_interval
from factory.evaluation.result import Part
from factory.records_table import cells_of
from factory.spec_table import Column, ColumnKind, Table

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

LEAST_ROWS = 30
"""Below this a group is too small to be measured."""
LEAST_OF_KIND = 10
"""Rows of the right kind that an error rate needs."""
MOST_GROUPS = 20
"""Of a category: its most frequent values; the others are one group."""
N_PARTS = 4
"""Groups that a number or a date is cut into, of about as many rows each."""
N_RESAMPLES = 1_000
NOT_KNOWN, OTHERS = "(not known)", "(others)"


class GroupScore(Part):
    """How the student fares on the rows of one group; null where they are too few to say."""

    column: str
    group: str
    n: int
    n_positive: int = 0
    """Gold rows of the last label; 0 of numbers."""
    selected: Estimate | None = None
    """Share that is answered with the last label."""
    false_positive: Estimate | None = None
    """Share answered with the last label among rows of other labels."""
    false_negative: Estimate | None = None
    """Share not answered with the last label among its rows."""
    auc: Estimate | None = None
    """Of the last label against the others."""
    mean_error: Estimate | None = None
    """Of numbers: answer less right number, in its unit."""
    mae: Estimate | None = None
    """Of numbers: mean absolute error."""

    @property
    def is_too_small(self) -> bool:
        """Whether nothing is said about it."""
        return self.n < LEAST_ROWS


def measure_groups(
    table: Table, rows: "Dataset", answers: NDArray[np.float64], gold: NDArray[np.float64], *, seed: int
) -> tuple[GroupScore, ...]:
    """Measure a student on the groups of every protected column.

    Args:
        table: What the rows hold; `protected` names the columns. Free text has no groups and is passed over.
        rows: Labelled rows.
        answers: Probabilities, shape (n_rows, n_labels), or numbers, shape (n_rows, 1).
        gold: Column of the right label, or the right number; shape (n_rows,).
        seed: Same seed, same intervals.

    Returns:
        Column by column; empty where the spec protects none.
    """
    protected = [one for one in table.columns if one.protected and one.kind is not ColumnKind.TEXT]
    if not protected:
        return ()
    cells = cells_of(rows)
    found = []
    for column in protected:
        for group, is_member in _groups(column, cells[column.name]):
            of_labels, its = bool(table.labels), (answers[is_member], gold[is_member])
            score = GroupScore(column=column.name, group=group, n=len(its[1]))
            if of_labels:
                score = score.model_copy(update={"n_positive": int((its[1] == len(table.labels) - 1).sum())})
            if not score.is_too_small:
                figures = _rates(*its, seed) if of_labels else _errors(*its, seed)
                score = GroupScore.model_validate({**score.model_dump(), **figures})
            found.append(score)
    return tuple(found)


def _rates(answers: NDArray[np.float64], gold: NDArray[np.float64], seed: int) -> dict[str, Estimate | None]:
    last = answers.shape[1] - 1
    selected, is_positive = answers.argmax(axis=1) == last, gold == last
    n_positive, n_negative = int(is_positive.sum()), int((~is_positive).sum())
    return {
        "selected": _share(selected),
        "false_positive": _share(selected[~is_positive]) if n_negative >= LEAST_OF_KIND else None,
        "false_negative": _share(~selected[is_positive]) if n_positive >= LEAST_OF_KIND else None,
        "auc": auroc(is_positive, answers[:, last], seed=seed)
        if min(n_positive, n_negative) >= LEAST_OF_KIND
        else None,
    }


def _errors(answers: NDArray[np.float64], gold: NDArray[np.float64], seed: int) -> dict[str, Estimate | None]:
    errors = answers[:, 0] - gold
    n = len(errors)
    shares = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES) / n
    return {
        "mean_error": with_interval(float(errors.mean()), shares @ errors),
        "mae": with_interval(float(np.abs(errors).mean()), shares @ np.abs(errors)),
    }


def _share(happened: NDArray[np.bool_]) -> Estimate:
    from scipy.stats import binomtest

    n_happened, n = int(happened.sum()), len(happened)
    interval = binomtest(n_happened, n).proportion_ci(method="wilson")
    return Estimate(value=n_happened / n, low=interval.low, high=interval.high)


def _groups(column: Column, cells: "pyarrow.Array") -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the groups of a column that have rows, and which rows are theirs."""
    import pyarrow as pa

    is_known = cells.is_valid().to_numpy(zero_copy_only=False)
    if column.kind.is_number or column.kind is ColumnKind.DATE:
        plain = cells.cast(pa.int32()) if column.kind is ColumnKind.DATE else cells
        numbers = plain.cast(pa.float64()).to_numpy(zero_copy_only=False)
        yield from _parts(column, cells, numbers, is_known)
    else:
        yield from _values(column, cells)
    if not is_known.all():
        yield NOT_KNOWN, ~is_known


def _parts(
    column: Column, cells: "pyarrow.Array", numbers: NDArray[np.float64], is_known: NDArray[np.bool_]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    known = numbers[is_known]
    if not len(known):
        return
    edges = np.unique(np.quantile(known, np.linspace(0, 1, N_PARTS + 1)[1:-1], method="higher"))
    member = np.searchsorted(edges, numbers, side="right")  # a number at an edge belongs to the part above it
    for part in range(len(edges) + 1):
        of_part = is_known & (member == part)
        if of_part.any():
            its = np.flatnonzero(of_part)
            low, high = (cells[int(its[at(numbers[its])])].as_py() for at in (np.argmin, np.argmax))
            unit = f" {column.unit}" if column.unit else ""
            yield f"{_shown(low)}{unit}" if low == high else f"{_shown(low)} to {_shown(high)}{unit}", of_part


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _values(column: Column, cells: "pyarrow.Array") -> Iterator[tuple[str, NDArray[np.bool_]]]:
    import pyarrow.compute as pc

    counts = {one["values"]: one["counts"] for one in pc.value_counts(cells.drop_null()).to_pylist()}
    frequent = sorted(counts, key=lambda value: (-counts[value], str(value)))[:MOST_GROUPS]
    in_order: Sequence[object] = [one for one in column.values if one in frequent] or sorted(frequent, key=str)
    rest = cells.is_valid().to_numpy(zero_copy_only=False)
    for value in in_order:
        is_member = pc.fill_null(pc.equal(cells, value), False).to_numpy(zero_copy_only=False)
        rest = rest & ~is_member
        yield {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value), is_member
    if rest.any():
        yield OTHERS, rest
