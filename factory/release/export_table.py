"""From a fitted student of a table to a folder that answers with numpy and onnxruntime alone."""

import json
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.errors import ArtifactError
from factory.evaluation.odds import OddsRule
from factory.events import Progressed, emit
from factory.records import Origin, Rows, column_of
from factory.records_table import cells_of, table_dataset
from factory.release import predict, table_cells, table_explain
from factory.release.export import PARITY, Exported
from factory.release.parity import Parity, calibrated, largest_difference
from factory.release.predict import FORMAT_VERSION, Predictor
from factory.spec import Model
from factory.spec_table import Column, ColumnKind, Table
from factory.store import Stage
from factory.students import TableLearner
from factory.students.training import FittedStudent

if TYPE_CHECKING:
    from datasets import Dataset

REQUIREMENTS = ("numpy", "onnxruntime")
PROGRAMS = (
    Path(predict.__file__),
    Path(table_cells.__file__),
    Path(table_explain.__file__),
)
MOST_COMPARED = 2_000
"""Rows on which the folder is compared with the student."""
SUM_TOLERANCE = 1e-3
"""Largest difference of a sum of shares from the score, as a share of it."""
MOST_EXPLAINED = 50
"""Rows on which shares must add up to the score, the odd ones among them."""


def installed_libraries() -> dict[str, str]:
    """Return the versions of what writes the folder, compares it and is pinned in it."""
    return {package: version(package) for package in (*REQUIREMENTS, "onnx")}


class ExportTableParams(Model):
    """What the exported folder says about itself."""

    name: str
    table: Table
    rule: OddsRule | None = None
    """Of two labels: what is done to their log-odds."""
    calibration_temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of more labels."""
    libraries: dict[str, str] = Field(default_factory=installed_libraries)
    """Versions, so that a folder that pins others is written and compared anew."""


def export_table(params: ExportTableParams, *, fitted: FittedStudent, rows: Rows) -> Exported:
    """Write the student as ONNX and compare the folder, as it reads JSON rows, with the student in Python.

    Args:
        params: Name, columns, temperature.
        fitted: The student.
        rows: Rows to compare on, training rows will do; odd ones are added.

    Returns:
        Everything needed to predict.

    Raises:
        ArtifactError: The folder does not say what the student says.
    """
    emit(Progressed(EXPORT_TABLE.name, 0, 2, "steps", "writing the graph"))
    compared, names = _compared(params.table, rows.kept)
    with TemporaryDirectory(prefix="factory-") as temporary:
        folder = Path(temporary)
        _write_folder(params, fitted, folder, rows.kept)
        emit(Progressed(EXPORT_TABLE.name, 1, 2, "steps", "comparing it with Python"))
        found = Predictor(folder).predict_proba(as_json_rows(compared))
        expected = fitted.student.predict_proba(compared)
        if params.rule is not None:
            expected = params.rule.apply(expected)
        elif params.table.labels:
            expected = calibrated(expected, params.calibration_temperature)
        else:  # of a number, the differences are shares of its spread
            spread = max(float(np.ptp(expected)), float(np.finfo(np.float32).tiny))
            expected, found = expected / spread, found / spread
        difference, worst = largest_difference(expected, found, names, student=fitted.name)
        _require_sums(folder, compared.select(range(max(0, len(compared) - MOST_EXPLAINED), len(compared))), fitted)
        emit(Progressed(EXPORT_TABLE.name, 2, 2, "steps"))
        n_rows = min(len(rows.kept), MOST_COMPARED)
        parity = Parity(
            n_rows=n_rows,
            n_hostile=len(names) - n_rows,
            largest_difference=difference,
            worst=worst,
            float32_accuracy=_accuracy(params.table, rows.kept, found[:n_rows]),
            int8=(),
            ships="float32",
        )
        (folder / PARITY).write_text(parity.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return Exported.load(folder)


EXPORT_TABLE = Stage(
    "export",
    2,
    ExportTableParams,
    export_table,
    Exported,
    files=PROGRAMS,
)


def as_json_rows(rows: "Dataset") -> list[dict[str, Any]]:
    """Return the cells of rows as JSON has them, dates as text."""
    found: list[dict[str, Any]] = column_of(rows, "features").to_pylist()
    return [
        {name: cell.isoformat() if hasattr(cell, "isoformat") else cell for name, cell in row.items()} for row in found
    ]


def _compared(table: Table, kept: "Dataset") -> "tuple[Dataset, list[str]]":
    """Return rows to compare on and their names: real ones, then one with nothing known, then extremes."""
    import pyarrow as pa

    some = kept.select(range(min(len(kept), MOST_COMPARED)))
    cells = cells_of(some)
    odd = {"all-missing": dict.fromkeys(cells, None)}
    for name, sign in (("all-greatest", 1), ("all-least", -1)):
        odd[name] = {column.name: _extreme(column, sign) for column in table.columns}
    for column in table.columns:
        known = cells[column.name].drop_null()
        for row in odd.values():  # what may not be missing is as in some row
            if row[column.name] is None and column.missing == "refuse" and len(known):
                row[column.name] = known[0].as_py()
    columns = {
        name: pa.concat_arrays([column, pa.array([row[name] for row in odd.values()], column.type)])
        for name, column in cells.items()
    }
    label = pa.nulls(len(some) + len(odd), column_of(some, "label").type)
    return table_dataset(columns, label, origin=Origin.SYNTHETIC), [*some["id"], *odd]


def _extreme(column: Column, sign: int) -> Any:
    extremes: dict[ColumnKind, Any] = {
        ColumnKind.NUMERIC: sign * 1e300,
        ColumnKind.INTEGER: sign * 2**53,
        ColumnKind.BOOLEAN: sign > 0,
        ColumnKind.CATEGORY: "a category that nobody has seen",
        ColumnKind.TEXT: "=1+1 " * 1_000,
    }
    if column.kind is ColumnKind.ORDINAL:
        return column.values[-1 if sign > 0 else 0]
    return extremes.get(column.kind)


def _accuracy(table: Table, kept: "Dataset", found: NDArray[np.float64]) -> float | None:
    if not table.labels or not len(found):
        return None
    labels = kept.select(range(len(found)))["label"][:]
    if any(label is None for label in labels):
        return None
    return float(
        np.mean([table.label_names[at] == label for at, label in zip(found.argmax(axis=1), labels, strict=True)])
    )


def _require_sums(folder: Path, rows: "Dataset", fitted: FittedStudent) -> None:
    """Refuse a folder whose explanations do not add up to what its graph says."""
    predictor, asked = Predictor(folder), as_json_rows(rows)
    scores, sums = predictor.predict_scores(asked), predictor.explained_scores(asked)
    missed = np.abs(scores - sums) - SUM_TOLERANCE * np.maximum(1.0, np.abs(scores))
    if not missed.max(initial=-1.0) <= 0:
        at = np.unravel_index(int(missed.argmax()), missed.shape)
        raise ArtifactError(
            f"{fitted.name}: shares add up to {sums[at]:.6g}, and the score is {scores[at]:.6g}",
            hint="`students/tables/explained.py` and `release/table_explain.py` disagree; nothing was released",
        )


def _write_folder(params: ExportTableParams, fitted: FittedStudent, folder: Path, rows: "Dataset") -> None:
    learner: TableLearner = fitted.student  # type: ignore[assignment]  # of a table, and so no student of texts
    config: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": params.name,
        "labels": list(params.table.label_names),
        "inputs": learner.to_onnx(folder),
        "calibration_temperature": params.calibration_temperature,
        **({"calibration": params.rule.model_dump(mode="json")} if params.rule else {}),
        "unit": params.table.target.unit,
    }
    text = json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    arrays: dict[str, Any] = learner.explanation(rows)
    np.savez_compressed(folder / table_explain.FILE, **arrays)
    for path in PROGRAMS:
        (folder / path.name).write_bytes(path.read_bytes())
    pins = "".join(f"{package}=={params.libraries[package]}\n" for package in REQUIREMENTS)
    (folder / "requirements.txt").write_text(pins, encoding="utf-8")
