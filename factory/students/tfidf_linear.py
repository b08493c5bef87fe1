"""Word and character n-grams with a linear head: fits in a second, answers in a fraction of a millisecond.

Weights are log term frequency times inverse document frequency, as in Salton and Buckley, "Term-weighting approaches
in automatic text retrieval", Information Processing & Management 24(5), 1988.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from factory.errors import FactoryError
from factory.spec import Label
from factory.students import graphs
from factory.students.linear import LinearHead, fit_chosen_head
from factory.students.targets import read_json, require_fitted, targets_of, write_json

if TYPE_CHECKING:
    from datasets import Dataset

STRENGTHS = (3.0, 30.0, 300.0)


@dataclass(config=ConfigDict(extra="forbid"))
class TfidfLinear:
    """Bag of n-grams, each block (words, characters inside words) of unit length, logistic regression."""

    max_folds: ClassVar[int] = 10

    word_ngrams: Annotated[int, Field(ge=1, le=4)] = 2
    """Longest run of words."""
    char_ngrams: Annotated[int, Field(ge=2, le=8)] = 5
    """Longest run of characters inside a word; the shortest is 2."""
    strength: Annotated[float, Field(gt=0)] | None = None
    """Inverse L2 penalty; null to choose it by cross-validation."""

    def fit(self, rows: "Dataset", labels: Sequence[Label], *, seed: int) -> Self:
        """Learn vocabulary and head; see `Student.fit`."""
        targets = targets_of(rows, labels)
        texts = list(rows["text"])
        self.terms_: dict[str, list[str]] = {}
        self.idf_: dict[str, NDArray[np.float64]] = {}
        for block in self._ranges():
            counter = self._counter(block)
            counts = counter.fit_transform(texts) if _has_terms(counter, texts) else None
            self.terms_[block] = [] if counts is None else list(counter.get_feature_names_out())
            n_with_term = np.zeros(0) if counts is None else np.bincount(counts.indices, minlength=counts.shape[1])
            self.idf_[block] = np.log((1 + len(texts)) / (1 + n_with_term)) + 1
        if not any(self.terms_.values()):
            raise FactoryError(
                f"training rows: expected texts, got {len(texts)} that hold no word and no character",
                hint="look into the training rows: their texts are empty",
            )
        self._counters: dict[str, Any] = {}
        features = self._features(texts)
        strengths = STRENGTHS if self.strength is None else (self.strength,)
        self.head_ = fit_chosen_head(features, targets, strengths, seed=seed)
        self.labels_ = tuple(label.name for label in labels)
        return self

    def predict_proba(self, rows: "Dataset") -> NDArray[np.float64]:
        """Return probabilities; see `Student.predict_proba`."""
        require_fitted(self)
        return self.head_.predict_proba(self._features(list(rows["text"])))

    def save(self, folder: Path) -> None:
        """Write hyperparameters, vocabulary and head."""
        require_fitted(self)
        write_json(folder / "config.json", {"params": asdict(self), "labels": self.labels_})
        self._write_vocabulary(folder)
        self.head_.save(folder / "head.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        config, vocabulary = read_json(folder / "config.json"), read_json(folder / "vocabulary.json")
        student = cls(**config["params"])
        student.terms_ = {block: saved["terms"] for block, saved in vocabulary.items()}
        student.idf_ = {block: np.array(saved["idf"]) for block, saved in vocabulary.items()}
        student._counters = {}
        student.head_ = LinearHead.load(folder / "head.npz")
        student.labels_ = tuple(config["labels"])
        return student

    def to_onnx(self, folder: Path) -> dict[str, Any]:
        """Write `model.onnx` and `vocabulary.json`; see `Student.to_onnx`."""
        require_fitted(self)
        self._write_vocabulary(folder)
        graphs.write_weighted_rows(self.head_, folder / "model.onnx")
        return {"kind": "ngrams", "vocabulary": "vocabulary.json"}

    def _ranges(self) -> dict[str, tuple[int, int]]:
        return {"word": (1, self.word_ngrams), "char_wb": (2, self.char_ngrams)}

    def _counter(self, block: str, terms: Sequence[str] | None = None) -> Any:
        from sklearn.feature_extraction.text import CountVectorizer

        return CountVectorizer(analyzer=block, ngram_range=self._ranges()[block], vocabulary=terms)

    def _features(self, texts: Sequence[str]) -> Any:
        """Return n-gram weights, a CSR matrix of shape (n_texts, n_terms of both blocks)."""
        from scipy import sparse

        blocks = []
        for block, terms in self.terms_.items():
            if not terms:
                continue
            counter = self._counters.setdefault(block, self._counter(block, terms))
            weights = counter.transform(texts).astype(np.float64)
            weights.data = (1 + np.log(weights.data)) * self.idf_[block][weights.indices]
            lengths = np.sqrt(weights.power(2).sum(axis=1)).A1
            weights.data /= np.repeat(lengths, np.diff(weights.indptr))
            blocks.append(weights)
        return sparse.hstack(blocks, format="csr")

    def _write_vocabulary(self, folder: Path) -> None:
        """Write what `release/predict.py` needs to count and weigh n-grams; terms in order of the rows of the head."""
        vocabulary = {
            block: {"ngrams": bounds, "terms": self.terms_[block], "idf": self.idf_[block].tolist()}
            for block, bounds in self._ranges().items()
        }
        # One line and ASCII: half the size of indented JSON, and a lone surrogate survives.
        text = json.dumps(vocabulary, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        (folder / "vocabulary.json").write_text(text + "\n", encoding="ascii")


def _has_terms(counter: Any, texts: Sequence[str]) -> bool:
    """Tell whether any text has an n-gram; scikit-learn refuses an empty vocabulary."""
    analyze = counter.build_analyzer()
    return any(analyze(text) for text in texts)
