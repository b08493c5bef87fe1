"""Contrastive fine-tuning with the `setfit` library, without its head (a pickle), its files and its chatter."""

import contextlib
import io
import math
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

if TYPE_CHECKING:
    from factory.encoders import Encoder

MAX_PAIRED_TEXTS = 2000
"""Texts that pairs are drawn from; setfit lists all pairs, and so its memory grows with the square of this."""


@dataclass(frozen=True)
class Tuning:
    """How long and how fast to tune."""

    max_steps: int
    num_iterations: int
    batch_size: int
    learning_rate: float


def fine_tune(
    encoder: "Encoder", texts: Sequence[str], columns: NDArray[np.intp], tuning: Tuning, *, seed: int
) -> Path:
    """Move texts of one label together and texts of different labels apart.

    Args:
        encoder: Where to start; it stays as it is.
        texts: Training texts.
        columns: Label column of each text, at least two different ones.
        tuning: How long and how fast.
        seed: Decides pairs and dropout.

    Returns:
        A new temporary folder with the tuned encoder, in the shape of the folder it started from.
    """
    import torch
    from safetensors.torch import save_file

    order = np.random.default_rng(seed).permutation(len(texts))[:MAX_PAIRED_TEXTS]
    n_pairs = 2 * tuning.num_iterations * len(order)
    n_steps = min(tuning.max_steps, math.ceil(n_pairs / tuning.batch_size))
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as scratch, _quiet():
        body = _train(encoder, [texts[i] for i in order], columns[order].tolist(), tuning, n_steps, seed, scratch)
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


def _train(encoder: "Encoder", texts: list[str], columns: list[int], tuning: Tuning, n_steps: int, seed: int, scratch: str) -> Any:
    from sentence_transformers import SentenceTransformer
    from setfit import SetFitModel, Trainer, TrainingArguments
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):  # type: ignore[misc]  # untyped base
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step % 10 == 0 or state.global_step == n_steps:
                emit(Progressed("setfit", state.global_step, n_steps, "steps"))

    body = SentenceTransformer(str(encoder.folder), device="cpu", local_files_only=True)
    arguments = TrainingArguments(
        output_dir=scratch,
        batch_size=tuning.batch_size,
        num_epochs=1,
        max_steps=n_steps,
        num_iterations=tuning.num_iterations,
        body_learning_rate=tuning.learning_rate,
        max_length=encoder.max_length,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        show_progress_bar=False,
        seed=seed,
    )
    trainer = Trainer(model=SetFitModel(model_body=body), args=arguments, callbacks=[Reporter()])
    trainer.train_embeddings(texts, columns)
    return body.eval()
