"""Logistic or ridge regression: the plain model that others must beat, and the best one for a few dozen rows."""

from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from factory.students.linear import LinearHead, choose, fit_head
from factory.students.tables.base import TableStudent
from factory.students.tables.encoding import Input, Matrix
from factory.students.tables.features import Feature, choose_features, expand, signs_of
from factory.students.tables.targets import Answers, drawn
from factory.students.tables.trees import make_model
from factory.students.targets import Targets

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Inverse L2 penalties to choose from."""
PENALTIES = tuple(float(one) for one in np.logspace(-3, 3, 13))
MOST_SPREAD = 8.0
"""Standard deviations from the mean at which a number stops counting for more."""
LEAST_VARIANCE = 0.1
"""Added to that of yes and no, so that what is hardly ever seen is not blown up: docs/log.md, 2026-11-28."""


@plain_dataclass(frozen=True)
class Weighted:
    """A weighted sum of features: numbers less their mean, and yes or no for categories, in standard deviations."""

    features: tuple[Feature, ...]
    means: NDArray[np.float64]
    """Shape (n_features,); what stands for a missing number. 0 for yes or no."""
    scales: NDArray[np.float64]
    """Shape (n_features,); of yes or no a little more than their standard deviation."""
    head: LinearHead
    n_inputs: int

    def standard(self, matrix: Matrix) -> NDArray[np.float64]:
        """Return the features as the weights take them, shape (n_rows, n_features)."""
        expanded = expand(matrix, self.features).astype(np.float64)
        filled = np.where(np.isnan(expanded), self.means, expanded)
        return np.clip((filled - self.means) / self.scales, -MOST_SPREAD, MOST_SPREAD)

    def scores(self, matrix: Matrix) -> NDArray[np.float64]:
        """Return the sums for some rows, shape (n_rows, n_targets)."""
        return np.asarray(self.standard(matrix) @ self.head.weights.astype(np.float64)) + self.head.bias

    def save(self, path: Path) -> None:
        """Write an npz file."""
        features = [(one.input, -1 if one.code is None else one.code, one.is_missing) for one in self.features]
        np.savez(
            path,
            features=np.array(features, dtype=np.int64),
            means=self.means,
            scales=self.scales,
            weights=self.head.weights,
            bias=self.head.bias,
            n_inputs=np.array(self.n_inputs),
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as saved:
            features = tuple(
                Feature(int(position), None if code < 0 else int(code), bool(is_missing))
                for position, code, is_missing in saved["features"]
            )
            head = LinearHead(saved["weights"], saved["bias"])
            return cls(features, saved["means"], saved["scales"], head, int(saved["n_inputs"]))

    def model(self) -> Any:
        """Return the ONNX model: gather the input of each feature, make the feature of it, weigh and add."""
        from onnx import TensorProto, helper, numpy_helper

        codes = np.array([-1 if one.code is None else one.code for one in self.features], dtype=np.float32)
        constants = {
            "positions": np.array([one.input for one in self.features], dtype=np.int64),
            "codes": codes,
            "is_code": codes >= 0,
            "is_missing": np.array([one.is_missing for one in self.features]),
            "means": self.means.astype(np.float32),
            "scales": self.scales.astype(np.float32),
            "least": np.array(-MOST_SPREAD, dtype=np.float32),
            "greatest": np.array(MOST_SPREAD, dtype=np.float32),
            "weights": self.head.weights,
            "bias": self.head.bias,
        }
        nodes = [
            helper.make_node("Gather", ["cells", "positions"], ["found"], axis=1),
            helper.make_node("IsNaN", ["found"], ["unknown"]),
            helper.make_node("Cast", ["unknown"], ["as_missing"], to=TensorProto.FLOAT),
            helper.make_node("Equal", ["found", "codes"], ["equal"]),
            helper.make_node("Cast", ["equal"], ["as_code"], to=TensorProto.FLOAT),
            helper.make_node("Where", ["unknown", "means", "found"], ["as_number"]),
            helper.make_node("Where", ["is_code", "as_code", "as_number"], ["one_of_two"]),
            helper.make_node("Where", ["is_missing", "as_missing", "one_of_two"], ["features"]),
            helper.make_node("Sub", ["features", "means"], ["centred"]),
            helper.make_node("Div", ["centred", "scales"], ["scaled"]),
            helper.make_node("Clip", ["scaled", "least", "greatest"], ["standard"]),
            helper.make_node("Gemm", ["standard", "weights", "bias"], ["logits"]),
        ]
        return make_model(
            nodes,
            helper.make_tensor_value_info("cells", TensorProto.FLOAT, ["n", self.n_inputs]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(self.head.bias)]),
            [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
        )


@dataclass(config=ConfigDict(extra="forbid"))
class TableLinear(TableStudent):
    """Logistic regression, or ridge regression of a number; the penalty is chosen by cross-validation."""

    fitted_type: ClassVar[Any] = Weighted

    strength: Annotated[float, Field(gt=0)] | None = None
    """Inverse of the L2 penalty of a classification; null: chosen."""
    one_scale: bool = True
    """Bring yes and no of categories to the scale of numbers; else they are 0 and 1, held back three times as much."""
    balanced: bool = False
    """Give every label the same total weight."""
    most_rows: Annotated[int, Field(ge=100)] = 200_000
    """Training rows; of more, as many are drawn: weights of a hundred features are sure long before."""

    def learn(
        self, matrix: Matrix, inputs: tuple[Input, ...], answers: Answers, n_labels: int, *, seed: int
    ) -> Weighted:
        """Fit; a feature whose weight goes against `monotone` is left out, and the others are fitted again."""
        features = choose_features(matrix, inputs, missing=True)
        matrix, answers = drawn(matrix, answers, self.most_rows, seed)
        while True:
            fitted = self._fit(matrix, features, answers, n_labels, seed)
            against = _against(fitted.head, signs_of(features, inputs))
            if not against.any():
                return fitted
            kept = tuple(one for one, is_wrong in zip(features, against, strict=True) if not is_wrong)
            features = kept or (Feature(0, is_missing=True),)

    def _fit(self, matrix: Matrix, features: Sequence[Feature], answers: Answers, n_labels: int, seed: int) -> Weighted:
        expanded = expand(matrix, features).astype(np.float64)
        is_number = np.array([one.code is None and not one.is_missing for one in features])
        means = np.where(is_number, np.nan_to_num(np.nanmean(expanded, axis=0)), 0.0)
        spread = np.nan_to_num(np.nanstd(expanded, axis=0))
        of_flags = np.sqrt(np.square(spread) + LEAST_VARIANCE) if self.one_scale else 1.0
        scales = np.where(is_number & (spread > 0), spread, of_flags)
        blank = LinearHead(
            np.zeros((len(features), max(1, n_labels)), np.float32), np.zeros(max(1, n_labels), np.float32)
        )
        unfitted = Weighted(tuple(features), means, scales, blank, matrix.shape[1])
        standard = unfitted.standard(matrix)[answers.rows]
        if n_labels:
            head = self._fit_labels(standard, answers, n_labels, seed)
        else:
            head = _fit_number(standard, answers)
        return Weighted(tuple(features), means, scales, head, matrix.shape[1])

    def _fit_labels(self, standard: NDArray[np.float64], answers: Answers, n_labels: int, seed: int) -> LinearHead:
        columns = answers.values.astype(np.intp)
        targets = Targets(np.eye(n_labels)[columns], columns, answers.weights)

        def fit(strength: float, rows: NDArray[np.intp]) -> LinearHead:
            return fit_head(standard[rows], targets[rows], strength)

        strengths = STRENGTHS if self.strength is None else (self.strength,)
        return fit_head(standard, targets, choose(strengths, fit, standard, targets, seed=seed))


def _fit_number(standard: NDArray[np.float64], answers: Answers) -> LinearHead:
    from sklearn.linear_model import RidgeCV

    ridge = RidgeCV(alphas=PENALTIES).fit(standard, answers.values, sample_weight=answers.weights)
    weights = np.asarray(ridge.coef_, dtype=np.float32)[:, None]
    return LinearHead(weights, np.array([ridge.intercept_], dtype=np.float32))


def _against(head: LinearHead, signs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which features push the last label, or the number, the way the spec excludes."""
    last = head.weights[:, -1].astype(np.float64)
    return np.asarray(last * signs < 0)
