"""A small sample of the holdout with the label shares of the whole, for whoever is too dear to ask about all of it."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from factory.records import Rows, all_kept
from factory.spec import Model
from factory.store import Stage


class SampleParams(Model):
    """How many rows, drawn how."""

    n: Annotated[int, Field(ge=0)] = 200
    seed: Annotated[int, Field(ge=0)] = 0


def sample(params: SampleParams, *, rows: Rows) -> Rows:
    """Draw rows at random within each label.

    Args:
        params: Number of rows, and the seed. The order of the rows plays no part.
        rows: Labelled rows; of rows with one text only the first counts.

    Returns:
        At most `n` rows in order of their ids, each label with its share (largest remainder) and, where `n` allows,
        at least one. This is no filter: what was not drawn is not rejected.
    """
    first = {row_id: position for position, row_id in reversed([*enumerate(rows.kept["id"])])}
    labels = rows.kept["label"][:]
    by_label: dict[str, list[str]] = {}
    for row_id in sorted(first):
        by_label.setdefault(labels[first[row_id]], []).append(row_id)
    sizes = {label: len(by_label[label]) for label in sorted(by_label)}
    rng = np.random.default_rng(params.seed)
    shares = allocate(params.n, sizes)
    drawn = [
        str(row_id)
        for label, share in shares.items()
        for row_id in rng.choice(by_label[label], size=share, replace=False)
    ]
    chosen = rows.kept.select([first[row_id] for row_id in sorted(drawn)])
    return all_kept(chosen, {"n_in": len(rows.kept), "by_label": shares})


def allocate(n: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Share out `n` places by size with the largest remainders, each group getting one first where `n` allows."""
    most = np.array(list(sizes.values()), dtype=np.int64)
    n = min(n, int(most.sum()))
    places = np.full(len(most), 1 if n >= len(most) else 0)
    for _ in range(n - int(places.sum())):
        below = np.where(places < most, n * most / most.sum() - places, -np.inf)
        places[below.argmax()] += 1
    return dict(zip(sizes, places.tolist(), strict=True))


SAMPLE: Stage[Rows] = Stage("sample", 2, SampleParams, sample, Rows)
