"""The contrastive half of SetFit: texts of one label move together, texts of different labels apart.

Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022, arXiv:2209.11055, with their cosine similarity
loss. Two things differ from their library, both because a CPU pays for each encoded text: a batch is used for *all*
its pairs (16 texts give 120 pairs, not 8), and word vectors stay frozen. Padding goes to the longest text of the
batch, no global random state is touched, and nothing is written to disk but the tuned encoder.
"""

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from factory.encoders.transformer import WEIGHTS, pad, present_files
from factory.events import Progressed, emit
from factory.students.targets import Targets

if TYPE_CHECKING:
    from factory.encoders import OpenEncoder

TEXTS_PER_LABEL = 4
"""Texts of one label in a batch: 4 give 6 pairs of the same label."""
WARM_UP_RATIO = 0.1


@dataclass(frozen=True)
class Tuning:
    """How long and how fast to tune."""

    passes: int
    max_steps: int
    batch_size: int
    learning_rate: float


def fine_tune(encoder: "OpenEncoder", texts: Sequence[str], targets: Targets, tuning: Tuning, *, seed: int) -> Path:
    """Train a copy of an encoder on pairs of texts.

    Args:
        encoder: Where to start; it stays as it is.
        texts: Training texts.
        targets: Their labels, at least two different ones; the wanted similarity of two texts is the probability that
            they have the same label. Rows are drawn in proportion to their weight.
        tuning: How long and how fast.
        seed: Decides batches and dropout.

    Returns:
        A new temporary folder with the tuned encoder, in the shape of the folder it started from.
    """
    import torch
    from safetensors.torch import save_file

    module = encoder.module()
    ids = encoder.tokenize(texts)
    n_steps = max(1, min(tuning.max_steps, math.ceil(tuning.passes * len(texts) / tuning.batch_size)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        optimizer, schedule = _optimizer(module, n_steps, tuning.learning_rate)
        module.train()
        for step, batch in enumerate(_batches(targets, tuning.batch_size, n_steps, seed), start=1):
            input_ids, mask = pad([ids[position] for position in batch])
            vectors = module(torch.from_numpy(input_ids), torch.from_numpy(mask))
            loss = _pair_loss(vectors, torch.from_numpy(targets.probs[batch].astype(np.float32)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            emit(Progressed("setfit", step, n_steps, "steps"))
    folder = Path(tempfile.mkdtemp(prefix="factory-setfit-"))
    copy_encoder(encoder.folder, folder, without=WEIGHTS)
    state = {name: tensor.contiguous() for name, tensor in module.transformer.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def copy_encoder(source: Path, target: Path, *, without: str = "") -> None:
    """Copy the files of an encoder into a folder, which is made if need be."""
    for file in present_files(source):
        if file != without:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, target / file)


def _optimizer(module: Any, n_steps: int, learning_rate: float) -> tuple[Any, Any]:
    """Return AdamW on all but the embeddings, and a schedule: linear warm-up, then linear decay."""
    import torch

    module.transformer.embeddings.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=learning_rate)
    warm_up = max(1, round(WARM_UP_RATIO * n_steps))

    def rate(step: int) -> float:
        return min((step + 1) / warm_up, (n_steps - step) / max(1, n_steps - warm_up), 1.0)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def _batches(targets: Targets, batch_size: int, n_steps: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Draw positions: a few labels at random, then for each a few of its texts, by weight."""
    rng = np.random.default_rng(seed)
    weights = np.maximum(targets.weights, 1e-9)
    present = np.unique(targets.columns)
    members = [np.flatnonzero(targets.columns == column) for column in present]
    n_labels = min(len(present), max(2, batch_size // TEXTS_PER_LABEL))
    per_label = max(2, batch_size // n_labels)
    for _ in range(n_steps):
        chosen = [members[index] for index in rng.choice(len(present), n_labels, replace=False)]
        yield np.concatenate(
            [
                rng.choice(rows, min(per_label, len(rows)), replace=False, p=weights[rows] / weights[rows].sum())
                for rows in chosen
            ]
        )


def _pair_loss(vectors: Any, probs: Any) -> Any:
    """Return the squared error of all cosines, pairs of the same and of different labels counting half each."""
    import torch

    cosines = vectors @ vectors.T
    same = (probs @ probs.T).clamp(0, 1)
    others = 1 - torch.eye(len(vectors))
    together, apart = same * others, (1 - same) * others
    near = (together * (1 - cosines) ** 2).sum() / together.sum().clamp(min=1e-6)
    far = (apart * cosines**2).sum() / apart.sum().clamp(min=1e-6)
    return (near + far) / 2
