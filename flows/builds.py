"""What each build used: a line for its start, for every stage it ran or found, and for its end.

The store says what follows from what, not which build last needed it: a build that finds everything stored writes
nothing there. `factory why` and `factory cache prune` must know, so builds say it in `outputs/<task>/builds.jsonl`.
"""

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.result_folder import MANIFEST, read_manifest
from factory.spec import Prices
from factory.store import Artifact

BUILDS_FILE = "builds.jsonl"
NO_PRICES: Mapping[str, Prices | None] = {}


@dataclass
class Build:
    """One build of a task."""

    started_at: str = ""
    """UTC, ISO 8601; empty for stored stages that no build has noted."""
    prices: Prices | None = None
    """Of the teacher, at that time."""
    other_prices: dict[str, Prices | None] = field(default_factory=dict)
    """Of the other teachers, by their identity."""
    is_finished: bool = False
    folders: list[Path] = field(default_factory=list)
    """Of its stages, in the order of the build; those that are gone are left out."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        if not self.started_at:
            return "stored stages that no build has noted"
        return f"build of {self.started_at}{'' if self.is_finished else ', not finished'}"


class BuildNote:
    """Notes one build as it goes on."""

    def __init__(
        self, root: Path, *, prices: Prices | None = None, other_prices: Mapping[str, Prices | None] = NO_PRICES
    ) -> None:
        self._path = root / BUILDS_FILE
        self._build = uuid.uuid4().hex
        root.mkdir(parents=True, exist_ok=True)
        # An empty line first, in case somebody was killed in the middle of one.
        others = {name: one and one.model_dump() for name, one in other_prices.items()}
        known = {"prices": prices and prices.model_dump(), **({"other_prices": others} if others else {})}
        self._append({"started_at": _now(), **known}, before="\n")

    def used(self, artifact: Artifact[Any]) -> None:
        """Note a stage that was run or found."""
        self._append({"stage": artifact.folder.parent.name, "fingerprint": artifact.folder.name})

    def finished(self) -> None:
        """Note that nothing is left to do."""
        self._append({"finished_at": _now()})

    def _append(self, said: dict[str, Any], *, before: str = "") -> None:
        line = before + json.dumps({"build": self._build, **said}) + "\n"
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, line.encode())  # one write: lines of two builds do not mix
        finally:
            os.close(fd)


def builds_of(root: Path) -> list[Build]:
    """List the builds of a task.

    Args:
        root: Folder of one task's outputs.

    Returns:
        Newest first; of builds that used the very same stages only the newest. Last comes a build without a time, of
        the stored stages that no build has noted, if there are any.
    """
    newest_first = [*_noted(root).values()][::-1]
    different: list[Build] = []
    for build in newest_first:
        if build.folders not in [other.folders for other in different]:
            different.append(build)
    noted = {folder for build in different for folder in build.folders}
    rest = [path.parent for path in root.glob(f"*/[!.]*/{MANIFEST}") if path.parent not in noted]
    if rest:
        different.append(Build(folders=sorted(rest, key=_written_at)))
    return different


def tasks_in(outputs: Path) -> list[Path]:
    """Return the folders of the tasks that were built or begun, by name."""
    begun = {path.parent for path in outputs.glob(f"*/{BUILDS_FILE}")}
    return sorted(begun | {path.parents[2] for path in outputs.glob(f"*/*/[!.]*/{MANIFEST}")})


def _noted(root: Path) -> dict[str, Build]:
    """Read the builds by their id, oldest first."""
    builds: dict[str, Build] = {}
    for line in _lines(root / BUILDS_FILE):
        name = str(line.get("build"))
        if "started_at" in line:
            others = {who: _prices(said) for who, said in line.get("other_prices", {}).items()}
            builds[name] = Build(str(line["started_at"]), _prices(line.get("prices")), others)
        elif name in builds:
            builds[name].is_finished |= "finished_at" in line
            folder = root / str(line.get("stage")) / str(line.get("fingerprint"))
            if "stage" in line and folder not in builds[name].folders and (folder / MANIFEST).is_file():
                builds[name].folders.append(folder)
    return builds


def _prices(said: dict[str, float] | None) -> Prices | None:
    return None if said is None else Prices.model_validate(said)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            said = json.loads(line)
        except ValueError:
            continue  # empty, or torn by a kill: the stages it named are found all the same
        if isinstance(said, dict):
            yield said


def _written_at(folder: Path) -> tuple[str, int]:
    written_at = str(read_manifest(folder)["varying"]["written_at"])
    return written_at, (folder / MANIFEST).stat().st_mtime_ns


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
