"""The versions of a task as MLflow knows them, and finding one by its number or a name."""

from collections.abc import Sequence
from typing import Any

from factory.errors import ArtifactMissing, FactoryError
from factory.evaluation.result import Part
from factory.release.moves import Move, read_moves
from factory.spec_checks import SAFE_NAME

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
HASH_TAG, PATH_TAG, GATE_TAG = "content_hash", "path", "gate"


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
    passed_gate: bool | None = None
    """None for a version that something else registered."""
    moves: tuple[Move, ...] = ()
    """When it became champion, oldest first."""


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a task, before it becomes part of a path or a question.

    Args:
        name: As a person gave it.

    Raises:
        FactoryError: It is none.
    """
    if not SAFE_NAME.fullmatch(name):
        raise FactoryError(
            f"{name[:80]!r}: expected the name of a task: lower-case letters, digits, `-` and `_`",
            hint="it stands in the first lines of the task's spec.yaml",
        )


def pick(versions: Sequence[Version], name: str, wanted: Sequence[str]) -> Version:
    """Choose a version.

    Args:
        versions: To choose from.
        name: Of the task.
        wanted: Numbers or aliases, dearest first.

    Returns:
        The version that has the first of these that any has.

    Raises:
        ArtifactMissing: None has any.
    """
    for key in wanted:
        for version in versions:
            if key == str(version.version) or key in version.aliases:
                return version
    known = ", ".join([*(str(version.version) for version in versions), *{a for v in versions for a in v.aliases}])
    raise ArtifactMissing(
        f"{name}: expected a version or alias, got {wanted[0]!r}; known are {known}",
        hint=f"list them: factory models {name}",
    )


def aliased(versions: Sequence[Version], alias: str) -> Version | None:
    """Return the version that has an alias."""
    return next((version for version in versions if alias in version.aliases), None)


def numbered(versions: Sequence[Version], number: int) -> Version:
    """Return the version with a number, which there is."""
    return next(version for version in versions if version.version == number)


def read_versions(client: Any, name: str) -> tuple[Version, ...]:
    """Ask MLflow for the versions of a task, newest first."""
    found = client.search_model_versions(f"name='{name}'", order_by=["version_number DESC"])
    if not found:
        return ()
    aliases: dict[int, list[str]] = {}
    for alias, number in client.get_registered_model(name).aliases.items():
        aliases.setdefault(int(number), []).append(alias)
    return tuple(_version(one, aliases.get(int(one.version), []), client.get_run(one.run_id)) for one in found)


def _version(found: Any, aliases: Sequence[str], run: Any) -> Version:
    moves, tags = read_moves(found.tags)
    gate = tags.get(GATE_TAG)
    return Version(
        name=found.name,
        version=int(found.version),
        aliases=tuple(sorted(aliases)),
        metrics=dict(run.data.metrics),
        tags={key: value for key, value in tags.items() if key not in (HASH_TAG, PATH_TAG, GATE_TAG)},
        content_hash=tags.get(HASH_TAG, ""),
        path=tags.get(PATH_TAG, ""),
        passed_gate=None if gate is None else gate == "passed",
        moves=moves,
    )
