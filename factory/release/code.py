"""Which code made a release: the factory's version and, where it runs from a checkout, the commit."""

import subprocess
from pathlib import Path

from factory import __version__
from factory.evaluation.result import Part

ROOT = Path(__file__).resolve().parents[2]
GIT_S = 10.0


class Code(Part):
    """The factory, as it was when a release was packaged."""

    version: str
    commit: str
    """Of the checkout it runs from; empty when there is none."""
    is_dirty: bool
    """The checkout has changes that no commit has."""

    @property
    def identity(self) -> str:
        """The same for all: what the code makes of its inputs is said by the versions of the stages."""
        return "code"


def this_code(root: Path = ROOT) -> Code:
    """Describe the factory that runs.

    Args:
        root: Where its packages lie.

    Returns:
        Its version, with a commit if `root` is the top of a git checkout and not merely somewhere below one.
    """
    top, commit = _git(root, "rev-parse", "--show-toplevel"), _git(root, "rev-parse", "HEAD")
    if not commit or Path(top) != root:
        return Code(version=__version__, commit="", is_dirty=False)
    return Code(
        version=__version__, commit=commit, is_dirty=bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    )


def _git(root: Path, *arguments: str) -> str:
    """Return what git says; empty where there is no git, or it refuses."""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
