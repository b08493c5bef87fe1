"""What a released student of a table needs to say what each column added: the arrays of `release/table_explain.py`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.students.tables.card import Card, Term, expand_terms
from factory.students.tables.encoding import Encoding, Matrix
from factory.students.tables.linear import MOST_SPREAD, Weighted
from factory.students.tables.trees import IS_CODE, LEAF, Trees

Arrays = dict[str, NDArray[Any]]


def explained(fitted: Any, encoding: Encoding, matrix: Matrix) -> Arrays:
    """Return the arrays of an explanation.

    Args:
        fitted: Trees, a card, or a weighted sum.
        encoding: What its inputs are.
        matrix: Inputs of training rows, which say what is usual.

    Returns:
        Arrays by name; `columns` says to which column of the table each input belongs.
    """
    place = {column.name: position for position, column in enumerate(encoding.columns)}
    columns = np.array([place[one.column.name] for one in encoding.inputs], dtype=np.int32)
    arrays = of_trees(fitted, matrix) if isinstance(fitted, Trees) else of_card(_as_card(fitted), matrix)
    return {"columns": columns, **arrays}


def _as_card(fitted: Card | Weighted) -> Card:
    """Write a weighted sum as a card: a number in standard deviations, cut off at both ends, is a ramp."""
    if isinstance(fitted, Card):
        return fitted
    weights = fitted.head.weights.astype(np.float64)
    base = fitted.head.bias.astype(np.float64)
    terms, scaled = [], weights.copy()
    for position, one in enumerate(fitted.features):
        if one.is_missing or one.code is not None:
            terms.append(Term(one.input, code=-1 if one.code is None else one.code, is_missing=one.is_missing))
            scaled[position] /= float(fitted.scales[position])  # of what is 0 or 1 here
            continue
        mean, spread = float(fitted.means[position]), MOST_SPREAD * float(fitted.scales[position])
        terms.append(Term(one.input, mean - spread, mean + spread, 0.5))
        scaled[position] *= 2 * MOST_SPREAD
        base = base - MOST_SPREAD * weights[position]
    return Card(tuple(terms), scaled, base, fitted.n_inputs)


def of_card(card: Card, matrix: Matrix) -> Arrays:
    """Return terms, their weights and their means over some rows."""
    terms = [(one.input, one.low, one.high, one.fill, one.code, one.is_missing) for one in card.terms]
    means = expand_terms(matrix, card.terms).mean(axis=0) if len(matrix) else np.zeros(len(terms))
    return {
        "terms": np.array(terms, dtype=np.float64).reshape(-1, 6),
        "weights": card.weights.reshape(len(terms), -1),
        "base": card.base,
        "means": means,
    }


def of_trees(trees: Trees, matrix: Matrix) -> Arrays:
    """Return the nodes, each with the question that leads to it and the share of rows that took this way.

    Args:
        trees: The trees.
        matrix: Inputs of some training rows.

    Returns:
        Arrays of the nodes, level by level, roots first; `leaves` are those that add `weights` to the scores.
    """
    nodes = trees.nodes[np.lexsort((trees.nodes[:, 1], trees.nodes[:, 0]))]
    first = np.searchsorted(nodes[:, 0], nodes[:, 0])  # where the tree of a node begins
    yes, no = first + nodes[:, 5].astype(np.int64), first + nodes[:, 6].astype(np.int64)
    levels = _levels(nodes, yes, no)
    counts = _counts(nodes, yes, no, levels[0], matrix)
    order = np.concatenate(levels)
    place = np.empty(len(nodes), dtype=np.int64)
    place[order] = np.arange(len(order))
    parent = np.full(len(nodes), -1)
    splits = np.flatnonzero(nodes[:, 3] != LEAF)
    parent[yes[splits]], parent[no[splits]] = splits, splits
    above = np.where(parent[order] >= 0, parent[order], order)
    # Of a node that no row came to, either side is as likely.
    ratio = np.divide(counts[order], counts[above], out=np.full(len(order), 0.5), where=counts[above] > 0)
    leaves = np.flatnonzero(nodes[order, 3] == LEAF)
    weights = np.zeros((len(nodes), trees.n_targets))
    tree, number, target, weight = trees.leaves.T
    begins = np.searchsorted(nodes[:, 0], tree)
    np.add.at(weights, (begins + number.astype(np.int64), target.astype(np.int64)), weight)
    return {
        "parent": np.where(parent[order] >= 0, place[above], 0).astype(np.int32),
        "input": nodes[above, 2].astype(np.int32),
        "value": nodes[above, 4].astype(np.float32),
        "is_code": nodes[above, 3] == IS_CODE,
        "on_yes": yes[above] == order,
        "missing_yes": nodes[above, 7] > 0,
        "ratio": ratio.astype(np.float32),
        "levels": np.cumsum([0, *(len(level) for level in levels)]).astype(np.int64),
        "leaves": leaves.astype(np.int32),
        "weights": weights[order[leaves]].astype(np.float32),
    }


def _levels(nodes: NDArray[np.float64], yes: NDArray[np.int64], no: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the positions of all roots, of all nodes below them, and so on."""
    levels = [np.flatnonzero(nodes[:, 1] == 0)]
    while True:
        splits = levels[-1][nodes[levels[-1], 3] != LEAF]
        if not len(splits):
            return levels
        levels.append(np.concatenate([yes[splits], no[splits]]))


def _counts(
    nodes: NDArray[np.float64], yes: NDArray[np.int64], no: NDArray[np.int64], roots: NDArray[np.int64], matrix: Matrix
) -> NDArray[np.float64]:
    """Return how many of some rows come to each node."""
    counts = np.zeros(len(nodes))
    inputs, modes, missing_yes = nodes[:, 2].astype(np.int64), nodes[:, 3], nodes[:, 7] > 0
    values = nodes[:, 4].astype(np.float32)
    for start in range(0, len(matrix), 500):
        some = matrix[start : start + 500]
        at, rows = np.tile(roots, len(some)), np.repeat(np.arange(len(some)), len(roots))
        while len(at):
            counts += np.bincount(at, minlength=len(nodes))
            rows, at = rows[modes[at] != LEAF], at[modes[at] != LEAF]
            cells = some[rows, inputs[at]]
            goes = np.where(modes[at] == IS_CODE, cells == values[at], cells <= values[at])
            at = np.where(np.where(np.isnan(cells), missing_yes[at], goes), yes[at], no[at])
    return counts
