"""How good a student of a table is on rows it has not seen, and which one is released for it."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from factory.errors import FactoryError
from factory.evaluation.calibration import CalibrateParams, Calibration, align, calibrate
from factory.evaluation.metrics import Estimate, expected_calibration_error
from factory.evaluation.odds import OddsRule, choose_rule
from factory.evaluation.result import JsonResult, Number
from factory.evaluation.row_metrics import OF_NUMBERS, measure_rows
from factory.records import Predictions, Rows, column_of
from factory.spec import Model
from factory.store import Stage


class TableCalibration(Calibration):
    """A student of a table that answers with a label, on rows it has not seen."""

    rule: OddsRule | None = None
    """Of two labels; `nll_after` is then its loss on folds it was not fitted to. Of more there is the temperature."""

    @property
    def summary(self) -> str:
        """One line for a person."""
        if self.rule is None:
            return super().summary
        return f"log loss {self.nll_before:.3f} to {self.nll_after:.3f} out of fold, calibration {self.rule.kind}"


def calibrate_table(params: CalibrateParams, *, oof: Predictions, rows: Rows) -> TableCalibration:
    """Fit what makes a student's probabilities come true on its out-of-fold predictions; see `odds`.

    Args:
        params: Seed of folds and intervals.
        oof: Out-of-fold predictions of the student.
        rows: Labelled rows that include the predicted ones; found by id, their weights count.

    Returns:
        The rule, and figures before and after it.
    """
    found = dict(calibrate(params, oof=oof, rows=rows))
    if len(oof.labels) != 2:
        return TableCalibration(**found)
    gold, weights = align(oof, rows)
    rule, loss = choose_rule(oof.probs, gold, weights, seed=params.seed)
    after = expected_calibration_error(gold, rule.apply(oof.probs))
    told = {"rule": rule, "calibration_temperature": 1 / rule.slope, "nll_after": loss, "ece_after": after}
    return TableCalibration(**{**found, **told})


class NumberFitParams(Model):
    """What the intervals depend on."""

    seed: Annotated[int, Field(ge=0)] = 0


class NumberFit(JsonResult):
    """A student that answers with numbers, on rows it has not seen."""

    file: ClassVar[str] = "numbers.json"

    n: int
    mean_squared_error: Number
    r2: Estimate | None
    mae: Estimate | None

    @property
    def summary(self) -> str:
        """One line for a person."""
        return f"R2 {self.r2.value:.3f} out of fold" if self.r2 else "R2 unknown"


def measure_numbers(params: NumberFitParams, *, oof: Predictions, rows: Rows) -> NumberFit:
    """Measure out-of-fold numbers.

    Args:
        params: Seed of the intervals.
        oof: Numbers by a student that had not seen the rows.
        rows: Rows with their right numbers, in the same order; of a large table some of them have no answer.

    Returns:
        The figures.

    Raises:
        FactoryError: A predicted row is not among the rows.
    """
    ids, numbers = rows.kept["id"][:], column_of(rows.kept, "label").to_numpy(zero_copy_only=False)
    if list(oof.ids) == ids:
        gold = numbers
    else:
        known = dict(zip(ids, numbers.tolist(), strict=True))
        if not set(oof.ids) <= known.keys():
            raise FactoryError("measure-numbers: a predicted row is not among the rows")
        gold = np.array([known[one] for one in oof.ids])
    found = measure_rows(OF_NUMBERS, {"student": oof.probs}, gold, seed=params.seed)
    squared = float(((oof.probs[:, 0] - gold) ** 2).mean())
    return NumberFit(
        n=len(gold), mean_squared_error=squared, r2=found["student", "r2"][0], mae=found["student", "mae"][0]
    )


def choose_table_student(fits: Mapping[str, Calibration | NumberFit]) -> str:
    """Choose the student with the least out-of-fold loss: log-loss after calibration, or squared error.

    Args:
        fits: By student, spec order.

    Returns:
        Its name; of equal ones the first.
    """

    def loss(one: Calibration | NumberFit) -> float:
        return one.nll_after if isinstance(one, Calibration) else one.mean_squared_error

    return min(fits, key=lambda name: loss(fits[name]))


CALIBRATE_TABLE: Stage[TableCalibration] = Stage("calibrate", 2, CalibrateParams, calibrate_table, TableCalibration)
MEASURE_NUMBERS: Stage[NumberFit] = Stage("calibrate", 1, NumberFitParams, measure_numbers, NumberFit)
