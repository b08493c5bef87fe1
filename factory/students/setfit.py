"""SetFit: contrastive fine-tuning of a sentence encoder on pairs of training texts, then a linear head.

Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022, arXiv:2209.11055.
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
from factory.students.finetuning import FineTuned, Pairs, fine_tune
from factory.students.linear import LinearHead, choose, fit_head
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
    max_steps: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Most training steps; what bounds the time."""
    num_iterations: Annotated[int, Field(ge=1, le=1000)] = 10
    """Pairs of the same and pairs of different labels drawn for each text, as far as `max_steps` allows."""
    batch_size: Annotated[int, Field(ge=2, le=1024)] = 16
    """Pairs in a step."""
    learning_rate: Annotated[float, Field(gt=0, le=1e-2)] = 2e-5
    """Of AdamW at its peak, after warm-up."""
    strength: Annotated[float, Field(gt=0)] | None = None
    """Inverse L2 penalty of the head; null to choose it by cross-validation."""
