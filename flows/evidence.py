"""The stored stages of a task as evidence: which rows each kept and rejected, and what students made of them.

Nothing is written. Each file is read once, and only after it was compared with its manifest.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.records import Predictions, Rows
from factory.result_folder import read_manifest
from factory.store import Artifact
from factory.students.training import FitParams

if TYPE_CHECKING:
    import pyarrow

Line = dict[str, Any]
"""A row with the columns of `records.text_features`."""


class Table:
    """Rows of a Parquet file."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._table: pyarrow.Table = pq.read_table(path)
        self.ids: list[str] = self._table["id"].to_pylist()
        self._positions: dict[str, list[int]] = {}
        for position, row_id in enumerate(self.ids):
            self._positions.setdefault(row_id, []).append(position)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._positions

    def positions(self, row_id: str) -> list[int]:
        """Where a row stands; a text that comes twice stands in two places."""
        return self._positions.get(row_id, [])

    def line(self, position: int) -> Line:
        """Return one row."""
        line: Line = self._table.slice(position, 1).to_pylist()[0]
        return {"replies": [], **line}  # rows of an older version have none

    def lines(self) -> Iterator[Line]:
        """Return all rows."""
        return ({"replies": [], **line} for line in self._table.to_pylist())

    @property
    def texts(self) -> list[str]:
        """Texts, in order of the rows."""
        texts: list[str] = self._table["text"].to_pylist()
        return texts

    @property
    def reply_keys(self) -> set[str]:
        """Every reply that a row names."""
        if "replies" not in self._table.column_names:
            return set()
        return {key for keys in self._table["replies"].to_pylist() for key in keys or ()}


@dataclass(frozen=True)
class Step:
    """One stored stage."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.folder.parent.name

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What it was made from."""
        return read_manifest(self.folder)

    @property
    def content_hash(self) -> str:
        """Hash of its result."""
        return str(self.manifest["content_hash"])

    @property
    def inputs(self) -> Mapping[str, str]:
        """Content hash of each input, by name."""
        return dict(self.manifest["key"]["inputs"])

    @property
    def teacher(self) -> str:
        """Identity of the teacher it asked; empty when it asked none."""
        return str(self.manifest["key"]["resources"].get("teacher", ""))

    @property
    def has_rows(self) -> bool:
        """Whether rows are what it makes."""
        return (self.folder / "kept.parquet").is_file()

    @property
    def kept(self) -> Table:
        """Rows it kept."""
        return self._tables[0]

    @property
    def rejected(self) -> Table:
        """Rows it rejected."""
        return self._tables[1]

    @cached_property
    def _tables(self) -> tuple[Table, Table]:
        Artifact(self.folder, Rows, was_cached=True).check()
        return Table(self.folder / "kept.parquet"), Table(self.folder / "rejected.parquet")

    @cached_property
    def report(self) -> dict[str, Any]:
        """Its numbers."""
        return dict(json.loads((self.folder / "report.json").read_text(encoding="utf-8"))["report"])

    @cached_property
    def reply_keys(self) -> set[str]:
        """Every reply that it was made from: those its rows name, and all it paid for."""
        asked_before: dict[str, list[str]] = self.report.get("replies", {})
        others = {key for keys in asked_before.values() for key in keys}
        paid_for = set(self.manifest["varying"].get("replies", ()))
        return self.kept.reply_keys | self.rejected.reply_keys | others | paid_for

    @cached_property
    def predictions(self) -> Predictions | None:
        """Its probabilities; None when it makes something else."""
        if not (self.folder / "predictions.json").is_file():
            return None
        return Artifact(self.folder, Predictions, was_cached=True).load()

    @property
    def fit(self) -> FitParams | None:
        """How it fitted a student; None when it did not."""
        if not (self.folder / "student.json").is_file():
            return None
        return FitParams.model_validate(self.manifest["key"]["params"])

    def load_rows(self) -> Rows:
        """Read its rows as stages do."""
        return Artifact(self.folder, Rows, was_cached=True).load()
