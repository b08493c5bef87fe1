"""scikit-learn's gradient boosting on histograms, after LightGBM (Ke et al., NeurIPS 2017)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from factory.students.tables.base import FEW_ROWS, MOST_CHECKED, Range, TableStudent, spread_out, targets_and_base
from factory.students.tables.encoding import Input, Matrix
from factory.students.tables.features import Feature, choose_features, expand, signs_of
from factory.students.tables.targets import Answers
from factory.students.tables.trees import Leaf, Node, Trees, split_feature


@dataclass(config=ConfigDict(extra="forbid"))
class TableHistGradientBoosting(TableStudent):
    """Gradient boosting; hyperparameters that are null are searched for."""

    fitted_type: ClassVar[Any] = Trees
    space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(0.02, 0.2, log=True),
        "rounds": Range(40, 250, log=True, whole=True),
        "leaves": Range(4, 48, log=True, whole=True),
        "least_rows": Range(5, 60, log=True, whole=True),
        "penalty": Range(1e-3, 30.0, log=True),
    }

    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    rounds: Annotated[int, Field(ge=1, le=5_000)] | None = None
    leaves: Annotated[int, Field(ge=2, le=1_000)] | None = None
    """Most leaves of a tree."""
    least_rows: Annotated[int, Field(ge=1)] | None = None
    """Rows that a leaf needs."""
    penalty: Annotated[float, Field(ge=0)] | None = None
    """L2 penalty of leaves."""
    balanced: bool = False
    """Give every label the same total weight."""
    trials: Annotated[int, Field(ge=0, le=1_000)] = 8
    """Settings tried to find what is null; 0 takes the defaults."""

    defaults: ClassVar[Mapping[str, float]] = {
        "learning_rate": 0.06,
        "rounds": 100,
        "leaves": 16,
        "least_rows": 20,
        "penalty": 0.1,
    }

    def learn(self, matrix: Matrix, inputs: tuple[Input, ...], answers: Answers, n_labels: int, *, seed: int) -> Trees:
        """Fit, and read the trees."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

        features = choose_features(matrix, inputs, missing=False)
        expanded = expand(matrix, features)
        signs = signs_of(features, inputs)
        known = {name: getattr(self, name) or default for name, default in self.defaults.items()}
        make = HistGradientBoostingClassifier if n_labels else HistGradientBoostingRegressor
        model = make(
            learning_rate=known["learning_rate"],
            max_iter=int(known["rounds"]),
            max_leaf_nodes=int(known["leaves"]),
            min_samples_leaf=int(known["least_rows"]),
            l2_regularization=known["penalty"],
            monotonic_cst=signs if signs.any() else None,
            early_stopping=False,
            random_state=seed,
        )
        with threadpool_limits(limits=None if len(matrix) > FEW_ROWS else 1):
            model.fit(expanded[answers.rows], answers.values, sample_weight=answers.weights)
        trees = _read(model, features, n_labels, matrix.shape[1])
        some = expanded[:MOST_CHECKED]
        raw = model.decision_function(some) if n_labels else model.predict(some)
        trees.check(matrix[:MOST_CHECKED], spread_out(raw, _classes(model), n_labels), "hist-gradient-boosting")
        return trees


def _classes(model: Any) -> NDArray[Any]:
    return np.asarray(getattr(model, "classes_", ()))


def _read(model: Any, features: Sequence[Feature], n_labels: int, n_inputs: int) -> Trees:
    """Read the fitted trees; scikit-learn has no public way, and `Trees.check` would notice another form."""
    targets, base = targets_and_base(model._baseline_prediction.ravel().astype(np.float64), _classes(model), n_labels)
    roots = [
        _node(tree.nodes, 0, features, target)
        for round_ in model._predictors
        for target, tree in zip(targets, round_, strict=True)
    ]
    return Trees.of(roots, base, n_inputs)


def _node(nodes: Any, position: int, features: Sequence[Feature], target: int) -> Node:
    node = nodes[position]
    if node["is_leaf"]:
        return Leaf(((target, float(node["value"])),))
    left, right = (_node(nodes, int(node[side]), features, target) for side in ("left", "right"))
    feature = features[int(node["feature_idx"])]
    return split_feature(
        feature, float(node["num_threshold"]), left, right, missing_yes=bool(node["missing_go_to_left"])
    )
