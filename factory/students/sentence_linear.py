"""A frozen sentence encoder with a linear head; label descriptions are training rows of their own.

The head alone is the "linear probe"; descriptions as anchors let it answer for labels with few rows, the idea of
Chang et al., "Importance of Semantic Representation: Dataless Classification", AAAI 2008. What else descriptions do:
`prototypes`.
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
from factory.errors import ArtifactCorrupt
from factory.records import Origin
from factory.spec import Label
from factory.students import graphs
from factory.students.folds import families
from factory.students.linear import LinearHead, choose, fit_head
from factory.students.prototypes import PROTOTYPE_PRIOR, can_measure, choose_prior, with_doubt, with_prototypes
from factory.students.targets import read_json, require_fitted, targets_of, write_json

if TYPE_CHECKING:
    from datasets import Dataset

STRENGTHS = (3.0, 10.0, 30.0)
ANCHOR_WEIGHTS = (30.0, 10.0, 3.0, 1.0)


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
    prototype_prior: Annotated[float, Field(ge=0)] | None = None
    """Of what prototypes say: factor on their cosine to the text. Null to measure it on real texts that people
    labelled, `LEAST_GOLD` of each label; where there are fewer, `PROTOTYPE_PRIOR` times the (weighted) share of rows
    that a teacher wrote from scratch: what serves on real texts cannot be told from written ones, since those agree
    with each other."""

    def fit(self, rows: "Dataset", labels: Sequence[Label], *, seed: int) -> Self:
        """Learn the head; see `Student.fit`."""
        targets = targets_of(rows, labels)
        encoder = load_encoder(self.encoder)
        features = encoder.encode(list(rows["text"]))
        anchors = encoder.encode([label.phrase for label in labels])
        origins = np.array(rows["origin"])
        targets = with_doubt(targets, origins == Origin.SYNTHETIC, features, anchors)

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
        self.prior_ = self.prototype_prior
        if self.prior_ is None:
            family = np.array(families(rows))
            # A text with a strategy is a teacher's; that a person approved of it makes it no real one.
            gold = np.flatnonzero((origins == Origin.GOLD) & (np.array(rows["strategy"]) == ""))
            if can_measure(targets.columns, family, gold, len(labels)):
                self.prior_ = choose_prior(
                    features,
                    targets,
                    anchors,
                    gold=gold,
                    families=family,
                    strength=chosen[0],
                    anchor_weight=chosen[1],
                    seed=seed,
                )
            else:
                self.prior_ = PROTOTYPE_PRIOR * float(np.average(origins == Origin.SYNTHETIC, weights=targets.weights))
        self.head_ = with_prototypes(learned, self.prior_, features, targets, anchors)
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
        config = {
            "params": asdict(self),
            "labels": self.labels_,
            "encoder_identity": self.encoder_identity_,
            "prior": self.prior_,
        }
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
        student.labels_, student.prior_ = tuple(config["labels"]), config["prior"]
        return student

    def to_onnx(self, folder: Path) -> dict[str, Any]:
        """Write `model.onnx` (encoder and head) and `tokenizer.json`; see `Student.to_onnx`."""
        require_fitted(self)
        return graphs.write_encoder(load_encoder(self.encoder), self.head_, folder)
