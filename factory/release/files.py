"""A released folder in memory: the stages of this floor hand on files as bytes, the store decides where they lie."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Self

from factory.result_folder import MANIFEST


@dataclass(frozen=True)
class Files:
    """The files of a folder by their name below it, such as `tiers/blend/model.onnx`, the store's manifest apart."""

    contents: Mapping[str, bytes]
    is_complete: ClassVar[bool] = True

    @property
    def size_mb(self) -> float:
        """Bytes of all files, in millions."""
        return sum(len(content) for content in self.contents.values()) / 1e6

    @property
    def summary(self) -> str:
        """One line for a person."""
        return f"{len(self.contents)} files, {self.size_mb:.1f} MB"

    def save(self, folder: Path) -> None:
        """Write the files."""
        for name, content in self.contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
        return cls({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """Lend a temporary folder that holds the files."""
        with TemporaryDirectory(prefix="factory-") as folder:
            self.save(Path(folder))
            yield Path(folder)
