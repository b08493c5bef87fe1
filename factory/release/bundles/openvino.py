"""The release as an OpenVINO graph, compared with the ONNX one before it is handed out."""

import importlib.metadata
import importlib.util
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from factory.errors import ArtifactError, FactoryError
from factory.release import openvino_session
from factory.release.package import CARD
from factory.release.parity import HOSTILE_TEXTS, TOLERANCE
from factory.release.predict import Predictor

KEPT = ("config.json", "tokenizer.json", "vocabulary.json", "predict.py", CARD, "lineage.json")
INT8_TOLERANCE = 0.02
"""Of a probability: int8 rounds each text's activations, and the two runtimes round halves differently."""
INSTALL = "pip install 'task-model-factory[openvino]'"


def write_openvino(release: Path, folder: Path) -> None:
    """Convert the graph, keep what turns texts into its inputs, and compare the answers.

    Args:
        release: A release folder.
        folder: An empty one.

    Raises:
        ArtifactError: The graph cannot be converted, or does not say what the ONNX graph says.
        FactoryError: The package `openvino` is not installed, or the release answers rows of a table.
    """
    if (release / "table_cells.py").is_file():
        raise FactoryError(
            f"{release}: OpenVINO makes encoders of texts faster, and a table has none",
            hint="export it as onnx or docker: a row takes a fraction of a millisecond",
        )
    openvino = _import_openvino()
    for name in KEPT:
        if (release / name).is_file():
            shutil.copyfile(release / name, folder / name)
    try:
        model = openvino.Core().read_model(release / "model.onnx")  # `convert_model` would start its telemetry
    except RuntimeError as error:
        raise ArtifactError(f"{release / 'model.onnx'}: OpenVINO does not know it: {str(error)[:300]}") from error
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    (folder / "predict_openvino.py").write_bytes(Path(openvino_session.__file__).read_bytes())
    pins = (release / "requirements.txt").read_text(encoding="utf-8").split()
    others = [pin for pin in pins if not pin.startswith("onnxruntime")]
    version = importlib.metadata.version("openvino")
    (folder / "requirements.txt").write_text("\n".join([*others, f"openvino=={version}", ""]), encoding="utf-8")
    compare(release, folder)


def compare(release: Path, folder: Path) -> None:
    """Hold the OpenVINO graph against the ONNX graph on texts made to break things, and on the labels' names.

    Args:
        release: With the ONNX graph.
        folder: With the OpenVINO graph; `parity.json` is written there.

    Raises:
        ArtifactError: A label differs, or a probability by more than the tolerance.
    """
    expected_of = Predictor(release)
    found_of = _load(folder / "predict.py").Predictor(folder)
    texts = [*HOSTILE_TEXTS.values(), *expected_of.labels]
    expected = np.concatenate([expected_of.predict_proba([text]) for text in texts])
    found = np.concatenate([found_of.predict_proba([text]) for text in texts])
    difference = float(np.abs(expected - found).max())
    ships = json.loads((release / "parity.json").read_text(encoding="utf-8"))["ships"]
    tolerance = TOLERANCE if ships == "float32" else INT8_TOLERANCE
    clear = np.abs(np.diff(np.sort(expected, axis=1)[:, -2:], axis=1))[:, 0] > 2 * tolerance
    differs = (expected.argmax(axis=1) != found.argmax(axis=1)) & clear
    if difference > tolerance or differs.any():
        raise ArtifactError(
            f"openvino: differs from the ONNX graph by up to {difference:.4f} of a probability, more than {tolerance}"
        )
    said = {"n_texts": len(texts), "largest_difference": round(difference, 5), "tolerance": tolerance, "from": ships}
    (folder / "parity.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def _load(path: Path) -> Any:
    """Load a `predict.py` of its own, so that ours keeps its runtime."""
    spec = importlib.util.spec_from_file_location("predict_for_openvino", path)
    if spec is None or spec.loader is None:
        raise ArtifactError(f"{path}: cannot be loaded")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
    return openvino_session.use_openvino(program)


def _import_openvino() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import openvino
    except ImportError as error:
        raise FactoryError("--to openvino needs a package that is not installed", hint=INSTALL) from error
    return openvino
