"""From a fitted student to a folder that answers with numpy, onnxruntime and tokenizers alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.events import Progressed, emit
from factory.records import Origin, Rows, TextRow, text_dataset
from factory.release import predict
from factory.release.files import Files
from factory.release.parity import HOSTILE_TEXTS, Int8Trial, Parity, calibrated, largest_difference
from factory.release.predict import FORMAT_VERSION, Predictor
from factory.release.quantise import RECIPES, has_encoder, quantise
from factory.spec import Model
from factory.store import Stage
from factory.students.training import FittedStudent

if TYPE_CHECKING:
    from datasets import Dataset

MODEL, PARITY = "model.onnx", "parity.json"
REQUIREMENTS = ("numpy", "onnxruntime", "tokenizers")
WRITERS = ("onnx",)
"""What only the export itself needs."""
ALLOWED_FALL = 0.005
"""Int8 ships only if it loses less accuracy than this on the validation rows."""


def installed_libraries() -> dict[str, str]:
    """Return the versions of what writes the folder, compares it and is pinned in it."""
    return {package: version(package) for package in (*REQUIREMENTS, *WRITERS)}


class ExportParams(Model):
    """What the exported folder says about itself."""

    name: str
    labels: tuple[str, ...]
    """Spec order."""
    calibration_temperature: Annotated[float, Field(gt=0)] = 1.0
    libraries: dict[str, str] = Field(default_factory=installed_libraries)
    """Versions, so that a folder that pins others is written and compared anew."""


class Exported(Files):
    """`model.onnx`, vocabulary, `config.json`, `predict.py`, `requirements.txt` and `parity.json`."""

    @property
    def parity(self) -> Parity:
        """How the graph compares with the student."""
        return Parity.model_validate_json(self.contents[PARITY])

    @property
    def summary(self) -> str:
        """One line for a person."""
        parity = self.parity
        return f"{parity.ships}, {self.size_mb:.1f} MB, differs from Python by at most {parity.largest_difference:.0e}"


@dataclass(frozen=True)
class _Texts:
    """Validation rows, then the hostile texts."""

    ids: list[str]
    rows: "Dataset"
    labels: list[str]
    """Of the validation rows only."""

    def accuracy(self, probs: NDArray[np.float64], names: Sequence[str]) -> float | None:
        """Return the share of validation rows answered as labelled; None without any."""
        if not self.labels:
            return None
        answers = probs[: len(self.labels)].argmax(axis=1)
        return float(np.mean([names[column] == label for column, label in zip(answers, self.labels, strict=True)]))


def export(params: ExportParams, *, fitted: FittedStudent, rows: Rows) -> Exported:
    """Write the student as ONNX, compare it with Python, and take int8 weights where that costs nothing.

    Args:
        params: Name, labels in spec order, temperature.
        fitted: The student.
        rows: Labelled validation rows, synthetic ones will do; they decide whether int8 is good enough.

    Returns:
        Everything needed to predict.

    Raises:
        ArtifactError: The graph does not say what the student says.
    """
    texts = _gather(rows)
    n_steps = 2 + len(RECIPES)
    emit(Progressed(EXPORT.name, 0, n_steps, "steps", "writing the graph"))
    with TemporaryDirectory(prefix="factory-") as temporary:
        folder = Path(temporary)
        _write_folder(params, fitted, folder)
        emit(Progressed(EXPORT.name, 1, n_steps, "steps", "comparing it with Python"))
        exact = _probs(folder, texts)
        expected = calibrated(fitted.student.predict_proba(texts.rows), params.calibration_temperature)
        difference, worst = largest_difference(expected, exact, texts.ids, student=fitted.name)
        accuracy = texts.accuracy(exact, params.labels)
        trials = [] if accuracy is None else _try_int8(folder, texts, exact, params.labels)
        emit(Progressed(EXPORT.name, n_steps, n_steps, "steps"))
        parity = Parity(
            n_rows=len(texts.labels),
            n_hostile=len(HOSTILE_TEXTS),
            largest_difference=difference,
            worst=worst,
            float32_accuracy=accuracy,
            int8=tuple(trials),
            ships=trials[-1].recipe if trials and trials[-1].accepted else "float32",
        )
        (folder / PARITY).write_text(parity.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return Exported.load(folder)


EXPORT = Stage("export", 2, ExportParams, export, Exported, files=(Path(predict.__file__),))


def _gather(rows: Rows) -> _Texts:
    hostile = [TextRow(text, None, Origin.SYNTHETIC) for text in HOSTILE_TEXTS.values()]
    from datasets import concatenate_datasets

    return _Texts(
        ids=[*rows.kept["id"], *HOSTILE_TEXTS],
        rows=concatenate_datasets([rows.kept, text_dataset(hostile)]),
        labels=list(rows.kept["label"]),
    )


def _write_folder(params: ExportParams, fitted: FittedStudent, folder: Path) -> None:
    inputs = fitted.student.to_onnx(folder)
    config: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": params.name,
        "labels": list(params.labels),
        "inputs": inputs,
        "calibration_temperature": params.calibration_temperature,
    }
    text = json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    (folder / "predict.py").write_bytes(Path(predict.__file__).read_bytes())
    pins = "".join(f"{package}=={params.libraries[package]}\n" for package in REQUIREMENTS)
    (folder / "requirements.txt").write_text(pins, encoding="utf-8")


def _probs(folder: Path, texts: _Texts) -> NDArray[np.float64]:
    """Ask the folder; hostile texts one by one, because beside longer ones the empty text is not empty any more."""
    predictor = Predictor(folder)
    asked, n_rows = list(texts.rows["text"]), len(texts.labels)
    together = [predictor.predict_proba(asked[:n_rows])] if n_rows else []
    return np.concatenate([*together, *(predictor.predict_proba([text]) for text in asked[n_rows:])]).astype(np.float64)


def _try_int8(folder: Path, texts: _Texts, exact: NDArray[np.float64], names: Sequence[str]) -> list[Int8Trial]:
    """Try the recipes until one is good enough; leave the graph that ships in the folder."""
    import onnx

    float32 = (folder / MODEL).read_bytes()
    if not has_encoder(onnx.load_from_string(float32)):
        return []
    accuracy = texts.accuracy(exact, names)
    trials: list[Int8Trial] = []
    for recipe in RECIPES:
        emit(Progressed(EXPORT.name, 2 + len(trials), 2 + len(RECIPES), "steps", f"trying int8 {recipe}"))
        int8 = quantise(float32, recipe)
        (folder / MODEL).write_bytes(int8)
        probs = _probs(folder, texts)
        found = texts.accuracy(probs, names)
        accepted = accuracy is not None and found is not None and accuracy - found < ALLOWED_FALL
        difference = float(np.abs(probs - exact).max())
        trials.append(
            Int8Trial(
                recipe=f"int8-{recipe}",
                size_mb=len(int8) / 1e6,
                accuracy=found or 0.0,
                largest_difference=difference,
                accepted=accepted,
            )
        )
        if accepted:
            return trials
    (folder / MODEL).write_bytes(float32)
    return trials
