"""The contrastive half of SetFit, by the authors' library: texts of one label move together, of different labels apart.

Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022, arXiv:2209.11055. Only the encoder is trained
here: the head is ours, because theirs is saved as a pickle and knows no soft labels.
"""

import contextlib
import math
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from factory.encoders.transformer import WEIGHTS, present_files, quiet_transformers
from factory.events import Progressed, emit
from factory.students.targets import Targets

if TYPE_CHECKING:
    from factory.encoders import OpenEncoder

MAX_TEXTS = 2000
"""Texts to make pairs of: the library's sampler holds all n (n + 1) / 2 pairs, 48 MB for these."""


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
        targets: Their labels, at least two different ones, and weights. Soft labels do not count here, only in the
            head.
        tuning: How long and how fast; `batch_size` counts pairs.
        seed: Decides texts, the order of pairs, and dropout.

    Returns:
        A new temporary folder with the tuned encoder, in the shape of the folder it started from.
    """
    from safetensors.torch import save_file

    chosen = draw_by_weight(targets, seed)
    n_steps = max(1, min(tuning.max_steps, math.ceil(tuning.passes * len(chosen) / tuning.batch_size)))
    with _restored_generators(), _quiet(), tempfile.TemporaryDirectory(prefix="factory-setfit-") as scratch:
        body = _open_body(encoder)
        trainer = _trainer(body, scratch, tuning, n_steps, seed)
        trainer.train_embeddings([texts[i] for i in chosen], targets.columns[chosen].tolist())
    folder = Path(tempfile.mkdtemp(prefix="factory-setfit-"))
    copy_encoder(encoder.folder, folder, without=WEIGHTS)
    state = {name: tensor.contiguous() for name, tensor in body[0].auto_model.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def copy_encoder(source: Path, target: Path, *, without: str = "") -> None:
    """Copy the files of an encoder into a folder, which is made if need be."""
    for file in present_files(source):
        if file != without:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, target / file)


def draw_by_weight(targets: Targets, seed: int) -> NDArray[np.intp]:
    """Draw the texts to make pairs of, by systematic resampling; equal weights draw each text once.

    Args:
        targets: Labels and weights, at least two different labels.
        seed: Decides how fractions are rounded.

    Returns:
        Positions in rising order, at most `MAX_TEXTS`, each as often as its weight says but for rounding. Where that
        would leave fewer than two labels, and so no pair, weights do not count.
    """
    n_draws = min(len(targets.weights), MAX_TEXTS)
    ticks = np.arange(n_draws) + np.random.default_rng(seed).uniform(0.1, 0.9)
    for weights in (targets.weights, np.ones(len(targets.weights))):
        ends = np.cumsum(weights)
        drawn: NDArray[np.intp] = np.searchsorted(ends, ticks / n_draws * ends[-1])
        if len(np.unique(targets.columns[drawn])) > 1:
            break
    return drawn


def _open_body(encoder: "OpenEncoder") -> Any:
    """Open the encoder as the library wants it; word vectors, half the weights of a small encoder, are frozen."""
    from sentence_transformers import SentenceTransformer

    body = SentenceTransformer(str(encoder.folder), device="cpu", local_files_only=True)
    body.max_seq_length = encoder.max_length
    body[0].auto_model.embeddings.requires_grad_(False)
    return body


def _trainer(body: Any, scratch: str, tuning: Tuning, n_steps: int, seed: int) -> Any:
    """Return a trainer of the encoder that writes nothing and reports progress as events."""
    from setfit import SetFitModel, Trainer, TrainingArguments
    from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is not type-checked
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            emit(Progressed("setfit", state.global_step, n_steps, "steps"))

    arguments = TrainingArguments(
        output_dir=scratch,
        max_steps=n_steps,
        batch_size=tuning.batch_size,
        body_learning_rate=tuning.learning_rate,
        seed=seed,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        show_progress_bar=False,
    )
    trainer = Trainer(SetFitModel(model_body=body), arguments, callbacks=[Progress()])
    # Arguments of the trainer beneath, which SetFit's own do not reach.
    trainer.st_trainer.args.dataloader_pin_memory = False
    for callback in (ProgressCallback, PrinterCallback):
        trainer.st_trainer.remove_callback(callback)
    return trainer


@contextlib.contextmanager
def _restored_generators() -> Iterator[None]:
    """Give back the global generators, all of which the library seeds, as they were."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - it is the library that draws from it
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the libraries say about loading and training, then restore their settings."""
    from setfit import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with quiet_transformers():
            yield
    finally:
        logging.set_verbosity(level)
