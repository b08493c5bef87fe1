"""SetFit: contrastive fine-tuning of a sentence encoder on pairs of training texts, then a linear head.

Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022, arXiv:2209.11055.
"""

import shutil
import weakref
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from factory.encoders import DEFAULT_ENCODER, load_encoder
from factory.encoders.transformer import read_encoder
from factory.spec import Label
from factory.students import graphs
from factory.students.finetuning import Tuning, copy_encoder, fine_tune
from factory.students.linear import LinearHead, fit_chosen_head
from factory.students.targets import read_json, require_fitted, targets_of, write_json

if TYPE_CHECKING:
    from datasets import Dataset

STRENGTHS = (10.0, 1.0, 100.0)


@dataclass(config=ConfigDict(extra="forbid"))
class SetFitStudent:
    """An encoder tuned so that texts of one label are near each other, logistic regression."""

    max_folds: ClassVar[int] = 2
    """Out-of-fold training costs minutes here, so it is done in halves."""

    encoder: str = DEFAULT_ENCODER
    """Name, hub id or folder of the encoder to start from."""
    passes: Annotated[int, Field(ge=1, le=100)] = 10
    """Pairs of texts made for each text, as far as `max_steps` allows."""
    max_steps: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Most training steps; what bounds the time."""
    batch_size: Annotated[int, Field(ge=4, le=1024)] = 16
    """Pairs of texts in a step."""
    learning_rate: Annotated[float, Field(gt=0, le=1e-2)] = 5e-5
    """Of AdamW at its peak, after warm-up."""
    strength: Annotated[float, Field(gt=0)] | None = None
    """Inverse L2 penalty of the head; null to choose it by cross-validation."""

    def fit(self, rows: "Dataset", labels: Sequence[Label], *, seed: int) -> Self:
        """Tune the encoder, then learn the head; see `Student.fit`."""
        targets = targets_of(rows, labels)
        texts = list(rows["text"])
        tuning = Tuning(self.passes, self.max_steps, self.batch_size, self.learning_rate)
        folder = fine_tune(load_encoder(self.encoder), texts, targets, tuning, seed=seed)
        self.tuned_ = read_encoder("setfit", folder)
        # The tuned weights live in a temporary folder for as long as this student does.
        weakref.finalize(self.tuned_, shutil.rmtree, folder, ignore_errors=True)
        features = self.tuned_.encode(texts)
        strengths = STRENGTHS if self.strength is None else (self.strength,)
        self.head_ = fit_chosen_head(features, targets, strengths, seed=seed)
        self.labels_ = tuple(label.name for label in labels)
        return self

    def predict_proba(self, rows: "Dataset") -> NDArray[np.float64]:
        """Return probabilities; see `Student.predict_proba`."""
        require_fitted(self)
        return self.head_.predict_proba(self.tuned_.encode(list(rows["text"])))

    def save(self, folder: Path) -> None:
        """Write hyperparameters, the tuned encoder and the head."""
        require_fitted(self)
        write_json(folder / "config.json", {"params": asdict(self), "labels": self.labels_})
        copy_encoder(self.tuned_.folder, folder / "encoder")
        self.head_.save(folder / "head.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the encoder it started from is not needed any more."""
        config = read_json(folder / "config.json")
        student = cls(**config["params"])
        student.tuned_ = read_encoder("setfit", folder / "encoder")
        student.head_ = LinearHead.load(folder / "head.npz")
        student.labels_ = tuple(config["labels"])
        return student

    def to_onnx(self, folder: Path) -> dict[str, Any]:
        """Write `model.onnx` (encoder and head) and `tokenizer.json`; see `Student.to_onnx`."""
        require_fitted(self)
        return graphs.write_encoder(self.tuned_, self.head_, folder)
