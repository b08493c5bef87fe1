"""Inputs as trees and weights want them: a category becomes a yes or no for each of its frequent values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from factory.students.tables.encoding import Input, Matrix

MOST_YES_NO = 64
"""Values of a category that get a feature of their own; the others share none."""
LEAST_ROWS = 2
"""Rows a value needs for a feature of its own."""


@dataclass(frozen=True)
class Feature:
    """A number made of one input: the input itself, whether it is a certain code, or whether it is missing."""

    input: int
    code: int | None = None
    is_missing: bool = False

    def of(self, matrix: Matrix) -> Matrix:
        """Return the feature of some rows, shape (n_rows,)."""
        column = matrix[:, self.input]
        if self.is_missing:
            return np.isnan(column).astype(np.float32)
        return column if self.code is None else (column == self.code).astype(np.float32)


def choose_features(matrix: Matrix, inputs: Sequence[Input], *, missing: bool) -> tuple[Feature, ...]:
    """Choose the features that some rows can teach.

    Args:
        matrix: Inputs of the training rows.
        inputs: What they are.
        missing: Whether a missing number is a feature of its own, for models that cannot take NaN; a missing category
            always is.

    Returns:
        The features; none for what never varies.
    """
    found: list[Feature] = []
    for position, one in enumerate(inputs):
        column = matrix[:, position]
        unknown = np.isnan(column)
        if one.is_category:
            counts = np.bincount(column[~unknown].astype(np.int64), minlength=len(one.values))
            frequent = np.argsort(-counts, kind="stable")[:MOST_YES_NO]
            codes = sorted(int(code) for code in frequent if counts[code] >= LEAST_ROWS)
            # Of two values that are all there is, one says what the other does.
            known = codes[1:] if len(codes) == 2 == len(one.values) and not unknown.any() else codes
            found += [Feature(position, code) for code in known]
        elif np.nanmin(column, initial=np.inf) < np.nanmax(column, initial=-np.inf) or (
            not missing and unknown.any() and not unknown.all()
        ):
            found.append(Feature(position))
        if (missing or one.is_category) and unknown.any() and not unknown.all():
            found.append(Feature(position, is_missing=True))
    return tuple(found) or (Feature(0, is_missing=True),)


def expand(matrix: Matrix, features: Sequence[Feature]) -> Matrix:
    """Return the features of some rows, shape (n_rows, n_features)."""
    expanded = np.empty((len(matrix), len(features)), dtype=np.float32)
    for position, feature in enumerate(features):
        expanded[:, position] = feature.of(matrix)
    return expanded


def signs_of(features: Sequence[Feature], inputs: Sequence[Input]) -> NDArray[np.int64]:
    """Return for each feature which way the answer may go with it: 1 up only, -1 down only, 0 both."""
    signs = [inputs[one.input].sign if one.code is None and not one.is_missing else 0 for one in features]
    return np.array(signs, dtype=np.int64)
