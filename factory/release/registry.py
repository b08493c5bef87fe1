"""The model registry: one registered MLflow model a task, a version a build, and names for versions that move.

    candidate   the newest build
    champion    what answers: the newest build that passed its gate, until a person promotes another
    previous    the champion before

MLflow is the truth; who moved the champion, when and why are tags of the version it moved to. What it last said is kept
beside the release folders, because asking it takes seconds (`versions_copy`). See docs/decisions/0003-registry.md.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from factory.errors import ArtifactMissing, FactoryError
from factory.release.champion import make_champion, new_move
from factory.release.files import Files
from factory.release.mlflow_client import TRACKING_URI, connect, ensure_model, find_version, save_model, shown
from factory.release.moves import write_move
from factory.release.versions import (
    CANDIDATE,
    CHAMPION,
    GATE_TAG,
    HASH_TAG,
    PATH_TAG,
    PREVIOUS,
    Version,
    aliased,
    check_name,
    numbered,
    pick,
    read_versions,
)
from factory.release.versions_copy import VersionsCopy
from factory.result_folder import MANIFEST, read_manifest
from factory.store import Artifact

MODEL, RELEASE = "model", "model/artifacts/release"
"""Of a run: the MLflow model, which any MLflow can serve; in it the release folder as it is."""


@dataclass(frozen=True)
class Registry:
    """Registered models of one outputs folder."""

    outputs: Path

    def register(
        self,
        name: str,
        folder: Path,
        *,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        passed_gate: bool,
        asks: bool = False,
    ) -> Version:
        """Register a release folder; the same content again gives the version it already has.

        Args:
            name: Of the task.
            folder: A complete folder of the store.
            metrics: Finite numbers to compare versions by.
            tags: What else to remember, such as the student or the git commit.
            passed_gate: Whether it becomes `champion`; it becomes `candidate` in any case.
            asks: It becomes `champion` only when a person says so, by `promote`.

        Returns:
            The version, with its aliases.

        Raises:
            ArtifactMissing: The folder has no manifest.
            FactoryError: MLflow cannot be reached or refuses; the folder stays as it is.
        """
        content_hash = str(read_manifest(folder)[HASH_TAG])
        with self._lock(), self.client() as client:
            number = find_version(client, name, HASH_TAG, content_hash)
            if number is None:
                run_id = self._log_run(client, name, folder, metrics)
                ensure_model(client, name)
                identity = {HASH_TAG: content_hash, PATH_TAG: self._relative(folder)}
                source = f"runs:/{run_id}/{MODEL}"
                created = client.create_model_version(name, source, run_id, tags={**tags, **identity})
                number = int(created.version)
            client.set_model_version_tag(name, str(number), GATE_TAG, "passed" if passed_gate else "failed")
            client.set_registered_model_alias(name, CANDIDATE, str(number))
            if passed_gate and not asks:
                make_champion(client, self._ask(client, name), number, how="gate")
            return numbered(self._ask(client, name), number)

    def promote(
        self, name: str, wanted: str = CANDIDATE, *, note: str = "", force: bool = False, by: str = ""
    ) -> Version:
        """Make a version the champion, and the champion `previous`.

        Args:
            name: Of the task.
            wanted: A version number or an alias.
            note: Why; kept with who did it and when.
            force: Also a version that did not pass its gate.
            by: Who did it; default: the user's name.

        Returns:
            The version; as it was, if it is the champion already.

        Raises:
            ArtifactMissing: No such task or version.
            ArtifactCorrupt: Its release folder is not the one that was registered.
            FactoryError: It did not pass its gate, or MLflow cannot be reached.
        """
        with self._changing(name) as (client, versions):
            version = pick(versions, name, (wanted,))
            if CHAMPION in version.aliases:
                return version
            if not version.passed_gate and not force:
                known = "did not pass its gate" if version.passed_gate is False else "was never held against a gate"
                raise FactoryError(
                    f"{name}: version {version.version} {known}",
                    hint="its card.md says which bounds it missed; --force promotes it all the same, and notes it",
                )
            Artifact(self._folder_of(version), Files, was_cached=True).check()
            forced = not version.passed_gate
            make_champion(client, versions, version.version, how="promote", note=note, forced=forced, by=by)
            return numbered(self._ask(client, name), version.version)

    def reject(self, name: str, wanted: str, *, note: str = "", by: str = "") -> Version:
        """Keep that a person was asked whether a version shall be the champion, and said no.

        Args:
            name: Of the task.
            wanted: A version number or an alias.
            note: Why; kept with who did it and when.
            by: Who did it; default: the user's name.

        Returns:
            The version, with that among its moves.

        Raises:
            ArtifactMissing: No such task or version.
            FactoryError: MLflow cannot be reached.
        """
        with self._changing(name) as (client, versions):
            number = pick(versions, name, (wanted,)).version
            write_move(client, name, number, new_move("reject", None, note=note, by=by))
            return numbered(self._ask(client, name), number)

    def rollback(self, name: str, *, note: str = "") -> Version:
        """Make the previous champion the champion again, and the champion `previous`: a second rollback undoes it.

        Args:
            name: Of the task.
            note: Why; kept with who did it and when.

        Returns:
            The version that is champion now.

        Raises:
            ArtifactMissing: No such task, or there was no champion before this one.
            ArtifactCorrupt: The release folder is not the one that was registered.
            FactoryError: MLflow cannot be reached.
        """
        with self._changing(name) as (client, versions):
            before = aliased(versions, PREVIOUS)
            if before is None or CHAMPION in before.aliases:
                raise ArtifactMissing(
                    f"{name}: there was no champion before this one", hint=f"list the versions: factory models {name}"
                )
            Artifact(self._folder_of(before), Files, was_cached=True).check()
            make_champion(client, versions, before.version, how="rollback", note=note)
            return numbered(self._ask(client, name), before.version)

    def names(self) -> list[str]:
        """List the tasks that have versions.

        Returns:
            In alphabetical order; none where nothing was registered.

        Raises:
            FactoryError: MLflow cannot be reached.
        """
        database = self._database()
        if database is not None and not database.exists():
            return []
        with self.client() as client:
            return sorted(one.name for one in client.search_registered_models(max_results=1000))

    def versions(self, name: str) -> tuple[Version, ...]:
        """List the versions of a task.

        Args:
            name: Of the task.

        Returns:
            Newest first; none when the task was never registered.

        Raises:
            FactoryError: It is no name of a task, or MLflow cannot be reached.
        """
        check_name(name)
        copied = self._copy(name).read()
        if copied is not None:
            return tuple(Version.model_validate(one) for one in copied)
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
        return self._folder_of(self.find(name, wanted))

    def find(self, name: str, wanted: str | None = None) -> Version:
        """Return a version by its number or alias; see `resolve`."""
        return pick(self._known(name), name, (wanted,) if wanted is not None else (CHAMPION, CANDIDATE))

    @property
    def uri(self) -> str:
        """Address of MLflow: `MLFLOW_TRACKING_URI`, else a SQLite file in the outputs."""
        return os.environ.get(TRACKING_URI) or f"sqlite:///{(self.outputs / 'mlflow.db').resolve().as_posix()}"

    def make_database(self) -> None:
        """Make the database of the outputs where there is none yet."""
        with self._lock(), self.client() as client:
            client.search_registered_models(max_results=1)

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
        with TemporaryDirectory(prefix="factory-") as scratch:
            client.log_artifacts(run_id, str(save_model(folder, Path(scratch))), MODEL)
        client.set_terminated(run_id)
        return run_id

    def _known(self, name: str) -> tuple[Version, ...]:
        versions = self.versions(name)
        if not versions:
            hint = f"build it first: factory build tasks/{name}"
            raise ArtifactMissing(f"{name}: no version is registered in {shown(self.uri)}", hint=hint)
        return versions

    @contextmanager
    def _changing(self, name: str) -> Iterator[tuple[Any, tuple[Version, ...]]]:
        """Lend a client and the versions as MLflow knows them, and keep out who else would change them here."""
        self._known(name)  # makes no database to ask for nothing
        with self._lock(), self.client() as client:
            yield client, self._ask(client, name)

    def _ask(self, client: Any, name: str) -> tuple[Version, ...]:
        """Read all versions from MLflow and renew the copy."""
        copy = self._copy(name)
        # Before the question: a change in between makes the copy stale at once, never wrong.
        stamp = copy.stamp()
        versions = read_versions(client, name)
        if versions and stamp is not None:
            copy.write(stamp, [version.model_dump(mode="json") for version in versions])
        return versions

    def _copy(self, name: str) -> VersionsCopy:
        return VersionsCopy(self.outputs / name / "versions.json", self._database())

    def _database(self) -> Path | None:
        kind, _, path = self.uri.partition(":///")
        return Path(path) if kind == "sqlite" else None

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
            Path(client.download_artifacts(run_id, RELEASE, str(scratch))).rename(copy)
        shutil.rmtree(scratch)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one process at a time register: two at once would make two versions of one content."""
        self.outputs.mkdir(parents=True, exist_ok=True)
        # One lock for all tasks: the first to come creates the database.
        with (self.outputs / ".registry.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
