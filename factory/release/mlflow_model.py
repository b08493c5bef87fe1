"""A release as an MLflow model: MLflow runs this file where it loads or serves a registered version.

It is copied into every registered version ("models from code": text, never a pickle) and knows nothing of the factory.
What answers is the `predict.py` of the release, after every file was compared with the release's manifest.
"""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd


class Student(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow is untyped here
    """Labels the column `text`, or answers rows of a table: for each row `label`, `probability`, `probabilities`...

    Of a table the columns are those of the task, in any order; others are passed over.
    """

    def load_context(self, context: Any) -> None:
        """Open the release, if nobody has touched it."""
        folder = Path(context.artifacts["release"])
        check(folder)
        spec = importlib.util.spec_from_file_location("predict", folder / "predict.py")
        if spec is None or spec.loader is None:
            raise ValueError(f"{folder}: expected a predict.py")
        program = importlib.util.module_from_spec(spec)
        writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the folder stays as it was released
        try:
            spec.loader.exec_module(program)
        finally:
            sys.dont_write_bytecode = writes
        self._predictor = program.Predictor(folder)

    def predict(self, model_input: pd.DataFrame) -> Any:
        """Return a list of answers, one a row."""
        if not getattr(self._predictor, "is_table", False):
            return self._predictor.predict(list(model_input["text"]))
        if not model_input.columns.is_unique:
            raise ValueError(f"expected columns of different names, got {', '.join(map(str, model_input.columns))}")
        return self._predictor.predict(
            [{name: _cell(value) for name, value in row.items()} for row in model_input.to_dict("records")]
        )


def _cell(value: Any) -> Any:
    """Return a cell as JSON has it: what pandas has for a missing one is null, a date is text."""
    if value is None or (not isinstance(value, list | dict) and pd.isna(value)):
        return None
    if hasattr(value, "item"):
        value = value.item()
    return value.isoformat() if hasattr(value, "isoformat") else value


def check(folder: Path) -> None:
    """Refuse a folder whose files are not those of its manifest."""
    expected = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    names = {path.name for path in folder.iterdir()} - {"manifest.json"}
    found = {name: _hash(folder / name) for name in names}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(f"{folder / name}: not the file that was released")


def _hash(path: Path) -> str:
    """Hash a file; what is none, as compiled code that would run in place of what was checked, has no hash."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"


mlflow.models.set_model(Student())
