"""The lock file can be installed with every Python that the package says it runs on."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.specifiers import SpecifierSet

LOCK = Path(__file__).parents[1] / "requirements.lock"
OLDEST = "3.11.0"


def test_every_locked_release_takes_the_oldest_python() -> None:
    refused, n_known = {}, 0
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        name, _, version = line.partition("==")
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # of an extra
        if found.version != version:
            continue  # what is here is not what is locked: nothing is known of that
        n_known += 1
        wanted = found.metadata.get("Requires-Python")
        if wanted and OLDEST not in SpecifierSet(wanted):
            refused[line] = wanted
    assert refused == {}
    assert n_known > 100
