"""What a release was made from, found again in the store by its lineage."""

import json
from pathlib import Path

from factory.errors import ArtifactCorrupt, ArtifactMissing
from factory.records import Rows
from factory.release.export import EXPORT
from factory.release.package import LINEAGE, Lineage, StageRun
from factory.result_folder import read_manifest
from factory.store import Artifact

HOLDOUT = "read-holdout"


def read_lineage(release: Path) -> Lineage:
    """Read the lineage of a release folder.

    Args:
        release: The folder.

    Returns:
        Its stages, in the order of the build.

    Raises:
        ArtifactMissing: There is none.
        ArtifactCorrupt: It is none that this version of the factory wrote.
    """
    path = release / LINEAGE
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return Lineage.model_validate({name: said[name] for name in Lineage.model_fields})  # it names the code too
    except OSError as error:
        raise ArtifactMissing(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupt(f"{path}: expected the lineage of a release: {error}") from error


def holdout_of(release: Path, root: Path) -> Rows | None:
    """Return the gold rows a release was judged on; None when it was judged on none.

    Args:
        release: Its folder.
        root: Outputs of the task.

    Returns:
        The rows as they were read.

    Raises:
        ArtifactMissing: They are not stored here.
    """
    stages = [run for run in read_lineage(release).stages if run.stage == HOLDOUT]
    return _load(stages[-1], root, release) if stages else None


def training_rows_of(release: Path, root: Path) -> Rows:
    """Return the rows the released student was trained on.

    Args:
        release: Its folder.
        root: Outputs of the task.

    Returns:
        The rows.

    Raises:
        ArtifactMissing: They are not stored here.
        ArtifactCorrupt: The lineage names no stage that made them.
    """
    stages = read_lineage(release).stages
    exports = [run for run in stages if run.stage == EXPORT.name]
    if exports:
        # What is exported was compared with the student on the very rows it was trained on.
        wanted = read_manifest(_folder(exports[-1], root, release))["key"]["inputs"]["rows"]
        made = [run for run in stages if run.content_hash == wanted]
        if made:
            return _load(made[-1], root, release)
    raise ArtifactCorrupt(f"{release / LINEAGE}: names no stage that made the training rows")


def _folder(run: StageRun, root: Path, release: Path) -> Path:
    folder = root / run.stage / run.fingerprint
    if not folder.is_dir():
        raise ArtifactMissing(
            f"{folder}: not stored here, but {release} was made from it",
            hint="give the outputs of the machine that built it (--outputs), or the rows as a file (--rows)",
        )
    return folder


def _load(run: StageRun, root: Path, release: Path) -> Rows:
    return Artifact(_folder(run, root, release), Rows, was_cached=True).load()
