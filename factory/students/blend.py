"""A sentence encoder and n-grams, their probabilities multiplied: each corrects what the other cannot see.

The weighted geometric mean of two opinions, the logarithmic opinion pool of Genest and Zidek, "Combining Probability
Distributions: A Critique and an Annotated Bibliography", Statistical Science 1(1), 1986, section 4. Of a few hundred
generated texts the encoder knows meanings and the n-grams which words decide; docs/log.md has what that is worth.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from factory.encoders import DEFAULT_ENCODER
from factory.spec import Label
from factory.students import graphs
from factory.students.linear import softmax
from factory.students.sentence_linear import SentenceLinear
from factory.students.targets import read_json, require_fitted, write_json
from factory.students.tfidf_linear import TfidfLinear

if TYPE_CHECKING:
    from datasets import Dataset

ENCODER, NGRAMS = "encoder", "ngrams"
"""Folders of the two parts."""
SMALLEST_PROB = 1e-30
"""Stands for a probability that has underflowed to 0, which has no logarithm."""


@dataclass(config=ConfigDict(extra="forbid"))
class Blend:
    """`sentence-linear` and `tfidf-linear`, each fitted on its own, then pooled."""

    max_folds: ClassVar[int] = 5

    encoder: str = DEFAULT_ENCODER
    """Name, hub id or folder of the encoder."""
    encoder_share: Annotated[float, Field(gt=0, lt=1)] = 2 / 3
    """Exponent of the encoder's probabilities; the n-grams have the rest. Not cross-validated: n-grams know the
    teacher's wording by heart, so generated rows always ask for more of them than real rows bear out."""

    prototype_prior: Annotated[float, Field(ge=0)] | None = None
    """Of the encoder's part: see `SentenceLinear`."""

    def fit(self, rows: "Dataset", labels: Sequence[Label], *, seed: int) -> Self:
        """Fit both parts; see `Student.fit`."""
        sentence = SentenceLinear(encoder=self.encoder, prototype_prior=self.prototype_prior)
        self.sentence_ = sentence.fit(rows, labels, seed=seed)
        self.ngrams_ = TfidfLinear().fit(rows, labels, seed=seed)
        self.labels_ = tuple(label.name for label in labels)
        return self

    def predict_proba(self, rows: "Dataset") -> NDArray[np.float64]:
        """Return probabilities; see `Student.predict_proba`."""
        require_fitted(self)
        meaning, words = (
            np.log(np.maximum(part.predict_proba(rows), SMALLEST_PROB)) for part in (self.sentence_, self.ngrams_)
        )
        return softmax(self.encoder_share * meaning + (1 - self.encoder_share) * words)

    def save(self, folder: Path) -> None:
        """Write hyperparameters, and each part in a folder of its own."""
        require_fitted(self)
        write_json(folder / "config.json", {"params": asdict(self), "labels": self.labels_})
        for name, part in ((ENCODER, self.sentence_), (NGRAMS, self.ngrams_)):
            (folder / name).mkdir(exist_ok=True)
            part.save(folder / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; see `SentenceLinear.load` for what may be wrong with the encoder."""
        config = read_json(folder / "config.json")
        student = cls(**config["params"])
        student.sentence_ = SentenceLinear.load(folder / ENCODER)
        student.ngrams_ = TfidfLinear.load(folder / NGRAMS)
        student.labels_ = tuple(config["labels"])
        return student

    def to_onnx(self, folder: Path) -> dict[str, Any]:
        """Write `model.onnx` (logits of both added), `tokenizer.json`, `vocabulary.json`; see `Student.to_onnx`."""
        require_fitted(self)
        # Softmax takes no notice of what is added to all logits of a row, so pooled logits give pooled probabilities.
        shares = {ENCODER: self.encoder_share, NGRAMS: 1 - self.encoder_share}
        parts = []
        with TemporaryDirectory(prefix="factory-") as temporary:
            for name, part in ((ENCODER, self.sentence_), (NGRAMS, self.ngrams_)):
                parts.append(part.to_onnx(folder))
                (folder / graphs.MODEL).rename(Path(temporary) / name)
            graphs.write_sum({Path(temporary) / name: share for name, share in shares.items()}, folder / graphs.MODEL)
        return {"kind": "both", "parts": parts}
