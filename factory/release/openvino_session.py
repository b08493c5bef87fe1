#!/usr/bin/env python3
"""Answer with this student on OpenVINO: as `predict.py`, which does all but running the graph.

    pip install -r requirements.txt && python predict_openvino.py "play some jazz"

From Python: `open_predictor(folder).predict(["play some jazz"])`.
"""

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Session:
    """What `predict.py` asks of onnxruntime, asked of OpenVINO."""

    def __init__(self, path: Path) -> None:
        import openvino

        # In the precision of the graph: by default some processors calculate in half of it.
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        self._own = threading.local()
        self._model = openvino.Core().compile_model(path.with_suffix(".xml"), "CPU", settings)

    def run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """Return the outputs of those names."""
        if not hasattr(self._own, "request"):
            self._own.request = self._model.create_infer_request()  # which answers one call at a time
        answer = self._own.request.infer(dict(feeds))
        # The request writes its next answer into the same memory.
        return [answer[name].copy() for name in names]


def use_openvino(program: Any) -> Any:
    """Let a loaded `predict.py` open OpenVINO graphs; returns it."""
    program._open_session = Session
    return program


def open_predictor(folder: Path) -> Any:
    """Open a folder that holds this file."""
    sys.path.insert(0, str(folder))
    import predict  # type: ignore[import-not-found]  # of the folder

    return use_openvino(predict).Predictor(folder)


if __name__ == "__main__":
    import predict

    sys.exit(use_openvino(predict).main())
