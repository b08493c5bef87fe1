"""Are the texts of production still like those a model was judged on? Three tests, each by permutation.

    labels        the counts of answers: chi-square of two samples; with labelled reference rows, what share each label
                  really has now (Lipton et al., "Detecting and Correcting for Label Shift with Black Box Predictors",
                  ICML 2018, arXiv:1802.03916)
    confidence    the probabilities of the answers: Kolmogorov and Smirnov's two-sample test
    texts         vectors of an encoder: maximum mean discrepancy with a Gaussian kernel whose width is the median
                  distance (Gretton et al., "A Kernel Two-Sample Test", JMLR 13, 2012)

Drift is found when a p-value, times the number of tests (Bonferroni), is at most `alpha`. Samples are bounded, so that
a harmless difference does not become significant by the mere number of texts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from factory.errors import FactoryError
from factory.evaluation.metrics import Columns, Proba
from factory.evaluation.result import Number, Part
from factory.spec import Model

Vectors = NDArray[np.float32]
LEAST_ROWS = 30
"""Of either side: below, no test says anything."""
WORST_CONDITION = 100.0
"""Of the confusion matrix: above, its inverse makes noise of the answers."""
N_TESTS = 3
N_POINTS = 300
"""Of each side in the plot."""


class DriftParams(Model):
    """How to test."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Chance of an alarm where nothing has changed."""
    n_permutations: Annotated[int, Field(ge=99)] = 999
    most_rows: Annotated[int, Field(ge=LEAST_ROWS)] = 1000
    """Drawn from either side."""
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _can_alarm(self) -> Self:
        """The smallest p-value of a permutation test is one in one more than the permutations."""
        least = math.ceil(N_TESTS / self.alpha) - 1
        if self.n_permutations < least:
            raise ValueError(
                f"expected at least {least} permutations for alpha {self.alpha:g}, got {self.n_permutations}"
            )
        return self


class Test(Part):
    """One test."""

    __test__ = False  # not pytest's

    name: str
    what: str
    statistic: Number
    p: Number


class LabelShare(Part):
    """One label on both sides, as shares of all rows."""

    label: str
    reference: Number
    """Of the answers to the reference rows."""
    production: Number
    """Of the answers to the texts of production."""
    estimated: Number | None
    """What share of production has this label in truth; null where it cannot be estimated."""
    estimated_reference: Number | None
    """The same of the reference rows, where it is known."""


class Drift(Part):
    """What the tests say."""

    n_reference: int
    n_production: int
    """Rows that were tested, after drawing."""
    alpha: float
    tests: tuple[Test, ...]
    labels: tuple[LabelShare, ...]
    points: tuple[tuple[Number, Number, bool], ...]
    """Texts in the plane of the two main directions of both sides; whether each is of production."""
    top: tuple[tuple[Number, bool], ...]
    """Probabilities of the answers, of the same texts."""

    @property
    def found(self) -> tuple[Test, ...]:
        """The tests that find drift."""
        return tuple(test for test in self.tests if test.p * len(self.tests) <= self.alpha)

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        rows = f"{self.n_production:,} texts of production and {self.n_reference:,} reference texts"
        if not self.found:
            return f"no drift is shown by {rows}"
        names = ", ".join(f"{test.name} (p = {test.p:.3g})" for test in self.found)
        return f"drift: {names}; {rows}"


@dataclass(frozen=True)
class Side:
    """Rows of one side: what the model says to them, and where their texts are."""

    proba: Proba
    """Shape (n_rows, n_labels)."""
    vectors: Vectors
    """Shape (n_rows, n_dimensions), of unit length."""
    gold: Columns | None = None
    """Columns of the right labels, where they are known."""

    def draw(self, n: int, rng: np.random.Generator) -> "Side":
        """Return at most `n` rows, drawn without replacement."""
        at = np.sort(rng.choice(len(self.proba), size=min(n, len(self.proba)), replace=False))
        gold = None if self.gold is None else self.gold[at]
        return Side(self.proba[at], self.vectors[at], gold)


def find_drift(params: DriftParams, *, labels: Sequence[str], reference: Side, production: Side) -> Drift:
    """Compare the two sides.

    Args:
        params: How to test.
        labels: Of the columns.
        reference: Rows that are as the model's makers knew them; not those it was trained on, if there are others.
        production: Rows of today.

    Returns:
        Tests and shares; the same input gives the same numbers.

    Raises:
        FactoryError: A side has fewer than `LEAST_ROWS` rows.
    """
    for name, side, remedy in (
        ("production", production, "let the log grow, then run the same command again"),
        ("reference", reference, "give the task a larger holdout, and build it again"),
    ):
        if len(side.proba) < LEAST_ROWS:
            found = f"watch: expected at least {LEAST_ROWS} {name} texts, got {len(side.proba)}"
            raise FactoryError(found, hint=remedy)
    rng = np.random.default_rng(params.seed)
    ours, theirs = reference.draw(params.most_rows, rng), production.draw(params.most_rows, rng)
    answers = ours.proba.argmax(axis=1), theirs.proba.argmax(axis=1)
    top = ours.proba.max(axis=1), theirs.proba.max(axis=1)
    return Drift(
        n_reference=len(ours.proba),
        n_production=len(theirs.proba),
        alpha=params.alpha,
        tests=(
            _label_test(*answers, len(labels), params, rng),
            _confidence_test(*top),
            _text_test(ours.vectors, theirs.vectors, params, rng),
        ),
        labels=_shares(labels, ours, answers),
        points=_points(ours.vectors, theirs.vectors),
        top=tuple(
            (float(value), late) for side, late in zip(top, (False, True), strict=True) for value in side[:N_POINTS]
        ),
    )


def label_shift(confusion: NDArray[np.float64], answered: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Estimate what share of production each label has, from how the model answers and how it confuses.

    Args:
        confusion: Shape (n_labels, n_labels): share of reference rows answered as the row and gold as the column; sums
            to 1.
        answered: Share of production rows with each answer, shape (n_labels,).

    Returns:
        Shares that sum to 1; None when the model confuses too much to tell, or a label has no reference rows.
    """
    gold = confusion.sum(axis=0)
    if (gold == 0).any():
        return None
    given = confusion / gold
    if np.linalg.cond(given) > WORST_CONDITION:
        return None
    shares = np.clip(np.linalg.solve(given, answered), 0, None)
    return np.asarray(shares / shares.sum())


def _shares(labels: Sequence[str], reference: Side, answers: tuple[Columns, Columns]) -> tuple[LabelShare, ...]:
    n = len(labels)
    ours, theirs = (np.bincount(side, minlength=n) / len(side) for side in answers)
    estimated = known = None
    if reference.gold is not None:
        confusion = np.zeros((n, n))
        np.add.at(confusion, (answers[0], reference.gold), 1 / len(reference.gold))
        estimated, known = label_shift(confusion, theirs), confusion.sum(axis=0)
    return tuple(
        LabelShare(
            label=label,
            reference=ours[at],
            production=theirs[at],
            estimated=None if estimated is None else float(estimated[at]),
            estimated_reference=None if known is None else float(known[at]),
        )
        for at, label in enumerate(labels)
    )


def _label_test(ours: Columns, theirs: Columns, n: int, params: DriftParams, rng: np.random.Generator) -> Test:
    """Compare counts with what they would be if who is who were drawn: exact for rare labels too."""
    counts = np.stack([np.bincount(side, minlength=n) for side in (ours, theirs)])
    counts = counts[:, counts.sum(axis=0) > 0]
    total = counts.sum(axis=0)
    expected = len(ours) * total / total.sum()

    def chi_square(first: NDArray[Any]) -> NDArray[np.float64]:
        # The second row differs from its expectation by as much, in the other direction.
        away = (first - expected) ** 2
        return np.asarray((away / expected + away / (total - expected)).sum(axis=-1))

    found = float(chi_square(counts[0]))
    drawn = chi_square(rng.multivariate_hypergeometric(total, len(ours), size=params.n_permutations))
    return Test(name="labels", what="chi-square of the counts of answers", statistic=found, p=_p(found, drawn))


def _confidence_test(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Test:
    from scipy.stats import ks_2samp

    found = ks_2samp(ours, theirs, method="asymp")
    what = "largest distance of the distributions of probability (Kolmogorov-Smirnov)"
    return Test(name="confidence", what=what, statistic=float(found.statistic), p=float(found.pvalue))


def _text_test(ours: Vectors, theirs: Vectors, params: DriftParams, rng: np.random.Generator) -> Test:
    both = np.concatenate([ours, theirs]).astype(np.float64)
    squared = np.clip(2 - 2 * both @ both.T, 0, None)  # of vectors of unit length
    width = float(np.median(squared[np.triu_indices(len(both), 1)])) or 1.0
    kernel = np.exp(-squared / width)
    np.fill_diagonal(kernel, 0)
    n, m = len(ours), len(theirs)
    signs = np.empty((len(both), params.n_permutations + 1))
    signs[:, 0] = np.arange(len(both)) < n
    for column in range(1, signs.shape[1]):
        signs[:, column] = rng.permutation(signs[:, 0])
    # Sums of the kernel inside the first side, inside both, and in all; what is left lies between them.
    products = kernel @ signs
    inside, touched, whole = (signs * products).sum(axis=0), products.sum(axis=0), kernel.sum()
    between = touched - inside
    within = inside / (n * (n - 1)) + (whole - 2 * touched + inside) / (m * (m - 1))
    values = within - 2 * between / (n * m)
    what = "squared maximum mean discrepancy of the texts' vectors, unbiased"
    return Test(name="texts", what=what, statistic=float(values[0]), p=_p(float(values[0]), values[1:]))


def _p(found: float, drawn: NDArray[np.float64]) -> float:
    """Return the share of draws at least as far out, the found one among them: never 0."""
    return float((1 + (drawn >= found - 1e-12).sum()) / (1 + len(drawn)))


def _points(ours: Vectors, theirs: Vectors) -> tuple[tuple[float, float, bool], ...]:
    """Return the first texts of either side in the plane where both together vary most."""
    both = np.concatenate([ours, theirs]).astype(np.float64)
    _, _, directions = np.linalg.svd(both - both.mean(axis=0), full_matrices=False)
    plane = (both - both.mean(axis=0)) @ directions[:2].T
    if plane.shape[1] < 2:
        plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    plane = plane / (np.abs(plane).max(axis=0) + 1e-12)
    shown = [*range(min(N_POINTS, len(ours))), *range(len(ours), len(ours) + min(N_POINTS, len(theirs)))]
    return tuple((float(plane[at, 0]), float(plane[at, 1]), at >= len(ours)) for at in shown)
