"""Make probabilities mean what they say, with one number per student.

Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599. Probabilities
become softmax(log p / T): T > 1 makes them more modest, T < 1 bolder, and no answer changes.
"""

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.errors import FactoryError
from factory.evaluation.metrics import (
    N_RESAMPLES,
    SMALLEST_PROBABILITY,
    Columns,
    Estimate,
    Proba,
    estimate,
    expected_calibration_error,
    log_loss,
)
from factory.evaluation.result import JsonResult, Number
from factory.records import Predictions, Rows, column_of
from factory.spec import Model
from factory.store import Stage

LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of a temperature. When every row is right, or none, the likelihood has no best temperature: it grows without
end towards 0 or infinity, and the answer is the bound. A single row is always one of the two."""


class CalibrateParams(Model):
    """What calibration depends on."""

    seed: Annotated[int, Field(ge=0)] = 0
    n_resamples: Annotated[int, Field(ge=1)] = N_RESAMPLES


class Calibration(JsonResult):
    """A student on rows it has not seen: its temperature, and how good it is there."""

    file: ClassVar[str] = "calibration.json"

    n: int
    """Rows with out-of-fold probabilities."""
    calibration_temperature: Number
    nll_before: Number
    nll_after: Number
    ece_before: Number
    ece_after: Number
    """As for `nll_after`: on the rows the temperature was fitted to, so slightly flattering."""
    accuracy: Estimate
    macro_f1: Estimate

    @property
    def summary(self) -> str:
        """One line for a person."""
        return f"macro-F1 {self.macro_f1.value:.3f} out of fold, temperature {self.calibration_temperature:.2f}"


def fit_temperature(proba: Proba, gold: Columns, weights: NDArray[np.float64] | None = None) -> float:
    """Find the temperature under which the gold labels are most likely.

    Args:
        proba: Probabilities from a student that did not see these rows, shape (n_rows, n_labels), rows sum to 1.
        gold: Column of the gold label, shape (n_rows,).
        weights: Importance of each row, not negative; default: all equal.

    Returns:
        The temperature, 0.05 to 20; exactly 1 when no other is better. A temperature at a bound says that the rows
        are all right or all wrong, and not what to believe of other rows.

    Raises:
        ValueError: The lengths differ, or there are no rows of weight.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    shares = np.ones(len(gold)) if weights is None else weights
    if not len(gold) == len(proba) == len(shares):
        raise ValueError(
            f"expected as many rows as gold labels ({len(gold)}), got {len(proba)} and {len(shares)} weights"
        )
    if not shares.sum() > 0:
        raise ValueError("there are no rows to fit a temperature to")
    logs = np.log(np.clip(proba, SMALLEST_PROBABILITY, None))
    rows = np.arange(len(gold))

    def nll(log_temperature: float) -> float:
        return float(-np.average(log_softmax(logs / np.exp(log_temperature), axis=1)[rows, gold], weights=shares))

    # Convex in 1/T, hence with a single valley in log T.
    found = minimize_scalar(nll, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-6})
    # The search never tries the bounds themselves, nor 1.
    best = min([0.0, float(found.x), float(np.log(LOWEST)), float(np.log(HIGHEST))], key=nll)
    return float(np.exp(best))


def apply_temperature(proba: Proba, temperature: float) -> Proba:
    """Return softmax(log p / T), shape (n_rows, n_labels); the order of the labels in a row stays as it is."""
    from scipy.special import softmax

    calibrated: Proba = softmax(np.log(np.clip(proba, SMALLEST_PROBABILITY, None)) / temperature, axis=1)
    return calibrated


def calibrate(params: CalibrateParams, *, oof: Predictions, rows: Rows) -> Calibration:
    """Fit a student's temperature on its out-of-fold predictions, and measure it there.

    Args:
        params: Seed and number of resamples of the intervals.
        oof: Out-of-fold predictions of the student.
        rows: Labelled rows that include the predicted ones; found by id, their weights count.

    Returns:
        Temperature, errors before and after, and validation figures. Rows that a teacher labelled make figures
        that are estimates, not gold.

    Raises:
        FactoryError: A predicted row is not among the rows, has no known label, or nothing was predicted.
    """
    gold, weights = align(oof, rows)
    temperature = fit_temperature(oof.probs, gold, weights)
    calibrated = apply_temperature(oof.probs, temperature)
    predicted = oof.probs.argmax(axis=1)
    return Calibration(
        n=len(gold),
        calibration_temperature=temperature,
        nll_before=log_loss(gold, oof.probs),
        nll_after=log_loss(gold, calibrated),
        ece_before=expected_calibration_error(gold, oof.probs),
        ece_after=expected_calibration_error(gold, calibrated),
        accuracy=estimate("accuracy", gold, predicted, seed=params.seed, n_resamples=params.n_resamples),
        macro_f1=estimate("macro_f1", gold, predicted, seed=params.seed, n_resamples=params.n_resamples),
    )


def align(oof: Predictions, rows: Rows) -> tuple[Columns, NDArray[np.float64]]:
    """Return gold column and weight of each predicted row, both of shape (n_predictions,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = column_of(rows.kept, "id").to_pylist()
    # Column by column: of a table there may be a million rows.
    codes = pc.index_in(column_of(rows.kept, "label"), value_set=pa.array(oof.labels, pa.string()))
    columns = pc.fill_null(codes, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    shares = column_of(rows.kept, "weight").to_numpy(zero_copy_only=False).astype(np.float64)
    # Rows of a table may be equal and have different labels: in the order of the rows there is nothing to look up.
    if ids and list(oof.ids) == ids and (columns >= 0).all():
        return columns, shares
    known = {ids[at]: at for at in np.flatnonzero(columns >= 0).tolist()}
    missing = [row_id for row_id in oof.ids if row_id not in known]
    if missing or not oof.ids:
        raise FactoryError(
            f"calibrate: expected a labelled row for each of {len(oof.ids)} predictions; {len(missing)} have none"
            + (f", such as {missing[0]}" if missing else ""),
            hint="hand in the rows the out-of-fold predictions were made for, with labels of the task",
        )
    places = np.array([known[row_id] for row_id in oof.ids], dtype=np.intp)
    return columns[places], shares[places]


CALIBRATE: Stage[Calibration] = Stage("calibrate", 1, CalibrateParams, calibrate, Calibration)
