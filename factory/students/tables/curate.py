"""Which written rows of a table are worth learning from, and which are too near to a real one.

By the learning dynamics of a model that is trained on the few real rows: a row to which it keeps giving little
probability for the label it was written for, and is not in doubt about, contradicts what is known (Seedat et al.,
"Curated LLM: Synergy of LLMs and Data Curation for tabular augmentation in low-data regimes", ICML 2024,
arXiv:2312.12112). And by the nearest real record: a row as near to one as real rows hardly are to each other gives away
who that is, and teaches nothing.
"""

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.records import Rejection, Rows, column_of, split
from factory.records_table import cells_of
from factory.spec import Model
from factory.spec_table import Table
from factory.store import Stage
from factory.students.tables.encoding import Encoding, Input, Matrix

COMPARE_AT_ONCE = 256
N_STEPS = 60
"""Boosting steps whose opinions are taken."""


class CurateRowsParams(Model):
    """When a written row is dropped."""

    table: Table
    """Of a classification."""
    seed: Annotated[int, Field(ge=0)] = 0
    least_confidence: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Mean probability of its label over the steps of training; below it a row is wrong, if it is not in doubt."""
    least_uncertainty: Annotated[float, Field(ge=0, le=0.25)] = 0.15
    """Mean of p(1 - p) over the steps (aleatoric uncertainty); from here on a row is in doubt, and kept."""
    closeness: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of real rows that are so near to another real one; nearer a written row may not be to any."""


def curate_rows(params: CurateRowsParams, *, rows: Rows, real: Rows, holdout: Rows | None = None) -> Rows:
    """Reject written rows that are repeated, leak, copy a real row, or contradict the real ones.

    Args:
        params: Bounds.
        rows: Written rows.
        real: Rows that people labelled.
        holdout: Gold rows, of which only the ids are looked at: those are hashes of their cells.

    Returns:
        Rejected: `repeated`, `leakage`, `copies-real` (score: distance to the nearest real row, 0 to 1) and
        `contradicts-real` (score: confidence). The report has the distance that counts as a copy.
    """
    ids = rows.kept["id"][:]
    rejections: dict[int, Rejection] = {}
    seen: set[str] = set()
    guarded = set(holdout.kept["id"]) if holdout is not None else set()
    for position, one in enumerate(ids):
        if one in seen:
            rejections[position] = Rejection("repeated")
        elif one in guarded:
            rejections[position] = Rejection("leakage")
        seen.add(one)
    report: dict[str, Any] = {}
    if len(rows.kept) and len(real.kept):
        encoding = Encoding.fit(cells_of(real.kept), params.table.columns)
        written, known = encoding.matrix(cells_of(rows.kept)), encoding.matrix(cells_of(real.kept))
        distances = nearest(written, known, encoding.inputs)
        usual = nearest(known, known, encoding.inputs, own=True)
        bound = float(np.quantile(usual, params.closeness))
        report["copy_distance"] = round(bound, 6)
        for position in np.flatnonzero(distances <= bound).tolist():
            rejections.setdefault(position, Rejection("copies-real", float(distances[position])))
        confidence, uncertainty = dynamics(params, written, rows, known, real)
        wrong = (confidence < params.least_confidence) & (uncertainty < params.least_uncertainty)
        for position in np.flatnonzero(wrong).tolist():
            rejections.setdefault(position, Rejection("contradicts-real", float(confidence[position])))
    return split(rows.kept, rejections, by=CURATE_ROWS.name, report=report)


def nearest(rows: Matrix, others: Matrix, inputs: tuple[Input, ...], *, own: bool = False) -> NDArray[np.float64]:
    """Return the distance of each row to the nearest of others (Gower, 1971): the mean over its columns.

    Args:
        rows: Inputs, NaN where missing.
        others: Inputs of those they are compared with.
        inputs: What the inputs are.
        own: Whether both are the same rows, so that a row is not compared with itself.

    Returns:
        0 to 1, shape (n_rows,). Of numbers it is the difference as a share of their range among `others`, of categories
        0 or 1; a cell that one of both lacks counts 1.
    """
    is_category = np.array([one.is_category for one in inputs])
    low, high = (np.nan_to_num(found(others, axis=0)) for found in (np.nanmin, np.nanmax))
    span = np.where(high > low, high - low, 1.0)
    found = np.empty(len(rows))
    for start in range(0, len(rows), COMPARE_AT_ONCE):
        some = rows[start : start + COMPARE_AT_ONCE, None, :]
        apart = np.where(
            is_category, (some != others).astype(np.float64), np.minimum(np.abs(some - others) / span, 1.0)
        )
        both_missing = np.isnan(some) & np.isnan(others)
        apart = np.where(both_missing, 0.0, np.where(np.isnan(some) | np.isnan(others), 1.0, apart)).mean(axis=2)
        if own:
            apart[np.arange(apart.shape[0]), np.arange(start, start + apart.shape[0])] = np.inf
        found[start : start + COMPARE_AT_ONCE] = apart.min(axis=1)
    return found


def dynamics(
    params: CurateRowsParams, written: Matrix, rows: Rows, known: Matrix, real: Rows
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how sure a model trained on real rows is of the labels of written ones while it learns.

    Args:
        params: Columns, labels and seed.
        written: Inputs of the written rows.
        rows: Their labels.
        known: Inputs of the real rows.
        real: Their labels.

    Returns:
        Confidence and aleatoric uncertainty, each of shape (n_rows,).
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from sklearn.ensemble import GradientBoostingClassifier

    codes = pa.array(params.table.label_names)
    labels, wanted = (
        pc.index_in(column_of(one.kept, "label"), value_set=codes).to_numpy(zero_copy_only=False)
        for one in (real, rows)
    )
    # -1 is nobody's code: a tree parts what is missing from the rest if that tells anything.
    model = GradientBoostingClassifier(
        n_estimators=N_STEPS, max_depth=3, subsample=0.8, max_features="sqrt", random_state=params.seed
    ).fit(np.nan_to_num(known, nan=-1.0), labels)
    columns = {int(code): column for column, code in enumerate(model.classes_)}
    at = np.array([columns.get(int(code), -1) for code in wanted])
    steps = []
    for probs in model.staged_predict_proba(np.nan_to_num(written, nan=-1.0)):
        steps.append(np.where(at >= 0, probs[np.arange(len(at)), at], 0.0))
    told = np.array(steps)
    return told.mean(axis=0), (told * (1 - told)).mean(axis=0)


CURATE_ROWS: Stage[Rows] = Stage("curate-rows", 1, CurateRowsParams, curate_rows, Rows)
