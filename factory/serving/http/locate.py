"""Where the wanted version is: asked in a process of its own, because MLflow, when it must be asked, takes 200 MB.

python -m factory.serving.http.locate OUTPUTS NAME [VERSION]      prints {"version", "content_hash", "folder"}
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from factory.errors import ArtifactMissing, FactoryError
from factory.release.registry import Registry
from factory.release.versions import CANDIDATE, CHAMPION

LOCATE_SECONDS = 120
"""A version built elsewhere is downloaded first."""
LOCAL_SECONDS = 1.0
"""Between two looks at MLflow's database file, which cost a `stat`."""
REMOTE_SECONDS = 30.0
"""Between two questions to an MLflow server, which cost three seconds of one core in another process."""


@dataclass(frozen=True)
class Located:
    """One registered version and the folder it lies in."""

    version: int
    content_hash: str
    folder: str


@dataclass(frozen=True)
class RegistrySource:
    """Follows an alias in the registry; see `live.Source`."""

    outputs: Path
    name: str
    wanted: str | None = None
    """Version or alias; None: the champion, else the candidate."""

    @property
    def pause_s(self) -> float:
        """Seconds between two looks."""
        return REMOTE_SECONDS if self._database() is None else LOCAL_SECONDS

    def stamp(self) -> tuple[int, ...] | None:
        """Return what changes with MLflow's database; None for a server, which must be asked each time."""
        database = self._database()
        if database is None or not database.is_file():
            return None
        stat = database.stat()
        with database.open("rb") as file:
            header = file.read(28)
        # The last four bytes count transactions (sqlite.org/fileformat.html, 1.3.7); a file's time can stand still.
        return stat.st_ino, stat.st_mtime_ns, int.from_bytes(header[24:], "big")

    def locate(self) -> Located:
        """Ask the registry in another process.

        Returns:
            The wanted version.

        Raises:
            FactoryError: There is none, or the registry does not answer; in the words of the other process.
        """
        arguments = [str(self.outputs), self.name, *([self.wanted] if self.wanted is not None else [])]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "factory.serving.http.locate", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LOCATE_SECONDS,
                start_new_session=True,  # Ctrl-C is for the server, which waits for this one
            )
        except subprocess.TimeoutExpired as error:
            raise FactoryError(f"registry: no answer about {self.name} within {LOCATE_SECONDS} seconds") from error
        try:
            said = json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError) as error:
            last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
            message = f"registry: asking for {self.name} ended with {done.returncode}: {last[:200]}"
            raise FactoryError(message) from error
        if "error" in said:
            raise FactoryError(said["error"], hint=said["hint"])
        return Located(**said)

    def _database(self) -> Path | None:
        kind, _, path = Registry(self.outputs).uri.partition(":///")
        return Path(path) if kind == "sqlite" else None


def find(outputs: Path, name: str, wanted: str | None) -> Located:
    """Ask the registry in this process.

    Args:
        outputs: Folder of all tasks' outputs.
        name: Of the task.
        wanted: Version or alias; None: the champion, else the candidate.

    Returns:
        The version.

    Raises:
        ArtifactMissing: No such task or version.
        FactoryError: The registry does not answer.
    """
    registry = Registry(outputs)
    versions = registry.versions(name)
    for key in (wanted,) if wanted is not None else (CHAMPION, CANDIDATE):
        for version in versions:
            if key == str(version.version) or key in version.aliases:
                folder = registry.resolve(name, str(version.version))
                return Located(version.version, version.content_hash, str(folder.resolve()))
    registry.resolve(name, wanted)  # says what is missing
    raise ArtifactMissing(f"{name}: version {wanted or CHAMPION} went away while it was looked for")


def main() -> None:
    """Print the version, or the error, as one line of JSON."""
    outputs, name, *rest = sys.argv[1:]
    try:
        said = asdict(find(Path(outputs), name, rest[0] if rest else None))
    except FactoryError as error:
        said = {"error": str(error), "hint": error.hint}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
