"""`scorecard`: curves that the teacher believes in, moved by rows where there are some.

Without rows the card is the priors alone (`factory.tables.priors`). With rows it is an additive model whose most likely
weights are looked for: each column's curve has one weight, expected to be the same for all columns, and columns have
weights of their own besides, expected to be 0. What the teacher says of a column so becomes one number that has its
meaning already, where yes or no for each value would need rows to find it; what it says wrong, rows overrule: a wrong
curve gets a weight below 0. And the same without any curve is mixed in as far as it foretells unseen rows better
(`factory.students.tables.believing`). Few rows judge such features better than the raw columns, as with the rules of
Han et al., "Large Language Models Can Automatically Engineer Features for Few-Shot Tabular Learning", ICML 2024,
arXiv:2404.09491.
"""

from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from factory.errors import FactoryError
from factory.records_table import cells_of
from factory.spec_table import ColumnKind, Table
from factory.students.tables.base import TableStudent
from factory.students.tables.believing import Expected, believed_as_far_as_rows_say
from factory.students.tables.card import Card, Term, expand_terms
from factory.students.tables.encoding import Encoding, Input, Matrix
from factory.students.tables.features import choose_features
from factory.students.tables.linear import MOST_SPREAD
from factory.students.tables.targets import Answers, answers_of
from factory.tables.priors import LOWER_HIGHER, YES, Prior, Priors

if TYPE_CHECKING:
    from datasets import Dataset

MOST_TIMES = 2.0
LEAST_VARIANCE = 0.1
LEAST_SPREAD = 1e-6
"""Of a feature over the rows, for it to be scaled up."""


@plain_dataclass(frozen=True)
class Part:
    """Terms, and features made of them: `expand_terms(matrix, terms) @ mix + shift`."""

    terms: tuple[Term, ...]
    mix: NDArray[np.float64]
    """Shape (n_terms, n_features)."""
    shift: NDArray[np.float64]
    """Shape (n_features,)."""

    def of(self, matrix: Matrix) -> NDArray[np.float64]:
        """Return the features of some rows, shape (n_rows, n_features)."""
        return np.asarray(expand_terms(matrix, self.terms) @ self.mix + self.shift)

    def times(self, factors: NDArray[np.float64]) -> "Part":
        """Return the part with its features multiplied by a matrix."""
        return Part(self.terms, self.mix @ factors, self.shift @ factors)

    def card(self, weights: NDArray[np.float64], bias: NDArray[np.float64], n_inputs: int) -> Card:
        """Return the card that weighs the features."""
        return Card(self.terms, self.mix @ weights, self.shift @ weights + bias, n_inputs)


@dataclass(config=ConfigDict(extra="forbid"))
class Scorecard(TableStudent):
    """An additive card from the teacher's priors, for no rows, a few or many; a number needs a few."""

    fitted_type: ClassVar[Any] = Card

    priors: dict[str, Any] = field(default_factory=dict)
    """`Priors.as_json()`; empty: none, and the student is a logistic or ridge regression."""
    strength: Annotated[float, Field(gt=0)] = 0.1
    """Variance that the weights of columns are expected to have: the inverse of an L2 penalty."""
    trust: Annotated[float, Field(ge=0)] = 0.5
    """Expected weight of all curves together, scaled to spread 1; all four are of logits (see `believing`)."""
    doubt: Annotated[float, Field(gt=0)] = 0.3
    """Standard deviation of that weight."""
    column_doubt: Annotated[float, Field(gt=0)] = 0.5
    """Standard deviation of what one column's weight differs from it."""
    balanced: bool = False
    """Give every label the same total weight."""

    def fit(self, rows: "Dataset", table: Table, *, seed: int) -> Self:
        """Learn from rows of a table, of which there may be none; calling it again forgets."""
        self._require_fit_for(table)
        cells = cells_of(rows)
        self.encoding_ = self._encoding(Encoding.fit(cells, table.columns))
        inputs, n_labels = self.encoding_.inputs, len(table.labels)
        if not len(rows) and not self._known():
            raise FactoryError(
                "scorecard: there is nothing to learn from: no rows, and no column that the teacher could judge",
                hint="label some rows, or describe columns and labels in words and give ranges and values",
            )
        if len(rows) or not n_labels:
            answers = answers_of(rows, table, balanced=self.balanced)
            self.fitted_ = self.learn(self.encoding_.matrix(cells), inputs, answers, n_labels, seed=seed)
        else:
            believed = joined(self._believed(inputs, n_labels), added=True)
            self.fitted_ = believed.card(np.eye(n_labels), np.zeros(n_labels), len(inputs))
        self.labels_ = table.label_names
        return self

    def learn(self, matrix: Matrix, inputs: tuple[Input, ...], answers: Answers, n_labels: int, *, seed: int) -> Card:
        """Fit the weights of the curves and of the columns."""
        own = evened(
            joined([part for position, one in enumerate(inputs) for part in plain(matrix, position, one)]), matrix
        )
        curves = self._scaled_curves(matrix, inputs, n_labels)
        n_targets = max(1, n_labels)
        shared = np.zeros((len(matrix), len(curves), n_targets))
        for position, part in enumerate(curves):
            shared[:, position] = part.of(matrix)
        expected = Expected(self.trust, self.doubt, self.column_doubt, self.strength)
        seen = (shared[answers.rows], own.of(matrix)[answers.rows])
        weights = believed_as_far_as_rows_say(*seen, answers, n_labels, expected, seed=seed)
        believed = [part.times(np.eye(n_targets) * one) for part, one in zip(curves, weights.curves, strict=True)]
        together = joined([*believed, own])
        summed = np.vstack([*[np.eye(n_targets)] * len(believed), weights.own])
        return together.card(summed, weights.bias, len(inputs))

    def _scaled_curves(self, matrix: Matrix, inputs: Sequence[Input], n_labels: int) -> list[Part]:
        """Return the curves with a sum of spread 1 over some rows, half to each side where there are two labels."""
        curves = self._believed(inputs, n_labels)
        if not curves:
            return []
        found = joined(curves, added=True).of(matrix)
        spread = float((found - found.mean(axis=1, keepdims=True) if n_labels > 1 else found).std(axis=0).mean())
        spread *= 2 if n_labels == 2 else 1
        return [part.times(np.eye(max(1, n_labels)) / max(spread, LEAST_SPREAD)) for part in curves]

    def _require_fit_for(self, table: Table) -> None:
        expected = table.label_names or LOWER_HIGHER
        told = tuple(self.priors["labels"]) if self.priors else expected
        bound = [column.name for column in table.columns if column.monotone is not None]
        if bound:
            raise FactoryError(
                f"scorecard: cannot keep to `monotone`, which the spec wants of {', '.join(bound)}",
                hint="take `linear`, `ebm` or a tree, or take `monotone` out of the columns",
            )
        if told != expected:
            raise FactoryError(
                f"scorecard: priors are about the labels {', '.join(told)}, expected {', '.join(expected)}",
                hint="let the teacher judge the columns again",
            )

    def _encoding(self, learned: Encoding) -> Encoding:
        """Add the values that the priors know and no row has."""
        values = dict(learned.values)
        for prior in self._known():
            if prior.column in values:
                told = [str(point) for point in prior.points]
                values[prior.column] = (
                    *values[prior.column],
                    *(one for one in told if one not in values[prior.column]),
                )
        return Encoding(learned.columns, values)

    def _known(self) -> tuple[Prior, ...]:
        found = Priors.from_json(self.priors).priors if self.priors else ()
        return tuple(prior for prior in found if prior.weight > 0)

    def _believed(self, inputs: Sequence[Input], n_labels: int) -> list[Part]:
        """Return the curve of each column that the teacher could judge, a logit a label or one of `higher`."""
        by_column = {prior.column: prior for prior in self._known()}
        judged = [(position, one, by_column[one.name]) for position, one in enumerate(inputs) if one.name in by_column]
        factors = loudness([prior for _, _, prior in judged], [one.column.kind.is_number for _, one, _ in judged])
        # Columns tell much of the same: their logits are not added up as if each were news of its own.
        shares = factors / max(1, len(judged)) ** 0.5
        sides = np.eye(n_labels) if n_labels else np.array([[-1.0], [1.0]])
        return [
            curve(position, one, prior, len(sides)).times(sides * share)
            for (position, one, prior), share in zip(judged, shares, strict=True)
        ]


def evened(part: Part, matrix: Matrix) -> Part:
    """Return the part with features of about the same spread, so that one penalty treats yes and no like numbers.

    A value that hardly any row has is scaled up no further than `LEAST_VARIANCE` allows: of it rows tell little.
    """
    return part.times(np.diag(1 / np.sqrt(part.of(matrix).var(axis=0) + LEAST_VARIANCE)))


def joined(parts: Sequence[Part], *, added: bool = False) -> Part:
    """Put parts side by side, or add their features up."""
    terms = tuple(term for part in parts for term in part.terms)
    if not parts:
        return Part((Term(0, is_missing=True),), np.zeros((1, 1)), np.zeros(1))
    if added:
        return Part(terms, np.vstack([part.mix for part in parts]), np.sum([part.shift for part in parts], axis=0))
    mix = np.zeros((len(terms), sum(len(part.shift) for part in parts)))
    row = column = 0
    for part in parts:
        n_terms, n_features = part.mix.shape
        mix[row : row + n_terms, column : column + n_features] = part.mix
        row, column = row + n_terms, column + n_features
    return Part(terms, mix, np.concatenate([part.shift for part in parts]))


def loudness(priors: Sequence[Prior], are_numbers: Sequence[bool]) -> NDArray[np.float64]:
    """Return by what the curve of each column is multiplied, so that no way of speaking drowns the others.

    A weak teacher exaggerates some columns: none counts for more than `MOST_TIMES` the middle one of its kind. And it
    hears words far better than digits: numbers together are made as loud as words together, never softer.

    Args:
        priors: Of the columns, none of them flat.
        are_numbers: Whether each is of numbers.

    Returns:
        Shape (n_columns,).
    """
    sizes = np.array([prior.weight * float(np.sqrt(np.mean(np.square(prior.effects)))) for prior in priors])
    is_number = np.array(are_numbers, dtype=bool)
    factors = np.ones(len(sizes))
    kinds = [kind for kind in (is_number, ~is_number) if kind.any()]
    for kind in kinds:
        factors[kind] = np.minimum(1.0, MOST_TIMES * np.median(sizes[kind]) / sizes[kind])
    if len(kinds) == 2:
        numbers, words = (np.sqrt(np.mean((sizes * factors)[kind] ** 2)) for kind in kinds)
        factors[is_number] *= max(1.0, words / numbers)
    return factors


def curve(position: int, one: Input, prior: Prior, n_labels: int) -> Part:
    """Return the logits that a prior gives to the cells of a column; 0 on average over its points and for missing ones.

    Args:
        position: Of the input in the matrix.
        one: The input.
        prior: What is believed of its column.
        n_labels: Columns of the effects.

    Returns:
        A part with one feature a label.
    """
    effects = np.array(prior.effects).reshape(-1, n_labels) * prior.weight
    if one.is_category:
        codes = [one.values.index(str(point)) for point in prior.points]
        return Part(tuple(Term(position, code=code) for code in codes), effects, np.zeros(n_labels))
    numbers = np.array([_number(one, point) for point in prior.points])
    lows, highs = numbers[:-1], numbers[1:]
    ramps = np.clip((numbers[:, None] - lows) / (highs - lows), 0.0, 1.0)
    terms = tuple(
        Term(position, float(low), float(high), float(fill))
        for low, high, fill in zip(lows, highs, ramps.mean(axis=0), strict=True)
    )
    return Part(terms, np.diff(effects, axis=0), effects[0])


def _number(one: Input, point: float | str) -> float:
    if one.column.kind is ColumnKind.ORDINAL:
        return float(one.column.values.index(str(point)))
    return float(point == YES) if one.column.kind is ColumnKind.BOOLEAN else float(point)


def plain(matrix: Matrix, position: int, one: Input) -> list[Part]:
    """Return the features of one input by itself: a number in standard deviations, yes or no for categories."""
    found = []
    for feature in choose_features(matrix[:, [position]], [one], missing=True):
        column = matrix[:, position].astype(np.float64)
        known = column[~np.isnan(column)]
        if feature.is_missing:
            if 0 < len(known) < len(column):
                found.append(Part((Term(position, is_missing=True),), np.ones((1, 1)), np.zeros(1)))
        elif feature.code is not None:
            found.append(Part((Term(position, code=feature.code),), np.ones((1, 1)), np.zeros(1)))
        else:
            mean, spread = float(known.mean()), float(known.std())
            ramp = Term(position, mean - MOST_SPREAD * spread, mean + MOST_SPREAD * spread, 0.5)
            found.append(Part((ramp,), np.full((1, 1), 2 * MOST_SPREAD), np.full(1, -MOST_SPREAD)))
    return found
