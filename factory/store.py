"""Stages and where their results live: a content-addressed, crash-safe folder tree.

    <root>/<stage>/<fingerprint>/manifest.json      written last: a folder with a manifest is complete
                                 ...files of the result...

A fingerprint is a hash of what the result depends on: the stage's name, version and files, its parameters, the
*content* of its inputs, and the identity of its resources. The manifest holds these parts in the clear, so that a
miss can be explained, and what varies from run to run (time, versions), which no fingerprint ever sees.
"""

import errno
import hashlib
import json
import math
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from pydantic import BaseModel

from factory import __version__
from factory.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing
from factory.events import StageFinished, StageStarted, emit

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


class Resource(Protocol):
    """Something a stage uses that is not an artifact: a teacher, a data file, an encoder."""

    @property
    def identity(self) -> str:
        """A string that changes when, and only when, results may change."""


R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Stage(Generic[R]):
    """A named, versioned pure function `run(params, **inputs, **resources) -> result`."""

    name: str
    version: int
    """Bump it when the meaning of the output changes; the stage's golden test reminds you."""
    params: type[BaseModel]
    """Only what this stage reads: never the whole spec."""
    run: Callable[..., R]
    result: type[R]
    files: tuple[Path, ...] = ()
    """Prompt templates and word lists: hashed too."""


@dataclass(frozen=True)
class Artifact(Generic[R]):
    """A stored result; reading it checks every file against the manifest."""

    folder: Path
    result: type[R]
    was_cached: bool

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the result was made from, and the hash of each of its files."""
        return read_manifest(self.folder)

    @property
    def content_hash(self) -> str:
        """Hash over the files of the result: equal for equal bytes, whoever made them."""
        return str(self.manifest["content_hash"])

    @property
    def fingerprint(self) -> str:
        """Hash of what the result depends on."""
        return str(self.manifest["fingerprint"])

    def load(self) -> R:
        """Read the result after checking every file.

        Returns:
            What the stage returned.

        Raises:
            ArtifactCorrupt: A file was changed, added or removed after the stage wrote it.
        """
        self.check()
        return self.result.load(self.folder)

    def check(self) -> None:
        """Compare every file with the manifest.

        Raises:
            ArtifactCorrupt: A file was changed, added or removed after the stage wrote it.
        """
        found = _hash_files(self.folder)
        expected = self.manifest["files"]
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                what = "was added" if name not in expected else "is missing" if name not in found else "was changed"
                raise ArtifactCorrupt(
                    f"{self.folder / name}: the file {what} after the stage wrote it",
                    hint=f"delete the folder {self.folder} and run the same command again",
                )


@dataclass(frozen=True)
class Key:
    """The fingerprint of a stage run and the parts it was made from."""

    fingerprint: str
    parts: dict[str, Any]


def key_of(
    stage: Stage[Any],
    params: BaseModel,
    *,
    inputs: Mapping[str, Artifact[Any]] | None = None,
    resources: Mapping[str, Resource] | None = None,
) -> Key:
    """Compute what identifies a stage run.

    Args:
        stage: What would run.
        params: An instance of `stage.params`.
        inputs: Artifacts of earlier stages.
        resources: What the stage would be handed.

    Returns:
        The fingerprint and the parts it is a hash of.

    Raises:
        TypeError: A parameter is not a plain, stable value (a set, a path, a NaN...).
    """
    parts: dict[str, Any] = {
        "stage": stage.name,
        "version": stage.version,
        "files": {path.name: _hash_file(path) for path in stage.files},
        "params": plain(params),
        "inputs": {name: artifact.content_hash for name, artifact in (inputs or {}).items()},
        "resources": {name: resource.identity for name, resource in (resources or {}).items()},
    }
    return Key(hashlib.sha256(_dump(parts).encode()).hexdigest()[:24], parts)


def plain(value: object, where: str = "params") -> Any:
    """Turn a value into JSON-ready data, or refuse it.

    Args:
        value: A parameter; the order of a mapping is kept, because prompts list labels in spec order.
        where: Dotted path of the value, for the message.

    Returns:
        The same value in dicts, lists, text, numbers, booleans and None.

    Raises:
        TypeError: The value has no stable written form.
    """
    if isinstance(value, Enum):
        return plain(value.value, where)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise TypeError(f"{where}: cannot fingerprint {value}")
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name), f"{where}.{name}") for name in type(value).model_fields}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{where}: cannot fingerprint a mapping whose keys are not text")
        return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(f"{where}: cannot fingerprint a {type(value).__name__}")


def find(root: Path, stage: Stage[R], key: Key) -> Artifact[R] | None:
    """Return the stored, complete artifact for a key, or None."""
    folder = root / stage.name / key.fingerprint
    if not (folder / MANIFEST).is_file():
        return None
    artifact = Artifact(folder, stage.result, was_cached=True)
    return artifact if artifact.manifest["is_complete"] else None


def explain_miss(root: Path, stage: Stage[Any], key: Key) -> str:
    """Say which part of the key differs from the most similar stored run of the stage."""
    stored = [read_manifest(path.parent) for path in (root / stage.name).glob(f"[!.]*/{MANIFEST}")]
    if not stored:
        return "never run"
    if any(manifest["fingerprint"] == key.fingerprint for manifest in stored):
        return "ended early: the budget was used up"
    differences = [_differences(manifest["key"], key.parts) for manifest in stored]
    return f"{', '.join(min(differences, key=len)[:4])} changed"


def run_stage(
    root: Path,
    stage: Stage[R],
    params: BaseModel,
    *,
    inputs: Mapping[str, Artifact[Any]] | None = None,
    resources: Mapping[str, Resource] | None = None,
    measured: Callable[[], Mapping[str, Any]] = dict,
) -> Artifact[R]:
    """Return the stored result of a stage, or run it and store what it returns.

    Args:
        root: Folder of one task's outputs.
        stage: What to run.
        params: An instance of `stage.params`.
        inputs: Artifacts of earlier stages; loaded only when the stage must run.
        resources: Handed to the stage as they are; only their identity enters the key.
        measured: Asked once the stage has run: what the manifest shall say of this run that no key may contain.

    Returns:
        The artifact, in its final folder.

    Raises:
        ArtifactError: The result cannot be written, for example because the disk is full.
        TypeError: `params` holds a value without a stable written form, or is of another class than the stage's.
    """
    if not isinstance(params, stage.params):
        raise TypeError(f"stage {stage.name} takes {stage.params.__name__}, not {type(params).__name__}")
    started = time.monotonic()
    key = key_of(stage, params, inputs=inputs, resources=resources)
    found = find(root, stage, key)
    if found is not None:
        summary = str(found.manifest["summary"])
        emit(StageFinished(stage.name, cached=True, seconds=time.monotonic() - started, summary=summary))
        return found
    emit(StageStarted(stage.name, because=explain_miss(root, stage, key)))
    loaded = {name: artifact.load() for name, artifact in (inputs or {}).items()}
    result = stage.run(params, **loaded, **(resources or {}))
    varying = {**measured(), "seconds": round(time.monotonic() - started, 3)}
    artifact = _store(root, stage, key, result, varying)
    seconds = time.monotonic() - started
    emit(StageFinished(stage.name, cached=False, seconds=seconds, summary=result.summary))
    return artifact


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


def sweep(root: Path) -> None:
    """Delete the unfinished folders of processes that no longer run on this machine."""
    for folder in root.glob("*/.tmp-*"):
        host, _, rest = folder.name.removeprefix(".tmp-").rpartition("-")[0].rpartition("-")
        if host == platform.node() and rest.isdigit() and not _is_alive(int(rest)):
            shutil.rmtree(folder, ignore_errors=True)


def _store(root: Path, stage: Stage[R], key: Key, result: R, varying: Mapping[str, Any]) -> Artifact[R]:
    """Write to a temporary folder, manifest last, then rename: readers see all of it or nothing."""
    final = root / stage.name / key.fingerprint
    # One name per attempt: two builds of one task never write into the same folder.
    work = _scratch(final.parent)
    try:
        work.mkdir(parents=True)
        result.save(work)
        files = _hash_files(work)
        manifest = {
            "stage": stage.name,
            "fingerprint": key.fingerprint,
            "key": key.parts,
            "files": files,
            "content_hash": hashlib.sha256(_dump(files).encode()).hexdigest(),
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
    return Artifact(final, stage.result, was_cached=False)


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


def _hash_files(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): _hash_file(path) for path in paths}


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _differences(old: object, new: object, where: str = "") -> list[str]:
    """Return the dotted paths at which two JSON values differ; a change of key order is one too."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = [
            path
            for name in dict.fromkeys([*old, *new])
            for path in _differences(old.get(name), new.get(name), f"{where}.{name}" if where else str(name))
        ]
        return found if found or list(old) == list(new) else [f"order of {where}"]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            path
            for index, (a, b) in enumerate(zip(old, new, strict=True))
            for path in _differences(a, b, f"{where}[{index}]")
        ]
    return [] if _dump(old) == _dump(new) else [where]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
