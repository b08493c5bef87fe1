"""The folder of one result: written as a whole or not at all, with a manifest that says what it was made from."""

import errno
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from factory import __version__
from factory.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing
from factory.fingerprint import Key, hash_file, hash_value

MANIFEST = "manifest.json"
MANIFEST_KEYS: dict[str, type] = {
    "stage": str,
    "fingerprint": str,
    "key": dict,
    "files": dict,
    "content_hash": str,
    "is_complete": bool,
    "summary": str,
    "varying": dict,
}
"""What every manifest says."""


class Result(Protocol):
    """What a stage returns: it can write itself into a folder and read itself back."""

    @property
    def is_complete(self) -> bool:
        """False when a budget ended the stage early: kept on disk, run again next time."""

    @property
    def summary(self) -> str:
        """One line for a person."""

    def save(self, folder: Path) -> None:
        """Write files into an empty folder: the same result, the same bytes."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""


def write_result(final: Path, stage: str, key: Key, result: Result, varying: Mapping[str, Any]) -> None:
    """Write to a temporary folder, manifest last, then rename: readers see all of it or nothing.

    Args:
        final: Where the result shall be; when another process was faster, what it wrote stays.
        stage: The name of what made it.
        key: What it was made from.
        result: What was made.
        varying: What to say of this run that no key may contain.

    Raises:
        ArtifactError: It cannot be written, for example because the disk is full.
    """
    # One name per attempt: two builds of one task never write into the same folder.
    work = _scratch(final.parent)
    try:
        work.mkdir(parents=True)
        result.save(work)
        files = hash_files(work)
        manifest = {
            "stage": stage,
            "fingerprint": key.fingerprint,
            "key": key.parts,
            "files": files,
            "content_hash": hash_value(files),
            "is_complete": result.is_complete,
            "summary": result.summary,
            "varying": {
                **varying,
                "written_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "factory": __version__,
                "python": platform.python_version(),
            },
        }
        _write_durably(work / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False) + "\n")
        _publish(work, final)
    except OSError as error:
        shutil.rmtree(work, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space and run the same command again; finished stages and paid replies are kept"
            raise ArtifactError(f"{final}: the disk is full", hint=hint) from error
        hint = "check that the folder may be written to, then run the same command again"
        raise ArtifactError(f"{final}: cannot write the result: {error}", hint=hint) from error
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of an artifact folder.

    Args:
        folder: A folder that a stage wrote.

    Returns:
        The manifest as it was written.

    Raises:
        ArtifactMissing: There is none.
        ArtifactCorrupt: It is not valid JSON, or lacks what a manifest says.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactMissing(f"{path}: no such file", hint="run `factory build` again") from error
    except ValueError as error:
        hint = f"delete the folder {folder} and run the same command again"
        raise ArtifactCorrupt(f"{path}: not a manifest: {error}", hint=hint) from error
    wrong = "an object"
    if isinstance(manifest, dict):
        wrong = ", ".join(name for name, kind in MANIFEST_KEYS.items() if not isinstance(manifest.get(name), kind))
    if wrong:
        hint = f"delete the folder {folder} and run the same command again"
        raise ArtifactCorrupt(f"{path}: not a manifest: expected {wrong}", hint=hint)
    return dict(manifest)


def hash_files(folder: Path) -> dict[str, str]:
    """Return the hash of each file of a result, by its path in the folder; its manifest is none of them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in paths}


def sweep(root: Path) -> None:
    """Delete the unfinished folders of processes that no longer run on this machine."""
    for folder in root.glob("*/.tmp-*"):
        host, _, rest = folder.name.removeprefix(".tmp-").rpartition("-")[0].rpartition("-")
        if host == platform.node() and rest.isdigit() and not _is_alive(int(rest)):
            shutil.rmtree(folder, ignore_errors=True)


def _scratch(parent: Path) -> Path:
    """Name a folder that only this attempt uses and that `sweep` can attribute to this process."""
    return parent / f".tmp-{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _publish(work: Path, final: Path) -> None:
    """Rename the finished folder into place; when another build was faster, keep its result."""
    for _ in range(10):
        try:
            work.rename(final)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        if (final / MANIFEST).is_file() and read_manifest(final)["is_complete"]:
            shutil.rmtree(work)
            return
        # An incomplete result (or rubbish without a manifest) is in the way: move it aside and try once more.
        aside = _scratch(final.parent)
        try:
            final.rename(aside)
        except FileNotFoundError:
            continue
        shutil.rmtree(aside, ignore_errors=True)
    raise OSError(errno.EEXIST, "another process keeps writing the same folder", str(final))


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
