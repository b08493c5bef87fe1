"""Give each label the weight that it has among real rows, however many rows were made for it."""

from collections import Counter

from factory.records import Origin, Rows, all_kept
from factory.spec import Model
from factory.store import Stage


class WeighParams(Model):
    """What weighing depends on besides the rows."""

    labels: tuple[str, ...]


def weigh(params: WeighParams, *, rows: Rows) -> Rows:
    """Set weights so that the labels share the total as the gold rows do.

    Rows that were made come in numbers that somebody chose; gold rows come as often as they come. One gold row a label
    is added to the count (Laplace), so that a label that only the teacher wrote for is not weighed down to nothing.

    Args:
        params: The labels.
        rows: Training rows, gold ones among them.

    Returns:
        All rows; within a label weights keep their proportions, and the total stays what it was. The report has the
        factor of each label.
    """
    names, origins, weights = (rows.kept[column][:] for column in ("label", "origin", "weight"))
    gold = Counter(name for name, origin in zip(names, origins, strict=True) if origin == Origin.GOLD)
    present = [label for label in params.labels if label in set(names)]
    total = sum(weights)
    share = {label: (gold[label] + 1) / sum(gold[other] + 1 for other in present) for label in present}
    mass = {label: sum(w for w, name in zip(weights, names, strict=True) if name == label) for label in present}
    factors = {label: share[label] * total / mass[label] if mass[label] else 1.0 for label in present}
    weighed = [weight * factors[name] for weight, name in zip(weights, names, strict=True)]
    feature = rows.kept.features["weight"]
    dataset = rows.kept.remove_columns("weight").add_column("weight", weighed, feature=feature)
    return all_kept(dataset.select_columns(rows.kept.column_names), report={"factors": factors})


WEIGH: Stage[Rows] = Stage("weigh", 1, WeighParams, weigh, Rows)
