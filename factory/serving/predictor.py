"""Open a registered release to predict with, after checking that nobody has touched it."""

from pathlib import Path

from factory.errors import ArtifactCorrupt
from factory.release.package import Release
from factory.release.predict import ArtifactError, Predictor
from factory.release.registry import Registry
from factory.store import Artifact


def load(outputs: Path, name: str, version: str | None = None) -> Predictor:
    """Open a version of a task.

    Args:
        outputs: Folder of all tasks' outputs.
        name: Of the task.
        version: A number or an alias; default: the champion, else the candidate.

    Returns:
        A predictor that needs nothing but its folder.

    Raises:
        ArtifactMissing: No such task or version.
        ArtifactCorrupt: A file is not the one that was released.
        FactoryError: MLflow cannot be reached.
    """
    return open_release(Registry(outputs).resolve(name, version))


def open_release(folder: Path) -> Predictor:
    """Open a release folder, after checking that nobody has touched it.

    Args:
        folder: As a build wrote it.

    Returns:
        A predictor that needs nothing but its folder.

    Raises:
        ArtifactCorrupt: A file is not the one that was released.
    """
    Artifact(folder, Release, was_cached=True).load()
    try:
        return Predictor(folder)
    except ArtifactError as error:  # of the stand-alone program, which knows nothing of the factory
        raise ArtifactCorrupt(str(error), hint="build the task again") from error
