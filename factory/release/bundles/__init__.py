"""A release in the forms that others run it in: a table of kinds, each a file of this folder.

A kind writes into an empty folder from a release whose hashes were checked; the folder gets its name when it is whole.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from factory.errors import ArtifactError, FactoryError
from factory.release.bundles.dataset import write_dataset
from factory.release.bundles.docker import write_docker
from factory.release.bundles.hub import write_hub
from factory.release.bundles.onnx import write_onnx
from factory.release.bundles.openvino import write_openvino
from factory.release.files import Files
from factory.store import Artifact

BUNDLES: dict[str, Callable[[Path, Path], None]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "docker": write_docker,
    "hub": write_hub,
}
"""By kind: takes the release folder and an empty one to write into."""
FORMS: dict[str, Callable[[Path, Path], None]] = {**BUNDLES, "dataset": write_dataset}
"""The same, and what answers nothing: the rows it was trained on."""


def export_bundle(release: Path, kind: str, target: Path) -> None:
    """Write a release in one of the `FORMS`.

    Args:
        release: A release folder; nothing in it may have changed since the build.
        kind: Which form.
        target: A folder that does not exist yet, or is empty.

    Raises:
        ArtifactCorrupt: A file of the release is not the one that was released.
        ArtifactError: The target cannot be written.
        FactoryError: There is no such kind, the target has files, or a package is missing.
    """
    if kind not in FORMS:
        raise FactoryError(f"--to: expected one of {', '.join(FORMS)}, got {kind!r}")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FactoryError(f"{target}: expected a new or an empty folder", hint="nothing is overwritten")
    Artifact(release, Files, was_cached=True).check()
    final = target.resolve()
    scratch = final.with_name(f".{final.name}-{os.getpid()}")
    try:
        scratch.mkdir(parents=True)
        FORMS[kind](release, scratch)
        scratch.replace(final)
    except OSError as error:
        raise ArtifactError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
