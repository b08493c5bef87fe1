"""Mend an LLM's confidence group by group: it may mean what it says on the whole and still not on any kind of text.

Chen, Perez-Lebel, Suchanek and Varoquaux, "Reconfidencing LLMs from the grouping loss perspective", Findings of EMNLP
2024, arXiv:2402.04957: groups are the leaves of a small tree that looks for texts on which the confidence is too high
or too low, and each group is calibrated on its own. Here with one temperature a group, shrunk towards that of all rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.evaluation.calibration import apply_temperature, fit_temperature
from factory.evaluation.metrics import Columns, Proba

MOST_GROUPS = 8
SHRINKAGE_ROWS = 50
"""A group of so many rows has half a say in its own temperature."""
N_BINS = 10

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Reconfidence:
    """A tree over sentence vectors, and a temperature for each of its leaves."""

    tree: Any
    temperatures: dict[int, float]
    """By leaf."""

    def __call__(self, proba: Proba, vectors: Vectors) -> Proba:
        """Return calibrated probabilities, shape (n_rows, n_labels); no answer changes."""
        leaves = self.tree.apply(vectors)
        mended = np.empty_like(proba)
        for leaf in np.unique(leaves):
            rows = leaves == leaf
            mended[rows] = apply_temperature(proba[rows], self.temperatures[int(leaf)])
        return mended


def fit_reconfidence(proba: Proba, gold: Columns, vectors: Vectors, *, seed: int) -> Reconfidence:
    """Learn groups and temperatures.

    Args:
        proba: The LLM's distributions, shape (n_rows, n_labels), rows sum to 1.
        gold: Column of the gold label, shape (n_rows,).
        vectors: Unit vectors of the texts, shape (n_rows, n_dimensions).
        seed: Of the tree.

    Returns:
        What to apply to other rows.

    Raises:
        ValueError: The lengths differ, or there are no rows.
    """
    from sklearn.tree import DecisionTreeRegressor

    shared = fit_temperature(proba, gold)
    mended = apply_temperature(proba, shared)
    residual = (mended.argmax(axis=1) == gold) - mended.max(axis=1)
    tree = DecisionTreeRegressor(max_leaf_nodes=MOST_GROUPS, min_samples_leaf=SHRINKAGE_ROWS // 2, random_state=seed)
    leaves = tree.fit(vectors, residual).apply(vectors)
    temperatures = {}
    for leaf in np.unique(leaves):
        rows = leaves == leaf
        say = rows.sum() / (rows.sum() + SHRINKAGE_ROWS)
        own = fit_temperature(proba[rows], gold[rows])
        temperatures[int(leaf)] = float(np.exp(say * np.log(own) + (1 - say) * np.log(shared)))
    return Reconfidence(tree, temperatures)


def grouping_loss(proba: Proba, gold: Columns, vectors: Vectors, *, seed: int) -> float:
    """Estimate how far groups of rows with one confidence differ in how often they are right.

    Perez-Lebel, Le Morvan and Varoquaux, "Beyond calibration: estimating the grouping loss of modern neural networks",
    ICLR 2023, arXiv:2210.16315: in each bin of confidence a tree with two leaves is fitted on half of the rows; on the
    other half, the variance between its leaves, less what chance alone gives, is a lower bound.

    Args:
        proba: Distributions, shape (n_rows, n_labels), rows sum to 1.
        gold: Column of the gold label, shape (n_rows,).
        vectors: Vectors of the texts, shape (n_rows, n_dimensions).
        seed: Decides the halves.

    Returns:
        The loss, 0 where groups do not differ; may fall below 0 by chance.
    """
    from sklearn.tree import DecisionTreeRegressor

    right, top = (proba.argmax(axis=1) == gold).astype(float), proba.max(axis=1)
    order = np.random.default_rng(seed).permutation(len(gold))
    bins = np.minimum((top * N_BINS).astype(int), N_BINS - 1)
    lost, n_counted = 0.0, 0
    for bar in np.unique(bins):
        member = order[bins[order] == bar]
        fitted, held = member[::2], member[1::2]
        if len(held) < 10:
            continue
        tree = DecisionTreeRegressor(max_leaf_nodes=2, min_samples_leaf=4, random_state=seed)
        leaves = tree.fit(vectors[fitted], right[fitted]).apply(vectors[held])
        groups = [right[held][leaves == leaf] for leaf in np.unique(leaves)]
        if min(map(len, groups)) < 2:
            groups = [right[held]]
        mean = right[held].mean()
        between = sum(len(one) * (one.mean() - mean) ** 2 for one in groups) / len(held)
        by_chance = sum(len(one) * one.var(ddof=1) / len(one) for one in groups) - right[held].var(ddof=1)
        lost += len(held) * (between - by_chance / len(held))
        n_counted += len(held)
    return lost / n_counted if n_counted else 0.0
