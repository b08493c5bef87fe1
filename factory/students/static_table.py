"""The token vectors of `static_embedding`: distilled once per encoder, then kept in the user's cache folder."""

import contextlib
import hashlib
import io
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from factory.cache_folder import cache_folder
from factory.encoders.transformer import load_transformer, quiet_transformers

if TYPE_CHECKING:
    from factory.encoders import OpenEncoder

VECTORS = "vectors.safetensors"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class StaticTable:
    """A vector for each token, and the tokenizer that finds the tokens of a text."""

    MAX_LENGTH: ClassVar[int] = 512
    """Tokens after which a text is cut off."""

    vectors: NDArray[np.float16]
    """Shape (n_tokens, n_dimensions); zero for the unknown token, so that it adds nothing."""
    tokenizer_json: str

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-length vectors, shape (n_texts, n_dimensions); zero for a text without known tokens."""
        from scipy import sparse

        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(clean, add_special_tokens=False)]
        ends = np.cumsum([0, *(len(row) for row in ids)])
        flat = np.fromiter((token for row in ids for token in row), dtype=np.int64, count=int(ends[-1]))
        shape = (len(texts), len(self.vectors))
        occurrences = sparse.csr_matrix((np.ones(len(flat), dtype=np.float32), flat, ends), shape=shape)
        # Unit length is all that is left of the mean, so the sum will do.
        sums = occurrences @ self._vectors32
        return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write vectors and tokenizer."""
        from safetensors.numpy import save_file

        save_file({"vectors": self.vectors}, folder / VECTORS)
        self.save_tokenizer(folder)

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer alone."""
        (folder / TOKENIZER).write_text(self.tokenizer_json, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from safetensors.numpy import load_file

        vectors = load_file(folder / VECTORS)["vectors"]
        return cls(vectors, (folder / TOKENIZER).read_text(encoding="utf-8"))

    @cached_property
    def _vectors32(self) -> NDArray[np.float32]:
        return self.vectors.astype(np.float32)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer_json)
        tokenizer.enable_truncation(self.MAX_LENGTH)
        tokenizer.no_padding()
        return tokenizer


def distilled_table(encoder: "OpenEncoder", n_dimensions: int) -> StaticTable:
    """Return the token vectors of an encoder, from the cache if it was distilled before (12 s if not).

    The cache is `static/` in the folder that FACTORY_CACHE names, else in the user's cache folder.
    """
    key = f"{encoder.identity}/{n_dimensions}/model2vec {version('model2vec')}"
    final = cache_folder() / "static" / hashlib.sha256(key.encode()).hexdigest()[:24]
    if not (final / TOKENIZER).is_file():
        table = _distil(encoder, n_dimensions)
        # Write aside and rename, so that a crash or a second build never leaves half a table under the final name.
        work = final.with_name(f".tmp-{uuid.uuid4().hex}")
        work.mkdir(parents=True)
        table.save(work)
        with contextlib.suppress(OSError):  # another process was faster: its table is the same
            work.rename(final)
        shutil.rmtree(work, ignore_errors=True)
    return StaticTable.load(final)


def _distil(encoder: "OpenEncoder", n_dimensions: int) -> StaticTable:
    from model2vec.distill import distill_from_model
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(encoder.folder / TOKENIZER),
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    )
    # model2vec draws its progress bar on whatever stderr is at the moment.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        model = load_transformer(encoder.folder)
        static = distill_from_model(model, tokenizer, pca_dims=n_dimensions, device="cpu")
    vectors = np.array(static.embedding, dtype=np.float16)
    if static.unk_token_id is not None:
        vectors[static.unk_token_id] = 0
    return StaticTable(vectors, static.tokenizer.to_str())
