"""Explainable boosting: a curve for each column and a few for pairs, which add up to the answer and can be read.

Lou, Caruana, Gehrke and Hooker, "Accurate Intelligible Models with Pairwise Interactions", KDD 2013; the library is
`interpret` (Nori et al., 2019, arXiv:1909.09223).
"""

import warnings
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from factory.students.tables.base import MOST_CHECKED, TableStudent, spread_out, targets_and_base
from factory.students.tables.encoding import Input, Matrix
from factory.students.tables.targets import Answers
from factory.students.tables.trees import AT_MOST, IS_CODE, Leaf, Node, Split, Trees, below

MISSING = 0
"""Bin of what is missing; the last bin is for what is unknown."""
GREATEST = float(np.finfo(np.float32).max)
"""At least as large as every known number."""


@dataclass(config=ConfigDict(extra="forbid"))
class TableEBM(TableStudent):
    """An explainable boosting machine."""

    fitted_type: ClassVar[Any] = Trees

    interactions: Annotated[int, Field(ge=0, le=200)] = 10
    """Pairs of columns with a curve of their own."""
    bins: Annotated[int, Field(ge=2, le=1024)] = 256
    """Steps of a curve at most."""
    outer_bags: Annotated[int, Field(ge=1, le=100)] = 8
    """Models that are averaged."""
    most_rows: Annotated[int, Field(ge=100)] = 100_000
    """Training rows; of more, as many are drawn: a curve needs no million rows, and its time grows with them."""
    balanced: bool = False
    """Give every label the same total weight."""

    def learn(self, matrix: Matrix, inputs: tuple[Input, ...], answers: Answers, n_labels: int, *, seed: int) -> Trees:
        """Fit, and write each curve as a tree."""
        from interpret.glassbox import ExplainableBoostingClassifier, ExplainableBoostingRegressor

        signs = [one.sign for one in inputs]
        make = ExplainableBoostingClassifier if n_labels else ExplainableBoostingRegressor
        model = make(
            feature_types=["nominal" if one.is_category else "continuous" for one in inputs],
            interactions=self.interactions if len(inputs) > 1 else 0,
            max_bins=self.bins,
            max_interaction_bins=16,
            outer_bags=self.outer_bags,
            monotone_constraints=signs if any(signs) else None,
            random_state=seed,
            n_jobs=1,
        )
        drawn = _draw(len(answers.rows), self.most_rows, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own plots, which we do not draw
            model.fit(
                matrix[answers.rows[drawn]].astype(np.float64),
                answers.values[drawn].astype(np.int64) if n_labels else answers.values[drawn],
                sample_weight=answers.weights[drawn],
            )
            some = matrix[:MOST_CHECKED]
            raw = _raw(model, some.astype(np.float64), n_labels)
        classes = np.unique(answers.values)
        trees = _read(model, inputs, classes, n_labels)
        trees.check(some, spread_out(raw, classes, n_labels), "ebm")
        return trees


def _draw(n_rows: int, most: int, seed: int) -> NDArray[np.intp]:
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, most, replace=False))


def _raw(model: Any, rows: NDArray[np.float64], n_labels: int) -> NDArray[np.float64]:
    return np.asarray(model.decision_function(rows) if n_labels else model.predict(rows))


def _read(model: Any, inputs: Sequence[Input], classes: NDArray[Any], n_labels: int) -> Trees:
    targets, base = targets_and_base(np.atleast_1d(np.asarray(model.intercept_, dtype=np.float64)), classes, n_labels)
    roots = []
    for members, scores in zip(model.term_features_, model.term_scores_, strict=True):
        # The last axis is that of the scores, of which two labels and numbers have one.
        table = scores if scores.ndim > len(members) else scores[..., None]
        bins = [model.bins_[member][min(len(members), len(model.bins_[member])) - 1] for member in members]
        roots.append(_term(list(members), bins, table, targets))
    return Trees.of(roots, base, len(inputs))


def _term(members: list[int], bins: list[Any], scores: NDArray[np.float64], targets: Sequence[int]) -> Node:
    """Write a table of scores as a tree: first the steps of the first input, below them those of the next."""
    if not members:
        return Leaf(tuple(zip(targets, scores.ravel().tolist(), strict=True)))
    tables = [_term(members[1:], bins[1:], part, targets) for part in scores]
    if isinstance(bins[0], dict):
        return _of_codes(members[0], bins[0], tables)
    return _of_steps(members[0], list(bins[0]), tables[1:-1], tables[MISSING])


def _of_codes(member: int, bins: dict[str, int], tables: list[Node]) -> Node:
    # A code that is in no bin was too rare to learn, and has the last table.
    rare, missing = tables[-1], tables[MISSING]
    node = rare if rare == missing else Split(member, AT_MOST, GREATEST, rare, missing, missing_yes=False)
    for code, position in bins.items():
        node = Split(member, IS_CODE, float(code), tables[position], node, missing_yes=False)
    return node


def _of_steps(member: int, cuts: list[float], tables: list[Node], missing: Node) -> Node:
    """Search the step by halves; a value at a cut belongs to the step above it."""
    known = _halved(member, cuts, tables)
    return known if known == missing else Split(member, AT_MOST, GREATEST, known, missing, missing_yes=False)


def _halved(member: int, cuts: list[float], tables: list[Node]) -> Node:
    if not cuts:
        return tables[0]
    middle = len(cuts) // 2
    low = _halved(member, cuts[:middle], tables[: middle + 1])
    high = _halved(member, cuts[middle + 1 :], tables[middle + 1 :])
    return low if low == high else Split(member, AT_MOST, below(cuts[middle]), low, high, missing_yes=False)
