"""Finding pickles in a folder by what is in the files, not only by their names."""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".skops", ".dill", ".pyc")


def pickles_in(folder: Path) -> list[str]:
    """Return the files that are pickles or are named as such, and members of archives that are."""
    return [
        found for path in sorted(folder.rglob("*")) if path.is_file() for found in _in(path.name, path.read_bytes())
    ]


def _in(name: str, content: bytes) -> Iterator[str]:
    if name.lower().endswith(SUFFIXES) or is_pickle(content):
        yield name
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from (f"{name}/{found}" for found in _in(member, archive.read(member)))
    if content[:6] == b"\x93NUMPY" and b"|O" in content[:200]:
        yield f"{name}: an array of objects"


def is_pickle(content: bytes) -> bool:
    """Return whether the content begins with a program for the pickle machine, in any protocol."""
    try:
        for _ in pickletools.genops(content):
            pass
    except Exception:  # what pickletools raises on other data is not documented
        return False
    return bool(content)
