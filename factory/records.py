"""The row format, and `Rows`: what a row-wise stage kept, what it rejected and why.

Rows live in `datasets.Dataset` (Arrow) in memory and in Parquet on disk. Each row says where it came from. How rows of
texts are made is here, how those of tables are in `records_table`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset, Features


class Origin(StrEnum):
    """Who made a row."""

    GOLD = "gold"
    """Labelled by people."""
    SILVER = "silver"
    """Real text, labelled by the teacher."""
    SYNTHETIC = "synthetic"
    """Written by the teacher."""
    AUGMENTED = "augmented"
    """A real row, varied by the teacher."""


@dataclass(frozen=True)
class TextRow:
    """One row of a text-classification task, before it becomes a line of a `Dataset`."""

    text: str
    label: str | None
    origin: Origin
    strategy: str = ""
    """The synthesis strategy that wrote the text; empty for real rows."""
    teacher: str = ""
    """Identity of the teacher that wrote or labelled the row; empty when none did."""
    parents: tuple[str, ...] = ()
    """Ids of the rows this one was made from."""
    label_probs: tuple[float, ...] | None = None
    """Soft label in spec label order, sums to 1; null when there is none."""
    weight: float = 1.0
    replies: tuple[str, ...] = ()
    """Keys in the reply store, oldest first: of the reply that wrote the text, of those that labelled it."""


MAY_PASS = frozenset({"budget", "unavailable", "deadline"})
"""Why the teacher may not have answered a row this time, and may the next: such a row is open, and no mistake."""
ABSTAIN = "abstain-"
"""Begins the reason of a row that the teacher did not answer; the teacher's own reason follows."""


@dataclass(frozen=True)
class Rejection:
    """Why a stage dropped a row; `score` is the number the decision was made on, if there was one."""

    reason: str
    score: float | None = None


def row_id(text: str) -> str:
    """Return the id of a text: it stays the same when only the label changes."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rejected_features() -> dict[str, Any]:
    from datasets import Value

    return {"rejected_by": Value("string"), "reason": Value("string"), "score": Value("float64")}


def text_features(*, rejected: bool = False) -> "Features":
    """Return the columns of text-classification rows; rejected rows have three more."""
    from datasets import Features, Sequence, Value

    columns: dict[str, Any] = {
        "id": Value("string"),
        "text": Value("string"),
        "label": Value("string"),
        "label_probs": Sequence(Value("float64")),
        "origin": Value("string"),
        "strategy": Value("string"),
        "teacher": Value("string"),
        "parents": Sequence(Value("string")),
        "weight": Value("float64"),
        "replies": Sequence(Value("string")),
    }
    if rejected:
        columns |= _rejected_features()
    return Features(columns)


def text_dataset(rows: Sequence[TextRow]) -> "Dataset":
    """Put rows into a `Dataset`, in the order given."""
    from datasets import Dataset

    columns: dict[str, list[Any]] = {
        "id": [row_id(row.text) for row in rows],
        "text": [row.text for row in rows],
        "label": [row.label for row in rows],
        "label_probs": [None if row.label_probs is None else list(row.label_probs) for row in rows],
        "origin": [row.origin.value for row in rows],
        "strategy": [row.strategy for row in rows],
        "teacher": [row.teacher for row in rows],
        "parents": [list(row.parents) for row in rows],
        "weight": [row.weight for row in rows],
        "replies": [list(row.replies) for row in rows],
    }
    return Dataset.from_dict(columns, features=text_features())


def column_of(rows: "Dataset", name: str) -> "pyarrow.Array":
    """Return one column of rows as Arrow, without a Python object for each row."""
    import pyarrow as pa

    column = rows.select_columns([name]).with_format("arrow")[:][name]
    if not isinstance(column, pa.ChunkedArray):
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def texts_of(rows: "Dataset") -> list[str]:
    """Return what a person reads of each row: its text, or the cells of a table that are known."""
    if "features" not in rows.column_names:
        texts: list[str] = rows["text"][:]
        return texts
    return [
        ", ".join(f"{name}: {cell}" for name, cell in row.items() if cell is not None)
        for row in column_of(rows, "features").to_pylist()
    ]


@dataclass(frozen=True)
class Rows:
    """The result of a row-wise stage: nothing disappears, `n_in == len(kept) + len(rejected)` for every filter."""

    kept: "Dataset"
    rejected: "Dataset"
    report: Mapping[str, Any] = field(default_factory=dict)
    """Numbers a person may want, JSON-ready."""
    is_complete: bool = True
    """False when a budget ended the stage early; the store keeps the rows but runs the stage again next time."""

    @property
    def summary(self) -> str:
        """One line for a person."""
        line = f"{len(self.kept):,} kept"
        return f"{line}, {len(self.rejected):,} rejected" if len(self.rejected) else line

    def save(self, folder: Path) -> None:
        """Write the rows as two Parquet files and the report as JSON."""
        write_parquet(self.kept, folder / "kept.parquet")
        write_parquet(self.rejected, folder / "rejected.parquet")
        report = {"is_complete": self.is_complete, "report": dict(self.report)}
        (folder / "report.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        saved = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return cls(
            kept=read_parquet(folder / "kept.parquet"),
            rejected=read_parquet(folder / "rejected.parquet"),
            report=saved["report"],
            is_complete=saved["is_complete"],
        )


@dataclass(frozen=True)
class Predictions:
    """Probabilities for some rows, by whoever made them; found again by row id."""

    labels: tuple[str, ...]
    """Column order: spec order."""
    ids: tuple[str, ...]
    """Row ids, shape (n_rows,)."""
    probs: NDArray[np.float64]
    """Shape (n_rows, n_labels), rows sum to 1."""
    is_complete: ClassVar[bool] = True

    @property
    def answers(self) -> tuple[str, ...]:
        """The most probable label of each row."""
        return tuple(self.labels[column] for column in self.probs.argmax(axis=1))

    def of(self, ids: Sequence[str], labels: Sequence[str]) -> NDArray[np.float64]:
        """Return the probabilities of some rows, columns in another order; shape (len(ids), len(labels))."""
        at = {row_id: position for position, row_id in enumerate(self.ids)}
        columns = [self.labels.index(label) for label in labels]
        return self.probs[[at[row_id] for row_id in ids]].reshape(-1, len(self.labels))[:, columns]

    @property
    def summary(self) -> str:
        """One line for a person."""
        return f"{len(self.ids):,} rows predicted"

    def save(self, folder: Path) -> None:
        """Write `predictions.json` (labels, ids) and `probs.npy`."""
        named = {"labels": self.labels, "ids": self.ids}
        (folder / "predictions.json").write_text(json.dumps(named, ensure_ascii=False) + "\n", encoding="utf-8")
        np.save(folder / "probs.npy", self.probs, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        named = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
        probs = np.load(folder / "probs.npy", allow_pickle=False)
        return cls(labels=tuple(named["labels"]), ids=tuple(named["ids"]), probs=probs)


def all_kept(rows: "Dataset", report: Mapping[str, Any] | None = None) -> Rows:
    """Wrap rows of which none was rejected."""
    return split(rows, {}, by="", report=report)


def split(
    rows: "Dataset", rejections: Mapping[int, Rejection], *, by: str, report: Mapping[str, Any] | None = None
) -> Rows:
    """Part rows into kept and rejected.

    Args:
        rows: What came into the stage.
        rejections: Position of each row to drop, with the reason.
        by: Name of the stage that rejects.
        report: Further numbers; counts by reason are added under `rejected_by_reason`.

    Returns:
        Both halves in the order they came.

    Raises:
        IndexError: A position is outside the rows.
    """
    outside = [position for position in rejections if not 0 <= position < len(rows)]
    if outside:
        raise IndexError(f"cannot reject row {outside[0]}: there are {len(rows)} rows")
    positions = sorted(rejections)
    reasons = [rejections[position].reason for position in positions]
    by_reason: dict[str, int] = {}
    for reason in reasons:
        by_reason[reason] = by_reason.get(reason, 0) + 1
    from datasets import Dataset, Features

    dropped = rows.select(positions).to_dict()
    dropped |= {"rejected_by": [by] * len(positions), "reason": reasons}
    dropped["score"] = [rejections[position].score for position in positions]
    features = Features({**rows.features, **_rejected_features()})
    return Rows(
        kept=rows.select(np.setdiff1d(np.arange(len(rows)), positions)) if positions else rows,
        rejected=Dataset.from_dict(dropped, features=features),
        report={**(report or {}), "rejected_by_reason": by_reason},
    )


def without_soft_labels(rows: "Dataset") -> "Dataset":
    """Return the rows with `label_probs` null everywhere."""
    if column_of(rows, "label_probs").null_count == len(rows):
        return rows
    feature = rows.features["label_probs"]
    return rows.remove_columns("label_probs").add_column("label_probs", [None] * len(rows), feature=feature)


def write_parquet(rows: "Dataset", path: Path) -> None:
    """Write rows to a Parquet file."""
    import pyarrow.parquet as pq

    # `to_parquet` of `datasets` writes its own fingerprints into the file, which differ from run to run.
    table = rows.with_format("arrow")[:] if len(rows) else rows.features.arrow_schema.empty_table()
    pq.write_table(table.replace_schema_metadata(None), path)


def read_parquet(path: Path) -> "Dataset":
    """Read a Parquet file of rows; unlike `Dataset.from_parquet` it makes no copy in the user's cache."""
    import pyarrow.parquet as pq
    from datasets import Dataset

    table = pq.read_table(path)
    if "features" in table.column_names:  # of a table: every spec has columns of its own
        return Dataset(table)
    return Dataset(table.cast(text_features(rejected="rejected_by" in table.column_names).arrow_schema))
