"""Static token vectors distilled from a sentence encoder, with a linear head: tens of thousands of texts a second.

Tulkens and van Dongen, "Model2Vec: Fast State-of-the-Art Static Embeddings", 2024, doi:10.5281/zenodo.17270888.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from factory.encoders import DEFAULT_ENCODER, load_encoder
from factory.spec import Label
from factory.students import graphs
from factory.students.linear import LinearHead, fit_chosen_head
from factory.students.static_table import StaticTable, distilled_table
from factory.students.targets import read_json, require_fitted, targets_of, write_json

if TYPE_CHECKING:
    from datasets import Dataset

STRENGTHS = (10.0, 30.0, 100.0)


@dataclass(config=ConfigDict(extra="forbid"))
class StaticEmbedding:
    """The mean of distilled token vectors at unit length, logistic regression."""

    max_folds: ClassVar[int] = 10

    encoder: str = DEFAULT_ENCODER
    """Name, hub id or folder of the encoder to distil."""
    n_dimensions: Annotated[int, Field(ge=8, le=1024)] = 256
    """Size of a token vector."""
    strength: Annotated[float, Field(gt=0)] | None = None
    """Inverse L2 penalty; null to choose it by cross-validation."""

    def fit(self, rows: "Dataset", labels: Sequence[Label], *, seed: int) -> Self:
        """Learn the head; see `Student.fit`. The table is distilled once per encoder and machine."""
        targets = targets_of(rows, labels)
        self.table_ = distilled_table(load_encoder(self.encoder), self.n_dimensions)
        features = self.table_.encode(list(rows["text"]))
        strengths = STRENGTHS if self.strength is None else (self.strength,)
        self.head_ = fit_chosen_head(features, targets, strengths, seed=seed)
        self.labels_ = tuple(label.name for label in labels)
        return self

    def predict_proba(self, rows: "Dataset") -> NDArray[np.float64]:
        """Return probabilities; see `Student.predict_proba`."""
        require_fitted(self)
        return self.head_.predict_proba(self.table_.encode(list(rows["text"])))

    def save(self, folder: Path) -> None:
        """Write hyperparameters, token vectors, tokenizer and head."""
        require_fitted(self)
        write_json(folder / "config.json", {"params": asdict(self), "labels": self.labels_})
        self.table_.save(folder)
        self.head_.save(folder / "head.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the encoder is not needed any more."""
        config = read_json(folder / "config.json")
        student = cls(**config["params"])
        student.table_ = StaticTable.load(folder)
        student.head_ = LinearHead.load(folder / "head.npz")
        student.labels_ = tuple(config["labels"])
        return student

    def to_onnx(self, folder: Path) -> dict[str, Any]:
        """Write `model.onnx` and `tokenizer.json`; see `Student.to_onnx`."""
        require_fitted(self)
        graphs.write_static(self.table_.vectors.astype(np.float32), self.head_, folder / "model.onnx")
        self.table_.save_tokenizer(folder)
        return graphs.token_inputs(self.table_.MAX_LENGTH, add_special_tokens=False)
