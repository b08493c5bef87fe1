"""The model registry: one registered MLflow model a task, a version a build, aliases `candidate` and `champion`.

MLflow is the truth. Beside the release folders lies `versions.json`, a copy of what MLflow last said, used only as
long as MLflow's database file has not changed since: `factory predict` then needs no MLflow, whose import and first
query take three seconds. See docs/decisions/0003-registry.md.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import ArtifactMissing, FactoryError
from factory.evaluation.result import Part
from factory.release.mlflow_client import TRACKING_URI, connect, shown
from factory.spec import SAFE_NAME
from factory.store import MANIFEST, read_manifest

CANDIDATE, CHAMPION = "candidate", "champion"
HASH_TAG, PATH_TAG, ARTIFACT = "content_hash", "path", "release"


class Version(Part):
    """One registered build of a task."""

    name: str
    version: int
    aliases: tuple[str, ...]
    metrics: dict[str, float]
    tags: dict[str, str]
    content_hash: str
    path: str
    """Folder of the release, relative to the outputs when it lies in them."""


@dataclass(frozen=True)
class Registry:
    """Registered models of one outputs folder."""

    outputs: Path

    def register(
        self, name: str, folder: Path, *, metrics: Mapping[str, float], tags: Mapping[str, str], passed_gate: bool
    ) -> Version:
        """Register a release folder; the same content again gives the version it already has.

        Args:
            name: Of the task.
            folder: A complete folder of the store.
            metrics: Finite numbers to compare versions by.
            tags: What else to remember, such as the student or the git commit.
            passed_gate: Whether it becomes `champion`; it becomes `candidate` in any case.

        Returns:
            The version, with its aliases.

        Raises:
            ArtifactMissing: The folder has no manifest.
            FactoryError: MLflow cannot be reached or refuses; the folder stays as it is.
        """
        content_hash = str(read_manifest(folder)[HASH_TAG])
        with self._lock(), self.client() as client:
            number = _find(client, name, content_hash)
            if number is None:
                run_id = self._log_run(client, name, folder, metrics)
                _ensure_model(client, name)
                identity = {HASH_TAG: content_hash, PATH_TAG: self._relative(folder)}
                source = f"runs:/{run_id}/{ARTIFACT}"
                created = client.create_model_version(name, source, run_id, tags={**tags, **identity})
                number = int(created.version)
            for alias in (CANDIDATE, CHAMPION) if passed_gate else (CANDIDATE,):
                client.set_registered_model_alias(name, alias, str(number))
            versions = self._ask(client, name)
        return next(version for version in versions if version.version == number)

    def versions(self, name: str) -> tuple[Version, ...]:
        """List the versions of a task.

        Args:
            name: Of the task.

        Returns:
            Newest first; none when the task was never registered.

        Raises:
            FactoryError: It is no name of a task, or MLflow cannot be reached.
        """
        if not SAFE_NAME.fullmatch(name):
            raise FactoryError(
                f"{name[:80]!r}: expected the name of a task: lower-case letters, digits, `-` and `_`",
                hint="it stands in the first lines of the task's spec.yaml",
            )
        copied = self._read_copy(name)
        if copied is not None:
            return copied
        database = self._database()
        if database is not None and not database.exists():
            return ()
        with self.client() as client:
            return self._ask(client, name)

    def resolve(self, name: str, wanted: str | None = None) -> Path:
        """Return the folder of a version.

        Args:
            name: Of the task.
            wanted: A version number or an alias; default: the champion, else the candidate.

        Returns:
            The release folder, or where MLflow's copy of it was downloaded to if it is gone or was built elsewhere.

        Raises:
            ArtifactMissing: No such task or version.
            FactoryError: MLflow cannot be reached.
        """
        versions = self.versions(name)
        if not versions:
            raise ArtifactMissing(
                f"{name}: no version is registered in {shown(self.uri)}",
                hint=f"build it first: factory build tasks/{name}",
            )
        for key in (wanted,) if wanted is not None else (CHAMPION, CANDIDATE):
            for version in versions:
                if key == str(version.version) or key in version.aliases:
                    return self._folder_of(version)
        known = ", ".join([*(str(version.version) for version in versions), *{a for v in versions for a in v.aliases}])
        raise ArtifactMissing(
            f"{name}: expected a version or alias, got {wanted or CHAMPION!r}; known are {known}",
            hint=f"list them: factory models {name}",
        )

    @property
    def uri(self) -> str:
        """Address of MLflow: `MLFLOW_TRACKING_URI`, else a SQLite file in the outputs."""
        return os.environ.get(TRACKING_URI) or f"sqlite:///{(self.outputs / 'mlflow.db').resolve().as_posix()}"

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Lend an `mlflow.MlflowClient`; see `mlflow_client.connect`."""
        self.outputs.mkdir(parents=True, exist_ok=True)
        with connect(self.uri) as client:
            yield client

    def _log_run(self, client: Any, name: str, folder: Path, metrics: Mapping[str, float]) -> str:
        found = client.get_experiment_by_name(name)
        # Without a location MLflow puts files under `mlruns/` of the current folder; a server has a place of its own.
        place = None if os.environ.get(TRACKING_URI) else (self.outputs / "mlruns" / name).resolve().as_uri()
        experiment = found.experiment_id if found else client.create_experiment(name, artifact_location=place)
        run_id = str(client.create_run(experiment, run_name=folder.name).info.run_id)
        for metric, value in metrics.items():
            client.log_metric(run_id, metric, value)
        client.log_artifacts(run_id, str(folder), ARTIFACT)
        client.set_terminated(run_id)
        return run_id

    def _ask(self, client: Any, name: str) -> tuple[Version, ...]:
        """Read all versions from MLflow and renew the copy."""
        # Before the question: a change in between makes the copy stale at once, never wrong.
        stamp = self._stamp()
        versions = _read_versions(client, name)
        if versions and stamp is not None:
            copy = {"stamp": stamp, "versions": [version.model_dump(mode="json") for version in versions]}
            path = self._copy_path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_name(f".{path.name}-{os.getpid()}")
            scratch.write_text(json.dumps(copy, indent=1) + "\n", encoding="utf-8")
            scratch.replace(path)
        return versions

    def _read_copy(self, name: str) -> tuple[Version, ...] | None:
        """Return the copied versions, or None when MLflow must be asked."""
        stamp = self._stamp()
        if stamp is None or not self._copy_path(name).is_file():
            return None
        try:
            copy = json.loads(self._copy_path(name).read_text(encoding="utf-8"))
            is_fresh = copy["stamp"] == stamp
            return tuple(Version.model_validate(one) for one in copy["versions"]) if is_fresh else None
        except (ValueError, KeyError, TypeError):
            return None  # A copy of another format or half a file: the truth is elsewhere.

    def _stamp(self) -> list[int] | None:
        """Return what changes whenever MLflow's database does; None for a server, which must be asked each time."""
        database = self._database()
        if database is None or not database.is_file():
            return None
        stat = database.stat()
        with database.open("rb") as file:
            header = file.read(28)
        # The last four bytes count transactions (sqlite.org/fileformat.html, 1.3.7); a file's time can stand still.
        return [stat.st_ino, stat.st_mtime_ns, int.from_bytes(header[24:], "big")]

    def _database(self) -> Path | None:
        kind, _, path = self.uri.partition(":///")
        return Path(path) if kind == "sqlite" else None

    def _copy_path(self, name: str) -> Path:
        return self.outputs / name / "versions.json"

    def _relative(self, folder: Path) -> str:
        folder, outputs = folder.resolve(), self.outputs.resolve()
        return (folder.relative_to(outputs) if folder.is_relative_to(outputs) else folder).as_posix()

    def _folder_of(self, version: Version) -> Path:
        folder = self.outputs / version.path
        if (folder / MANIFEST).is_file() and read_manifest(folder)[HASH_TAG] == version.content_hash:
            return folder
        copy = self.outputs / version.name / "downloaded" / version.content_hash[:24]
        if not (copy / MANIFEST).is_file():
            self._download(version, copy)
        return copy

    def _download(self, version: Version, copy: Path) -> None:
        scratch = copy.with_name(f".tmp-{copy.name}-{os.getpid()}")
        scratch.mkdir(parents=True, exist_ok=True)
        with self.client() as client:
            run_id = client.get_model_version(version.name, str(version.version)).run_id
            Path(client.download_artifacts(run_id, ARTIFACT, str(scratch))).rename(copy)
        scratch.rmdir()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one process at a time register: two at once would make two versions of one content."""
        self.outputs.mkdir(parents=True, exist_ok=True)
        # One lock for all tasks: the first to come creates the database.
        with (self.outputs / ".registry.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _read_versions(client: Any, name: str) -> tuple[Version, ...]:
    found = client.search_model_versions(f"name='{name}'", order_by=["version_number DESC"])
    if not found:
        return ()
    aliases: dict[int, list[str]] = {}
    for alias, number in client.get_registered_model(name).aliases.items():
        aliases.setdefault(int(number), []).append(alias)
    return tuple(
        Version(
            name=name,
            version=int(one.version),
            aliases=tuple(sorted(aliases.get(int(one.version), []))),
            metrics=dict(client.get_run(one.run_id).data.metrics),
            tags={key: value for key, value in one.tags.items() if key not in (HASH_TAG, PATH_TAG)},
            content_hash=one.tags.get(HASH_TAG, ""),
            path=one.tags.get(PATH_TAG, ""),
        )
        for one in found
    )


def _find(client: Any, name: str, content_hash: str) -> int | None:
    found = client.search_model_versions(f"name='{name}'")
    return next((int(one.version) for one in found if one.tags.get(HASH_TAG) == content_hash), None)


def _ensure_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
