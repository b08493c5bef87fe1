"""Sums of decision trees over the inputs of a table: what boosting and additive models are once they are fitted.

A node asks whether an input is at most a number, or is a certain code; a missing input takes the side the node names.
Every fitted model is turned into this one form, compared with its library on training rows, saved as arrays and written
as ONNX `TreeEnsembleRegressor`, in which a float32 meets the same numbers as in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from factory.errors import ArtifactError
from factory.students.tables.encoding import Matrix
from factory.students.tables.features import Feature

LEAF, AT_MOST, IS_CODE = 0, 1, 2
MODES = np.array(["LEAF", "BRANCH_LEQ", "BRANCH_EQ"])
TOLERANCE = 1e-3
"""Largest difference allowed between the trees and the library that grew them, as a share of the answers' spread."""
OPSET, ML_OPSET, IR_VERSION = 17, 3, 8


@dataclass(frozen=True)
class Leaf:
    """What a tree adds to each target."""

    weights: tuple[tuple[int, float], ...]
    """Target and what is added to it."""


@dataclass(frozen=True)
class Split:
    """A question about one input."""

    input: int
    mode: int
    value: float
    """Exact as a float32."""
    yes: "Node"
    no: "Node"
    missing_yes: bool


Node = Leaf | Split


def at_most(value: float) -> float:
    """Return the largest float32 that is at most a number: for float32 inputs both give the same answers."""
    near = _nearest(value)
    return float(near if float(near) <= value else np.nextafter(near, np.float32(-np.inf)))


def below(value: float) -> float:
    """Return the largest float32 below a number."""
    near = _nearest(value)
    return float(near if float(near) < value else np.nextafter(near, np.float32(-np.inf)))


def _nearest(value: float) -> np.float32:
    with np.errstate(over="ignore"):  # what is too large becomes an infinity, and then the largest number below it
        return np.float32(value)


def split_feature(feature: Feature, threshold: float, yes: Node, no: Node, *, missing_yes: bool) -> Node:
    """Return the node that asks whether a feature is at most a threshold."""
    if feature.code is None and not feature.is_missing:
        return Split(feature.input, AT_MOST, at_most(threshold), yes, no, missing_yes)
    zero, one = (yes if value <= threshold else no for value in (0.0, 1.0))
    if feature.is_missing:  # every known number is at most the greatest one
        return Split(feature.input, AT_MOST, float(np.finfo(np.float32).max), zero, one, missing_yes=False)
    return Split(feature.input, IS_CODE, float(feature.code or 0), one, zero, missing_yes=False)


@dataclass
class _Arrays:
    """Nodes and leaves as they are saved, while they are collected."""

    nodes: list[tuple[int, int, int, int, float, int, int, int]] = field(default_factory=list)
    leaves: list[tuple[int, int, int, float]] = field(default_factory=list)

    def add(self, tree: int, root: Node) -> None:
        waiting: list[tuple[int, Node]] = [(0, root)]
        n_ids = 1
        while waiting:
            number, node = waiting.pop()
            if isinstance(node, Leaf):
                self.nodes.append((tree, number, 0, LEAF, 0.0, 0, 0, 0))
                self.leaves += [(tree, number, target, weight) for target, weight in node.weights]
                continue
            self.nodes.append((tree, number, node.input, node.mode, node.value, n_ids, n_ids + 1, node.missing_yes))
            waiting += [(n_ids + 1, node.no), (n_ids, node.yes)]
            n_ids += 2


@dataclass(frozen=True)
class Trees:
    """Additive trees: the answer is the sum of one leaf of every tree."""

    nodes: NDArray[np.float64]
    """Shape (n_nodes, 8): tree, number within it, input, mode, value, yes, no, whether missing is yes."""
    leaves: NDArray[np.float64]
    """Shape (n_weights, 4): tree, number of the leaf, target, weight."""
    n_targets: int
    n_inputs: int

    @classmethod
    def of(cls, roots: Sequence[Node], base: NDArray[np.float64], n_inputs: int) -> Self:
        """Collect trees."""
        arrays = _Arrays()
        # What every row gets is a tree too: onnxruntime forgets `base_values` of a target that no leaf adds to, and
        # mixes up the weights of a tree that is nothing but a leaf.
        total = base.copy()
        for root in roots:
            for target, weight in root.weights if isinstance(root, Leaf) else ():
                total[target] += weight
        always = Leaf(tuple(enumerate(total.tolist())))
        first = Split(0, AT_MOST, 0.0, always, always, missing_yes=False)
        for tree, root in enumerate([first, *(root for root in roots if isinstance(root, Split))]):
            arrays.add(tree, root)
        nodes, leaves = np.array(arrays.nodes, dtype=np.float64), np.array(arrays.leaves, dtype=np.float64)
        return cls(nodes, leaves, len(base), n_inputs)

    def scores(self, matrix: Matrix) -> NDArray[np.float64]:
        """Return the sums for some rows, shape (n_rows, n_targets)."""
        return np.asarray(self._session.run(["logits"], {"cells": matrix})[0], dtype=np.float64)

    @cached_property
    def _session(self) -> Any:
        return open_graph(self.model())

    def check(self, matrix: Matrix, expected: NDArray[np.float64], name: str) -> None:
        """Compare the trees with what the library says.

        Args:
            matrix: Inputs of some rows.
            expected: Raw scores of the library, shape (n_rows, n_targets); of a classification up to what is added to
                all labels of a row.
            name: Of the student.

        Raises:
            ArtifactError: They differ.
        """
        differences = np.abs(self.scores(matrix) - expected)
        spread = max(1.0, float(np.ptp(expected)))
        if not differences.max(initial=0.0) <= TOLERANCE * spread:
            raise ArtifactError(
                f"{name}: its trees differ from the library by {differences.max():.3g}",
                hint="a version of the library that stores trees in another way: report it; nothing was saved",
            )

    def save(self, path: Path) -> None:
        """Write an npz file; equal trees give equal bytes."""
        np.savez(path, nodes=self.nodes, leaves=self.leaves, shape=np.array([self.n_targets, self.n_inputs]))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            n_targets, n_inputs = arrays["shape"].tolist()
            return cls(arrays["nodes"], arrays["leaves"], n_targets, n_inputs)

    def model(self) -> Any:
        """Return the ONNX model: `cells` float32 (n, n_inputs) to `logits` float32 (n, n_targets)."""
        from onnx import TensorProto, helper

        tree, number, inputs, modes, values, yes, no, missing = self.nodes.T
        node = helper.make_node(
            "TreeEnsembleRegressor",
            ["cells"],
            ["logits"],
            domain="ai.onnx.ml",
            n_targets=self.n_targets,
            aggregate_function="SUM",
            post_transform="NONE",
            nodes_treeids=tree.astype(np.int64).tolist(),
            nodes_nodeids=number.astype(np.int64).tolist(),
            nodes_featureids=inputs.astype(np.int64).tolist(),
            nodes_modes=MODES[modes.astype(np.int64)].tolist(),
            nodes_values=values.tolist(),
            nodes_truenodeids=yes.astype(np.int64).tolist(),
            nodes_falsenodeids=no.astype(np.int64).tolist(),
            nodes_missing_value_tracks_true=missing.astype(np.int64).tolist(),
            target_treeids=self.leaves[:, 0].astype(np.int64).tolist(),
            target_nodeids=self.leaves[:, 1].astype(np.int64).tolist(),
            target_ids=self.leaves[:, 2].astype(np.int64).tolist(),
            target_weights=self.leaves[:, 3].tolist(),
        )
        return make_model(
            [node],
            helper.make_tensor_value_info("cells", TensorProto.FLOAT, ["n", self.n_inputs]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", self.n_targets]),
        )


def make_model(nodes: list[Any], given: Any, answer: Any, constants: Sequence[Any] = ()) -> Any:
    """Put nodes into a checked ONNX model."""
    import onnx
    from onnx import helper

    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    graph = helper.make_graph(nodes, "student", [given], [answer], list(constants))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    model.producer_name = "task-model-factory"
    onnx.checker.check_model(model)
    return model


def open_graph(model: Any) -> Any:
    """Open a model in memory."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    content = model.SerializeToString(deterministic=True)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
