"""Sentence-transformers models read with plain `transformers`: a transformer, mean or first-token pooling, unit length.

Only the shape nearly all of them have is supported, because it is also what the exported ONNX graph computes. The
`sentence_transformers` package is not needed, which saves its import.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from factory.errors import ArtifactCorrupt, ArtifactMissing

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
BATCH_TOKENS = 4096
"""Tokens in one forward pass, padding included: 64 texts of 64 tokens."""
REMEMBERED_TEXTS = 50_000
"""Texts whose vectors an encoder keeps in memory: 77 MB at 384 dimensions."""
NEEDED_FILES = (WEIGHTS, TOKENIZER, "config.json")
READ_FILES = (
    *NEEDED_FILES,
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)


@dataclass(frozen=True)
class TransformerEncoder:
    """A frozen sentence encoder in a folder; open it with `open_folder` or `open_named`."""

    name: str
    folder: Path
    pooling: Literal["mean", "cls"]
    max_length: int
    identity: str
    _vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-length vectors, shape (n_texts, n_dimensions); texts seen before cost nothing."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        vectors = {**self._vectors, **dict(zip(new, self._forward(new), strict=True))} if new else self._vectors
        if new and len(vectors) <= REMEMBERED_TEXTS:
            self._vectors.update(vectors)
        n_dimensions = int(self._config["hidden_size"])
        return np.array([vectors[text] for text in texts], dtype=np.float32).reshape(len(texts), n_dimensions)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, cut off after `max_length`, not padded."""
        # A lone surrogate, legal in JSON, has no UTF-8 form and the tokenizer would refuse it.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch(clean)]

    def module(self) -> Any:
        """Return a new torch module: (input_ids, attention_mask), each (n, length), to vectors (n, n_dimensions)."""
        import torch

        pooling = self.pooling

        class SentenceModule(torch.nn.Module):  # type: ignore[misc]  # torch is not type-checked
            def __init__(self, transformer: Any) -> None:
                super().__init__()
                self.transformer = transformer

            def forward(self, input_ids: Any, attention_mask: Any) -> Any:
                hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
                if pooling == "cls":
                    return torch.nn.functional.normalize(hidden[:, 0], dim=1)
                mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
                # Unit length is all that is left of the mean, so the sum will do.
                return torch.nn.functional.normalize((hidden * mask).sum(1), dim=1)

        return SentenceModule(load_transformer(self.folder)).eval()

    @cached_property
    def _config(self) -> dict[str, Any]:
        return _read_json(self.folder / "config.json")

    @cached_property
    def _module(self) -> Any:
        return self.module()

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
        tokenizer.enable_truncation(self.max_length)
        tokenizer.no_padding()
        return tokenizer

    def _forward(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import torch

        ids = self.tokenize(texts)
        vectors = np.zeros((len(texts), int(self._config["hidden_size"])), dtype=np.float32)
        for batch in batches_by_length([len(row) for row in ids], BATCH_TOKENS):
            input_ids, mask = pad([ids[position] for position in batch])
            with torch.inference_mode():
                vectors[batch] = self._module(torch.from_numpy(input_ids), torch.from_numpy(mask)).numpy()
        return vectors


def open_folder(name: str, folder: Path) -> TransformerEncoder:
    """Open the encoder in a folder; the same object again as long as its files do not change.

    Args:
        name: What the encoder is called in its identity.
        folder: Weights, tokenizer and configuration, as sentence-transformers saves them.

    Returns:
        The encoder; its weights are read at the first `encode`.

    Raises:
        ArtifactMissing: A file is missing.
        ArtifactCorrupt: It is not a transformer with mean or first-token pooling.
    """
    for required in NEEDED_FILES:
        if not (folder / required).is_file():
            raise ArtifactMissing(
                f"encoder {name}: expected {folder / required}, which does not exist",
                hint="name the folder of a sentence-transformers model saved as safetensors",
            )
    stats = [(folder / file).stat() for file in present_files(folder)]
    return _read_unchanged(name, folder, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))


def present_files(folder: Path) -> list[str]:
    """Return those of `READ_FILES` that a model folder has."""
    return [file for file in READ_FILES if (folder / file).is_file()]


@lru_cache(maxsize=4)
def _read_unchanged(name: str, folder: Path, stamps: tuple[tuple[int, int], ...]) -> TransformerEncoder:
    return read_encoder(name, folder)


def open_named(name: str) -> TransformerEncoder:
    """Open a sentence-transformers model by its folder or its hub id.

    Args:
        name: A folder, or an id such as `sentence-transformers/all-mpnet-base-v2`.

    Returns:
        The encoder, called by the last part of its folder or by its hub id.

    Raises:
        ArtifactMissing: No such folder, not in the local hub cache, and HF_HUB_OFFLINE forbids a download.
    """
    if Path(name).is_dir():
        folder = Path(name).resolve()
        return open_folder(folder.name, folder)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    offline = _is_offline()
    try:
        patterns = list(READ_FILES)
        return open_folder(name, Path(snapshot_download(name, allow_patterns=patterns, local_files_only=offline)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        why = "HF_HUB_OFFLINE is set" if offline else f"the hub says: {str(error).splitlines()[0]}"
        raise ArtifactMissing(
            f"encoder {name}: expected a known name, a folder or a hub id; it is not on this machine and {why}",
            hint="use all-MiniLM-L6-v2, which is installed with the factory, or give the path of a model folder",
        ) from error


def named_problem(name: str, known: Sequence[str]) -> str:
    """Say why `open_named` could not open a model, as far as that can be told without the network; else say nothing.

    Args:
        name: A folder, or a hub id.
        known: Names that are neither and would do.

    Returns:
        What is wrong, or an empty text.
    """
    folder = Path(name)
    if folder.is_dir():
        missing = [file for file in NEEDED_FILES if not (folder / file).is_file()]
        return f"{name!r} is no folder of a sentence-transformers model: it has no {', '.join(missing)}" * bool(missing)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    expected = f"one of {', '.join(known)}, a model folder or a hub id such as sentence-transformers/{known[0]}"
    try:
        if isinstance(try_to_load_from_cache(name, WEIGHTS), str):
            return ""
    except HFValidationError:
        return f"{name!r} is not {expected}"
    if "/" in name and not _is_offline():
        return ""  # the hub may have it
    return f"{name!r} is not {expected}" + (" that is on this machine" if "/" in name else "")


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def load_transformer(folder: Path) -> Any:
    """Read a transformer from safetensors, in evaluation mode, without a word on the terminal."""
    from transformers.models.auto.modeling_auto import AutoModel

    # `eager` attention is the one whose trace exports to plain ONNX operators.
    with quiet_transformers():
        return AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, attn_implementation="eager"
        ).eval()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back the load report and progress bars of `transformers`, then restore its settings."""
    from transformers.utils import logging

    level, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield positions of texts of similar length, longest first; a batch has at most `batch_tokens` with padding."""
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    while order:
        size = max(1, batch_tokens // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]


def pad(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return token ids and mask, shape (n_rows, longest), 0 where a row has ended."""
    longest = max(1, *(len(row) for row in rows)) if rows else 1
    ids = np.zeros((len(rows), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for position, row in enumerate(rows):
        ids[position, : len(row)] = row
        mask[position, : len(row)] = 1
    return ids, mask


def read_encoder(name: str, folder: Path) -> TransformerEncoder:
    """Read the layout of a model folder and hash its files; weights are read at the first `encode`."""
    digest = hashlib.sha256()
    for file in present_files(folder):
        with (folder / file).open("rb") as opened:
            digest.update(f"{file}:{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    limits = _read_json(folder / "sentence_bert_config.json")
    n_positions = int(_read_json(folder / "config.json").get("max_position_embeddings", 512))
    return TransformerEncoder(
        name=name,
        folder=folder,
        pooling=_pooling(name, folder),
        max_length=min(int(limits.get("max_seq_length") or 256), n_positions),
        identity=f"{name}@{digest.hexdigest()}",
    )


def _pooling(name: str, folder: Path) -> Literal["mean", "cls"]:
    """Find how token vectors become one vector; refuse what this file does not compute."""
    listed = json.loads(_read_text(folder / "modules.json") or "[]")
    modules = [str(module["type"]).rsplit(".", 1)[-1] for module in listed]
    unknown = [module for module in modules if module not in {"Transformer", "Pooling", "Normalize"}]
    config = _read_json(folder / "1_Pooling" / "config.json")
    wanted = {mode for key, mode in _POOLING_KEYS.items() if config.get(key)} or {config.get("pooling_mode", "mean")}
    if not unknown and wanted == {"mean"}:
        return "mean"
    if not unknown and wanted == {"cls"}:
        return "cls"
    found = ", ".join(unknown) or f"pooling {', '.join(sorted(map(str, wanted)))}"
    raise ArtifactCorrupt(
        f"encoder {name}: expected a transformer with mean or cls pooling, {folder} has {found}",
        hint="choose another encoder, such as all-MiniLM-L6-v2",
    )


_POOLING_KEYS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _read_json(path: Path) -> dict[str, Any]:
    """Read an optional JSON object; a missing file reads as an empty one."""
    value = json.loads(_read_text(path) or "{}")
    if not isinstance(value, dict):
        raise ArtifactCorrupt(f"{path}: expected a JSON object", hint="the encoder's folder is damaged: copy it again")
    return value
