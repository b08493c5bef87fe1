"""The one place that imports MLflow: without telemetry, retries for minutes, or a word on the terminal."""

import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from factory.errors import FactoryError

MODEL_CODE = Path(__file__).with_name("mlflow_model.py")

TRACKING_URI = "MLFLOW_TRACKING_URI"
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own defaults try a server that is down for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Environment of MLflow, where the user has not set it."""


@contextmanager
def connect(uri: str) -> Iterator[Any]:
    """Lend an MLflow client; what it raises becomes an error that says what to do.

    Args:
        uri: Of the tracking server, or of a database; it is the registry too.

    Yields:
        An `mlflow.MlflowClient`.

    Raises:
        FactoryError: MLflow cannot be reached, or refuses, or its database is broken.
    """
    mlflow = _import_mlflow()
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries under MLflow, about each other
            yield mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (mlflow.MlflowException, OSError, SQLAlchemyError) as error:
        hint = f"start the server or change {TRACKING_URI}, then run the same command: the release is kept"
        if uri.startswith("sqlite:"):
            hint = "if the file is broken, move it away and build again: releases are kept, and registered anew"
        message = f"registry: MLflow at {shown(uri)} does not answer as expected: {_first_line(error)}"
        raise FactoryError(message, hint=hint) from error


def save_model(release: Path, scratch: Path) -> Path:
    """Wrap a release folder as an MLflow model that `mlflow models serve` and `mlflow.pyfunc` can run.

    Args:
        release: The folder; it is copied as it is.
        scratch: An empty folder to write into.

    Returns:
        A folder in it, of text and the release alone: what MLflow runs is `mlflow_model.py`, never a pickle.
    """
    _import_mlflow()
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model as save
    from mlflow.types import ColSpec, Schema

    shutil.copytree(release, scratch / "release")  # MLflow names its copy after what it copies, and takes no link
    shutil.copyfile(MODEL_CODE, scratch / "student.py")  # it notes where it found things: nowhere on this machine
    is_table = (release / "table_cells.py").is_file()
    pins = (release / "requirements.txt").read_text(encoding="utf-8").split()
    if is_table:  # it has no signature, and MLflow warns of that
        logging.getLogger("mlflow.pyfunc").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(
            str(scratch / "model"),
            python_model=str(scratch / "student.py"),
            artifacts={"release": str(scratch / "release")},
            pip_requirements=[f"mlflow=={version('mlflow')}", *pins],
            # Of a table there is none: MLflow would refuse a whole number where another row has a missing one.
            signature=None if is_table else ModelSignature(inputs=Schema([ColSpec("string", "text")])),
        )
    return scratch / "model"


def shown(text: str) -> str:
    """Return an address, or a message with addresses in it, without users and passwords."""
    return re.sub(r"//[^/\s@]+@", "//", text)


def _first_line(error: Exception) -> str:
    return shown(next(iter(str(error).splitlines()), type(error).__name__))[:200]


def _import_mlflow() -> Any:
    """Import MLflow without telemetry, retries for minutes, or a word on the terminal."""
    for setting, value in SETTINGS.items():
        os.environ.setdefault(setting, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return mlflow


def find_version(client: Any, name: str, tag: str, value: str) -> int | None:
    """Return the number of the version of a model that has a tag with a value; None if none has."""
    found = client.search_model_versions(f"name='{name}'")
    return next((int(one.version) for one in found if one.tags.get(tag) == value), None)


def ensure_model(client: Any, name: str) -> None:
    """Register a model by a name, unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
