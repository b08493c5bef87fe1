"""Stages and where their results live: a content-addressed, crash-safe folder tree.

    <root>/<stage>/<fingerprint>/manifest.json      written last: a folder with a manifest is complete
                                 ...files of the result...

A fingerprint is a hash of what the result depends on: the stage's name, version and files, its parameters, the
*content* of its inputs, and the identity of its resources. The manifest holds these parts in the clear, so that a
miss can be explained, and what varies from run to run (time, versions), which no fingerprint ever sees.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from factory.errors import ArtifactCorrupt
from factory.events import StageFinished, StageStarted, emit
from factory.fingerprint import Key, differences, hash_file, hash_value, plain
from factory.result_folder import MANIFEST, hash_files, read_manifest, write_result
from factory.result_folder import Result as Result


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
        found = hash_files(self.folder)
        expected = self.manifest["files"]
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                what = "was added" if name not in expected else "is missing" if name not in found else "was changed"
                raise ArtifactCorrupt(
                    f"{self.folder / name}: the file {what} after the stage wrote it",
                    hint=f"delete the folder {self.folder} and run the same command again",
                )


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
        "files": {path.name: hash_file(path) for path in stage.files},
        "params": plain(params),
        "inputs": {name: artifact.content_hash for name, artifact in (inputs or {}).items()},
        "resources": {name: resource.identity for name, resource in (resources or {}).items()},
    }
    return Key(hash_value(parts)[:24], parts)


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
    found = [differences(manifest["key"], key.parts) for manifest in stored]
    return f"{', '.join(min(found, key=len)[:4])} changed"


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
    folder = root / stage.name / key.fingerprint
    write_result(folder, stage.name, key, result, varying)
    seconds = time.monotonic() - started
    emit(StageFinished(stage.name, cached=False, seconds=seconds, summary=result.summary))
    return Artifact(folder, stage.result, was_cached=False)
