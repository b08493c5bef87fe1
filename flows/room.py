"""Whether a build can write where it is told to: asked before it starts, and again when something else fails."""

import shutil
import tempfile
from pathlib import Path

from factory.errors import ArtifactError

LEAST_FREE_MB = 50
"""Less does not hold the databases of Prefect and MLflow and one release."""


def check_room(folder: Path) -> None:
    """Make a folder if there is none, and try to write into it.

    Args:
        folder: Where a build writes.

    Raises:
        ArtifactError: It cannot be made or written, or its disk is nearly full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"?")
        free_mb = shutil.disk_usage(folder).free / 1e6
    except OSError as error:
        hint = "name a folder that may be written, with space on its disk, by --out"
        raise ArtifactError(f"{folder}: cannot be written: {error.strerror}", hint=hint) from error
    if free_mb < LEAST_FREE_MB:
        hint = "free some space, or name a folder on another disk by --out; finished stages and paid replies are kept"
        message = f"the disk is full: {free_mb:.1f} MB are free, and a build needs at least {LEAST_FREE_MB}"
        raise ArtifactError(f"{folder}: {message}", hint=hint)


def check_folder(folder: Path) -> None:
    """Refuse a file where a folder of results is expected; one that does not exist yet is fine.

    Args:
        folder: Where builds write.

    Raises:
        ArtifactError: It is something else, or lies below something else.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ArtifactError(f"{nearest}: expected a folder, got a file", hint="name the folder of the results by --out")
