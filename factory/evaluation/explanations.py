"""Why a student of a table answers as it does, over many rows: which columns it leans on, and how.

Importance is how much worse the answers become when a column's cells are shuffled among the rows (Breiman, "Random
Forests", 2001; Fisher, Rudin and Dominici, JMLR 20, 2019), with a bootstrap interval over rows; two columns that say
the same share it. A curve is partial dependence (Friedman, 2001): the mean answer if all rows had this cell, beside
which the middle 80% of rows show how far it differs from row to row. Nothing is chosen by any of it.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.errors import FactoryError
from factory.evaluation.metrics import SMALLEST_PROBABILITY, Estimate, with_interval
from factory.evaluation.odds import OddsRule, probs_of
from factory.evaluation.result import JsonResult, Number, Part
from factory.events import Progressed, emit
from factory.records import Rows, column_of
from factory.records_table import cells_of
from factory.spec import Model
from factory.spec_table import Column, ColumnKind, Table
from factory.store import Stage
from factory.students.linear import softmax
from factory.students.tables.base import TableStudent
from factory.students.tables.encoding import Encoding, Matrix
from factory.students.training import FittedStudent

MOST_ROWS = 2_000
"""Rows that are shuffled; of more, as many are drawn."""
N_REPEATS, WIDE = 5, 100
"""How often each column is shuffled; of a table with more columns than `WIDE`, once."""
N_RESAMPLES = 1_000
MOST_CURVES, CURVE_ROWS = 8, 300
MOST_POINTS, MOST_VALUES = 20, 12
"""Of the curve of a number; of a category, its most frequent values."""
NOT_KNOWN = "(not known)"
ADDITIVE = ("linear", "ebm", "scorecard")


class Importance(Part):
    """How much a column matters."""

    column: str
    loss: Estimate
    """By how much the log loss grows in nats when it is shuffled; of numbers, by how much R2 falls."""


class Point(Part):
    """One point of a curve."""

    value: Number | str
    """A number, else as people read it."""
    mean: Number
    low: Number
    high: Number
    """A tenth of the rows are below `low`, a tenth above `high`."""


class Curve(Part):
    """How the answer goes with a column."""

    column: str
    unit: str
    is_number: bool
    """Whether the points have places on a line; else they are names."""
    points: tuple[Point, ...]


class Explanations(JsonResult):
    """What a student leans on."""

    file: ClassVar[str] = "explanations.json"

    student: str
    target: str
    """What the curves show: the probability of this label, or the number of this name."""
    unit: str
    """Of the number; empty of labels."""
    is_number: bool
    """Whether the answer is a number."""
    is_gold: bool
    """Whether the rows are those of the holdout; else of training, which flatters columns that are learned by heart."""
    n_rows: int
    importances: tuple[Importance, ...]
    """The greatest first."""
    curves: tuple[Curve, ...]
    """Of the most important columns, free text apart."""

    @property
    def is_additive(self) -> bool:
        """Whether the student is a sum of curves, so that they tell all there is to it (pairs of an EBM apart)."""
        return self.student in ADDITIVE

    @property
    def summary(self) -> str:
        """One line for a person."""
        named = ", ".join(one.column for one in self.importances[:3] if one.loss.low > 0)
        return f"leans most on {named}" if named else "leans on no column more than chance"


class ExplainParams(Model):
    """What explanations depend on besides the student and the rows."""

    table: Table
    rule: OddsRule | None = None
    """Of two labels: what is done to their log-odds."""
    calibration_temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of more labels."""
    is_gold: bool
    seed: Annotated[int, Field(ge=0)] = 0


def explain(params: ExplainParams, *, fitted: FittedStudent, rows: Rows) -> Explanations:
    """Shuffle columns, and draw how the answer goes with the most important ones.

    Args:
        params: The table, and where the rows are from.
        fitted: A student of a table.
        rows: Labelled rows, better ones that it has not seen.

    Returns:
        Importances and curves.

    Raises:
        FactoryError: There are no labelled rows, or it is no student of a table.
    """
    if not isinstance(fitted.student, TableStudent):
        raise FactoryError(f"explain: expected a student of a table, got {fitted.name}")
    rng = np.random.default_rng(params.seed)
    some = rows.kept
    if len(some) > MOST_ROWS:
        some = some.select(np.sort(rng.choice(len(some), MOST_ROWS, replace=False)))
    if not len(some):
        raise FactoryError("explain: there are no rows", hint="hand in a holdout, or training rows")
    asked = _Asked(fitted.student, fitted.student.encoding_.matrix(cells_of(some)), params)
    gold = _gold(params.table, column_of(some, "label"))
    importances = _importances(asked, gold, rng)
    named = [one.column for one in importances]
    curves = [_curve(asked, column) for column in sorted(asked.columns, key=lambda one: named.index(one.name))]
    return Explanations(
        student=fitted.name,
        target=params.table.label_names[-1] if params.table.labels else params.table.target.column,
        unit=params.table.target.unit,
        is_number=not params.table.labels,
        is_gold=params.is_gold,
        n_rows=len(some),
        importances=importances,
        curves=tuple(one for one in curves[:MOST_CURVES] if one.points),
    )


class _Asked:
    """A student, some rows, and which inputs belong to which column."""

    def __init__(self, student: TableStudent, matrix: Matrix, params: ExplainParams) -> None:
        self._student, self.matrix, self._params = student, matrix, params
        self.n_labels = len(params.table.labels)
        self.encoding: Encoding = student.encoding_
        inputs = self.encoding.inputs
        self.inputs = {
            column.name: [at for at, one in enumerate(inputs) if one.column.name == column.name]
            for column in self.encoding.columns
        }
        self.columns = [column for column in self.encoding.columns if column.kind is not ColumnKind.TEXT]

    def answers(self, matrix: Matrix) -> NDArray[np.float64]:
        """Return probabilities, shape (n_rows, n_labels), or numbers, shape (n_rows, 1)."""
        scores = self._student.fitted_.scores(matrix)
        if not self.n_labels:
            return scores
        if self._params.rule is not None:
            return probs_of(self._params.rule.of(scores[:, 1] - scores[:, 0]))
        return softmax(scores / self._params.calibration_temperature)

    def losses(self, matrix: Matrix, gold: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the loss of each row: log loss, or squared error as a share of the variance."""
        answers = self.answers(matrix)
        if not self.n_labels:
            spread = float(gold.var())
            return np.asarray((answers[:, 0] - gold) ** 2 / (spread if spread > 0 else 1.0))
        right = answers[np.arange(len(gold)), gold.astype(np.int64)]
        return np.asarray(-np.log(np.maximum(right, SMALLEST_PROBABILITY)))


def _gold(table: Table, label: Any) -> NDArray[np.float64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = pc.index_in(label, value_set=pa.array(table.label_names)) if table.labels else label
    if codes.null_count:
        raise FactoryError(f"explain: {codes.null_count} rows have no answer", hint="hand in labelled rows")
    return np.asarray(codes.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _importances(asked: _Asked, gold: NDArray[np.float64], rng: np.random.Generator) -> tuple[Importance, ...]:
    n_rows, names = len(gold), list(asked.inputs)
    n_repeats = N_REPEATS if len(names) <= WIDE else 1
    before = asked.losses(asked.matrix, gold)
    grown = np.zeros((n_rows, len(names)))
    for position, name in enumerate(names):
        emit(Progressed("explain", position, len(names), "columns"))
        for _ in range(n_repeats):
            shuffled, inputs = asked.matrix.copy(), asked.inputs[name]
            shuffled[:, inputs] = shuffled[rng.permutation(n_rows)][:, inputs]
            grown[:, position] += (asked.losses(shuffled, gold) - before) / n_repeats
    emit(Progressed("explain", len(names), len(names), "columns"))
    resampled = rng.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=N_RESAMPLES) @ grown / n_rows
    found = [
        Importance(column=name, loss=with_interval(float(grown[:, at].mean()), resampled[:, at]))
        for at, name in enumerate(names)
    ]
    return tuple(sorted(found, key=lambda one: -one.loss.value))


def _curve(asked: _Asked, column: Column) -> Curve:
    rows = asked.matrix[:CURVE_ROWS]  # drawn at random already, or all there are
    points = []
    for value, cells in _grid(asked, column):
        changed = rows.copy()
        changed[:, asked.inputs[column.name]] = cells
        found = asked.answers(changed)[:, -1]
        low, high = np.quantile(found, [0.1, 0.9])
        points.append(Point(value=value, mean=float(found.mean()), low=float(low), high=float(high)))
    is_number = column.kind.is_number
    return Curve(column=column.name, unit=column.unit, is_number=is_number, points=tuple(points))


def _grid(asked: _Asked, column: Column) -> Iterator[tuple[float | str, NDArray[np.float32]]]:
    """Yield the points of a curve: what people read, and the inputs of the column."""
    from datetime import date, timedelta

    own = asked.matrix[:, asked.inputs[column.name]]
    known = own[~np.isnan(own[:, 0])]
    if not len(known):
        pass
    elif column.kind.is_number:
        for number in np.unique(np.quantile(known[:, 0], np.linspace(0, 1, MOST_POINTS), method="nearest")):
            yield float(number), np.array([number], dtype=np.float32)
    elif column.kind is ColumnKind.DATE:
        in_order = known[np.argsort(known[:, 0], kind="stable")]
        for cells in in_order[np.unique(np.linspace(0, len(in_order) - 1, MOST_VALUES).astype(np.int64))]:
            yield (date(1970, 1, 1) + timedelta(days=int(cells[0]))).isoformat(), cells
    else:
        codes, counts = np.unique(known[:, 0], return_counts=True)
        frequent = np.sort(codes[np.argsort(-counts, kind="stable")[:MOST_VALUES]])
        names = asked.encoding.values.get(column.name, ("no", "yes"))
        for code in frequent:
            yield names[int(code)], np.array([code], dtype=np.float32)
    if len(known) < len(own):
        yield NOT_KNOWN, np.full(own.shape[1], np.nan, dtype=np.float32)


EXPLAIN = Stage("explain", 1, ExplainParams, explain, Explanations)
