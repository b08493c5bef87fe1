"""LightGBM: gradient boosting that grows the best leaf first (Ke et al., NeurIPS 2017)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from factory.students.tables.base import FEW_ROWS, MOST_CHECKED, Range, TableStudent, spread_out, targets_and_base
from factory.students.tables.encoding import Input, Matrix
from factory.students.tables.features import Feature, choose_features, expand, signs_of
from factory.students.tables.targets import Answers
from factory.students.tables.trees import Leaf, Node, Trees, split_feature


@dataclass(config=ConfigDict(extra="forbid"))
class TableLightGBM(TableStudent):
    """Gradient boosting; hyperparameters that are null are searched for."""

    fitted_type: ClassVar[Any] = Trees
    space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(0.02, 0.2, log=True),
        "rounds": Range(40, 600, log=True, whole=True),
        "leaves": Range(3, 64, log=True, whole=True),
        "least_rows": Range(5, 60, log=True, whole=True),
        "penalty": Range(1e-3, 30.0, log=True),
        "feature_share": Range(0.3, 1.0),
        "row_share": Range(0.5, 1.0),
    }
    defaults: ClassVar[Mapping[str, float]] = {
        "learning_rate": 0.05,
        "rounds": 120,
        "leaves": 15,
        "least_rows": 20,
        "penalty": 1.0,
        "feature_share": 0.7,
        "row_share": 0.8,
    }

    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    rounds: Annotated[int, Field(ge=1, le=5_000)] | None = None
    leaves: Annotated[int, Field(ge=2, le=1_000)] | None = None
    """Most leaves of a tree."""
    least_rows: Annotated[int, Field(ge=1)] | None = None
    """Rows that a leaf needs."""
    penalty: Annotated[float, Field(ge=0)] | None = None
    """L2 penalty of leaves."""
    feature_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the features that a tree may look at, drawn anew for each."""
    row_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the rows that a tree is grown on, drawn anew for each."""
    balanced: bool = False
    """Give every label the same total weight."""
    trials: Annotated[int, Field(ge=0, le=1_000)] = 12
    """Settings tried to find what is null; 0 takes the defaults."""

    def learn(self, matrix: Matrix, inputs: tuple[Input, ...], answers: Answers, n_labels: int, *, seed: int) -> Trees:
        """Fit, and read the trees."""
        import lightgbm

        features = choose_features(matrix, inputs, missing=False)
        expanded = expand(matrix, features)
        classes, columns = np.unique(answers.values, return_inverse=True)
        data = lightgbm.Dataset(
            expanded[answers.rows],
            label=columns if n_labels else answers.values,
            weight=answers.weights,
            params={"verbosity": -1, "min_data_in_bin": 1 if len(matrix) < 10_000 else 3},
        )
        params = self._params(n_labels and len(classes), signs_of(features, inputs), seed)
        params["num_threads"] = 0 if len(matrix) > FEW_ROWS else 1
        booster = lightgbm.train(params, data, num_boost_round=int(self._known["rounds"]))
        trees = _read(booster.dump_model(), features, classes, n_labels, matrix.shape[1])
        raw = np.asarray(booster.predict(expanded[:MOST_CHECKED], raw_score=True))
        trees.check(matrix[:MOST_CHECKED], spread_out(raw, classes, n_labels), "lightgbm")
        return trees

    @property
    def _known(self) -> dict[str, float]:
        return {name: getattr(self, name) or default for name, default in self.defaults.items()}

    def _params(self, n_classes: int, signs: "np.ndarray[Any, Any]", seed: int) -> dict[str, Any]:
        known = self._known
        objectives = {0: "regression", 2: "binary"}
        return {
            "objective": objectives.get(n_classes, "multiclass"),
            **({"num_class": n_classes} if n_classes > 2 else {}),
            **({"monotone_constraints": signs.tolist()} if signs.any() else {}),
            "learning_rate": known["learning_rate"],
            "num_leaves": int(known["leaves"]),
            "min_data_in_leaf": int(known["least_rows"]),
            "lambda_l2": known["penalty"],
            "feature_fraction": known["feature_share"],
            "bagging_fraction": known["row_share"],
            "bagging_freq": 1,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }


def _read(
    model: Mapping[str, Any], features: Sequence[Feature], classes: "np.ndarray[Any, Any]", n_labels: int, n_inputs: int
) -> Trees:
    n_scores = int(model["num_tree_per_iteration"])
    targets, base = targets_and_base(np.zeros(n_scores), classes, n_labels)
    roots = [
        _node(one["tree_structure"], features, targets[position % n_scores])
        for position, one in enumerate(model["tree_info"])
    ]
    return Trees.of(roots, base, n_inputs)


def _node(node: Mapping[str, Any], features: Sequence[Feature], target: int) -> Node:
    if "split_feature" not in node:
        return Leaf(((target, float(node["leaf_value"])),))
    left, right = (_node(node[side], features, target) for side in ("left_child", "right_child"))
    threshold = float(node["threshold"])
    # Where no training row lacked the feature, LightGBM takes a missing number for 0.
    missing_yes = bool(node["default_left"]) if node["missing_type"] == "NaN" else threshold >= 0
    return split_feature(features[node["split_feature"]], threshold, left, right, missing_yes=missing_yes)
