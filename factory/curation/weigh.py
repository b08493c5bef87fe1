"""Give rows that a teacher wrote less weight than real ones, and each label the weight that it has among real rows."""

from collections import Counter
from typing import Annotated

from pydantic import Field

from factory.records import Origin, Rows, all_kept
from factory.spec import Model
from factory.store import Stage

WRITTEN = 0.2
"""Beside gold rows: with eight of them a label, 0.1 and 0.3 were about as good, 1 was worse and 0 much worse on tweets
(docs/log.md, 2026-11-28)."""


class WeighParams(Model):
    """What weighing depends on besides the rows."""

    labels: tuple[str, ...] = ()
    """Those that get the share of the total that they have among gold rows; none, to leave shares as they are."""
    written: Annotated[float, Field(ge=0)] = WRITTEN
    """What a row that a teacher wrote weighs, in gold rows."""


def weigh(params: WeighParams, *, rows: Rows) -> Rows:
    """Set weights of training rows, gold ones among them.

    What a teacher writes is not what people write, so it weighs less than the real rows it stands beside. Rows that
    were made come in numbers that somebody chose; gold rows come as often as they come. One gold row a label is added
    to the count (Laplace), so that a label that only the teacher wrote for is not weighed down to nothing.

    Args:
        params: What written rows weigh, and which labels to weigh.
        rows: Training rows, gold ones among them.

    Returns:
        All rows; within a label, written rows apart, weights keep their proportions. The report has the factor of each
        label and what a written row weighs.
    """
    names, origins, given = (rows.kept[column][:] for column in ("label", "origin", "weight"))
    weights = [
        weight * (params.written if origin == Origin.SYNTHETIC else 1.0)
        for weight, origin in zip(given, origins, strict=True)
    ]
    gold = Counter(name for name, origin in zip(names, origins, strict=True) if origin == Origin.GOLD)
    present = [label for label in params.labels if label in set(names)]
    total = sum(weights)
    share = {label: (gold[label] + 1) / sum(gold[other] + 1 for other in present) for label in present}
    mass = {label: sum(w for w, name in zip(weights, names, strict=True) if name == label) for label in present}
    factors = {label: share[label] * total / mass[label] if mass[label] else 1.0 for label in present}
    weighed = [weight * factors.get(name, 1.0) for weight, name in zip(weights, names, strict=True)]
    feature = rows.kept.features["weight"]
    dataset = rows.kept.remove_columns("weight").add_column("weight", weighed, feature=feature)
    return all_kept(
        dataset.select_columns(rows.kept.column_names), report={"factors": factors, "written": params.written}
    )


WEIGH: Stage[Rows] = Stage("weigh", 3, WeighParams, weigh, Rows)
