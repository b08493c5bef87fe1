"""A frozen sentence encoder with a linear head; label descriptions are training rows of their own.

The head alone is the "linear probe"; descriptions as anchors let it answer for labels with few rows, the idea of
Chang et al., "Importance of Semantic Representation: Dataless Classification", AAAI 2008.

What was written by a teacher is not what people write, and a head of nothing else can end below the descriptions it
was written from: on tweets by 11 points (docs/log.md, 2026-11-28). Means of a label's rows move less than the planes
between them (Mensink et al., "Distance-Based Image Classification", PAMI 35(11), 2013), and a description keeps them in
place. So the more of the rows were written, the more the cosine to these prototypes has a say in each answer. It is
linear in the sentence vector as the head is, and so is their product: it costs the release nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from factory.encoders import DEFAULT_ENCODER, load_encoder
from factory.errors import ArtifactCorrupt
from factory.records import Origin
from factory.spec import Label
from factory.students import graphs
from factory.students.linear import LinearHead, choose, fit_head
from factory.students.targets import read_json, require_fitted, targets_of, write_json

if TYPE_CHECKING:
    from datasets import Dataset

STRENGTHS = (3.0, 10.0, 30.0)
ANCHOR_WEIGHTS = (30.0, 10.0, 3.0, 1.0)
PROTOTYPE_PRIOR = 40.0
"""What it gave, and other values: docs/log.md, 2026-11-28."""
DESCRIPTION_SHARE = 1.0
"""Weight of a description in the prototype of its label, beside the mean of the rows; not a number of rows, because
more rows of a teacher do not take away what sets them apart from real ones."""


@dataclass(config=ConfigDict(extra="forbid"))
class SentenceLinear:
    """Unit-length sentence vectors, logistic regression, one anchor row a label."""

    max_folds: ClassVar[int] = 10

    encoder: str = DEFAULT_ENCODER
    """Name, hub id or folder of the encoder."""
    strength: Annotated[float, Field(gt=0)] | None = None
    """Inverse L2 penalty; null to choose it by cross-validation."""
    anchor_weight: Annotated[float, Field(ge=0)] | None = None
    """Weight of a label's description, in training rows; null to choose it by cross-validation."""
    prototype_prior: Annotated[float, Field(ge=0)] = PROTOTYPE_PRIOR
    """Of what prototypes say: factor on their cosine to the text, times the (weighted) share of rows that a teacher
    wrote. Not cross-validated, since written rows agree with each other."""

    def fit(self, rows: "Dataset", labels: Sequence[Label], *, seed: int) -> Self:
        """Learn the head; see `Student.fit`."""
        targets = targets_of(rows, labels)
        encoder = load_encoder(self.encoder)
        features = encoder.encode(list(rows["text"]))
        anchors = encoder.encode([label.phrase for label in labels])

        def fit(setting: tuple[float, float], positions: NDArray[np.intp]) -> LinearHead:
            strength, anchor_weight = setting
            stacked = np.vstack([features[positions], anchors])
            return fit_head(stacked, targets[positions].with_anchors(anchor_weight), strength)

        settings = [
            (strength, weight)
            for weight in (ANCHOR_WEIGHTS if self.anchor_weight is None else (self.anchor_weight,))
            for strength in (STRENGTHS if self.strength is None else (self.strength,))
        ]
        chosen = choose(settings, fit, features, targets, seed=seed)
        learned = fit(chosen, np.arange(len(features)))
        is_written = [origin == Origin.SYNTHETIC for origin in rows["origin"]]
        prior = self.prototype_prior * float(np.average(is_written, weights=targets.weights))
        weights = targets.probs * targets.weights[:, None]
        prototypes = (weights / np.maximum(weights.sum(axis=0), 1e-9)).T @ features + DESCRIPTION_SHARE * anchors
        prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
        self.head_ = replace(learned, weights=learned.weights + np.float32(prior) * prototypes.T.astype(np.float32))
        self.encoder_identity_ = encoder.identity
        self.labels_ = tuple(label.name for label in labels)
        return self

    def predict_proba(self, rows: "Dataset") -> NDArray[np.float64]:
        """Return probabilities; see `Student.predict_proba`."""
        require_fitted(self)
        return self.head_.predict_proba(load_encoder(self.encoder).encode(list(rows["text"])))

    def save(self, folder: Path) -> None:
        """Write hyperparameters, the encoder's identity and the head; the encoder stays where it is."""
        require_fitted(self)
        config = {"params": asdict(self), "labels": self.labels_, "encoder_identity": self.encoder_identity_}
        write_json(folder / "config.json", config)
        self.head_.save(folder / "head.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Args:
            folder: Where it was saved.

        Returns:
            The student, fitted, with the encoder of this machine.

        Raises:
            ArtifactCorrupt: The encoder on this machine is not the one the head was fitted on.
        """
        config = read_json(folder / "config.json")
        student = cls(**config["params"])
        identity = load_encoder(student.encoder).identity
        if identity != config["encoder_identity"]:
            raise ArtifactCorrupt(
                f"{folder}: expected the encoder {config['encoder_identity']}, found {identity}",
                hint="fit the student again, or bring back the encoder it was fitted on",
            )
        student.head_ = LinearHead.load(folder / "head.npz")
        student.encoder_identity_ = identity
        student.labels_ = tuple(config["labels"])
        return student

    def to_onnx(self, folder: Path) -> dict[str, Any]:
        """Write `model.onnx` (encoder and head) and `tokenizer.json`; see `Student.to_onnx`."""
        require_fitted(self)
        return graphs.write_encoder(load_encoder(self.encoder), self.head_, folder)
