"""Parting rows for cross-validation: stratified by label, equal texts never apart."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from factory.records import Origin

if TYPE_CHECKING:
    from datasets import Dataset


def assign_folds(
    groups: Sequence[Hashable], labels: Sequence[Hashable], n_folds: int, *, seed: int
) -> NDArray[np.intp]:
    """Give each row the number of the fold it is held out in.

    Rows of one group (equal texts) share a fold, which keeps a text from being learned and tested at once. Groups are
    dealt like cards, label after label, so folds differ by at most one group and each label is spread as evenly as
    its rows allow, also when it has fewer than `n_folds`.

    Args:
        groups: What must stay together, one entry a row, such as the id of the text or of what it was varied from.
        labels: The label of each row; a group counts under the label of its first row.
        n_folds: How many folds are wanted; never more than there are groups.
        seed: Decides the order in which groups are dealt.

    Returns:
        Fold numbers from 0, shape (n_rows,).
    """
    first_label: dict[Hashable, Hashable] = {}
    for group, label in zip(groups, labels, strict=True):
        first_label.setdefault(group, label)
    by_label: dict[Hashable, list[Hashable]] = {}
    for group, label in first_label.items():
        by_label.setdefault(label, []).append(group)
    rng = np.random.default_rng(seed)
    dealt = [members[index] for members in by_label.values() for index in rng.permutation(len(members))]
    n_folds = min(n_folds, len(dealt))
    fold_of = {group: position % n_folds for position, group in enumerate(dealt)}
    return np.array([fold_of[group] for group in groups], dtype=np.intp)


def families(rows: "Dataset") -> list[str]:
    """Name what each row belongs to: the one row it was varied from, else itself; equal texts are one family.

    Args:
        rows: Training rows.

    Returns:
        A name for each row. The rows of a label that is a single family are on their own, or held out together they
        would leave nothing to learn the label from.
    """
    columns = zip(rows["id"], rows["parents"], rows["origin"], strict=True)
    found = [
        parents[0] if origin == Origin.AUGMENTED and len(parents) == 1 else row_id
        for row_id, parents, origin in columns
    ]
    names: dict[str, set[str]] = {}
    for family, label in zip(found, rows["label"], strict=True):
        names.setdefault(label, set()).add(family)
    return [
        family if len(names[label]) > 1 else row_id
        for family, label, row_id in zip(found, rows["label"], rows["id"], strict=True)
    ]
