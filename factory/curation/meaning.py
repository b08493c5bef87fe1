"""Drop varied rows that say what their parent says word for word, or that have drifted away from it.

Cosine similarity of sentence vectors, Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese
BERT-Networks", EMNLP 2019, arXiv:1908.10084. A text with several parents is held against the nearest.
"""

from typing import Annotated

from pydantic import Field

from factory.curation.texts import encode
from factory.encoders import Encoder
from factory.errors import FactoryError
from factory.records import Rejection, Rows, split
from factory.spec import Model
from factory.store import Stage


class MeaningParams(Model):
    """How near a row must be to its parent, and how near it may be."""

    least: Annotated[float, Field(ge=-1, le=1)]
    """Cosine below which a row means something else; -1: no bound, for rows that shall."""
    most: Annotated[float, Field(ge=-1, le=1)] = 0.95
    """Cosine from which a row is a copy: as near as rows that `dedup` takes for the same."""


def check_meaning(params: MeaningParams, *, rows: Rows, parents: Rows, encoder: Encoder) -> Rows:
    """Keep the rows that are near their parent, and not too near.

    Args:
        params: The bounds.
        rows: Varied rows; one without parents is kept as it is.
        parents: The rows they were made from, found by id.
        encoder: Gives the vectors that are compared.

    Returns:
        Rejected: `copies-parent` and `drifted`, scored with the cosine to the nearest parent.

    Raises:
        FactoryError: A row has a parent that is not among `parents`.
    """
    texts = dict(zip(parents.kept["id"], parents.kept["text"], strict=True))
    families = rows.kept["parents"][:]
    named = list(dict.fromkeys(parent for family in families for parent in family))
    missing = [parent for parent in named if parent not in texts]
    if missing:
        raise FactoryError(
            f"meaning: expected every parent among the {len(texts):,} rows given, got {len(missing)} that are not, "
            f"such as {missing[0]}",
            hint="hand in the rows that were varied",
        )
    at = {parent: position for position, parent in enumerate(named)}
    vectors = encode([texts[parent] for parent in named], encoder, stage=MEANING.name)
    ours = encode(rows.kept["text"][:], encoder, stage=MEANING.name)
    rejections: dict[int, Rejection] = {}
    for position, family in enumerate(families):
        if not family:
            continue
        cosine = round(float((vectors[[at[parent] for parent in family]] @ ours[position]).max()), 6)
        if cosine >= params.most:
            rejections[position] = Rejection("copies-parent", cosine)
        elif cosine < params.least:
            rejections[position] = Rejection("drifted", cosine)
    return split(rows.kept, rejections, by=MEANING.name)


MEANING: Stage[Rows] = Stage("meaning", 1, MeaningParams, check_meaning, Rows)
