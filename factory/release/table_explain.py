"""What each column of a table's row added to its answer, for the `predict.py` beside this file: needs numpy alone.

Shares are Shapley values: with `base`, what the model says on average, they add up to its score. Of an additive model
they are the parts of its sum less their mean over training rows. Of trees they are those of path-dependent TreeSHAP
(Lundberg, Erion and Lee, "Consistent Individualized Feature Attribution for Tree Ensembles", 2018, arXiv:1802.03888):
where a column is not known, a tree is followed down both sides in the proportion of the training rows that went there.
A column is one player, though a date or a text is several inputs.

A leaf is reached with the product, over the columns asked on its path, of 1 or 0 (asked of the row) or of the share z
of training rows that passed (not asked). The Shapley value of such a product is the integral over t in 0..1 of
(o - z) times the product of o t + z (1 - t) over the other columns, a polynomial that Gauss-Legendre quadrature
integrates exactly; compare Yu et al., "Linear TreeShap", NeurIPS 2022, arXiv:2209.08192.

This file is copied into every artifact of a table as it is.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "explain.npz"
LEAST_SHARE = 0.02
"""Of all that moved an answer: columns that moved it by less are not named in the sentence."""
NAMED = 3
"""Columns that a sentence names on either side."""


class NoExplanation(ValueError):
    """The artifact cannot explain, or not what is asked."""


class _Card:
    """A weighted sum of terms, each made of one input."""

    def __init__(self, saved: Mapping[str, Any], columns: NDArray[np.int64]) -> None:
        self._terms, self._weights, self._means = saved["terms"], saved["weights"], saved["means"]
        self._columns, self._n_columns = columns, int(columns.max()) + 1
        self.base = np.asarray(saved["base"] + self._means @ self._weights)

    def shares(self, cells: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what each column adds to the score of one row, shape (n_columns, n_targets)."""
        position, low, high, fill, code, is_missing = self._terms.T
        inputs = position.astype(np.int64)
        found = cells[inputs].astype(np.float64)
        unknown = np.isnan(found)
        ramp = np.where(unknown, fill, np.clip((found - low) / (high - low), 0.0, 1.0))
        terms = np.where(is_missing > 0, unknown, np.where(code >= 0, found == code, ramp))
        added = (terms - self._means)[:, None] * self._weights
        shares = np.zeros((self._n_columns, added.shape[1]))
        np.add.at(shares, self._columns[inputs], added)
        return shares


class _Trees:
    """A sum of trees whose nodes know the share of training rows that came to them from above."""

    def __init__(self, saved: Mapping[str, Any], columns: NDArray[np.int64]) -> None:
        self._parent, self._input, self._value = saved["parent"], saved["input"], saved["value"]
        self._is_code, self._on_yes, self._missing_yes = saved["is_code"], saved["on_yes"], saved["missing_yes"]
        self._leaves, self._weights = saved["leaves"], saved["weights"].astype(np.float64)
        edges = saved["levels"].tolist()
        self._levels = list(pairwise(edges))[1:]  # the first are roots, to which nothing leads
        self._n_columns = int(columns.max()) + 1
        self._slots, asked, passed = self._unfold(columns[self._input], saved["ratio"].astype(np.float64))
        self._asked, self._passed = asked[self._leaves], passed[self._leaves]
        points, weights = np.polynomial.legendre.leggauss((asked.shape[1] + 1) // 2)
        self._quadrature = [(t, w) for t, w in zip((points + 1) / 2, weights / 2, strict=True)]
        self.base = np.asarray(self._weights.T @ self._passed.prod(axis=1))

    def _unfold(
        self, columns: NDArray[np.int64], ratios: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the slot of the column asked before each node, and by slot which columns its path asks and z."""
        n_nodes, n_slots = len(columns), max(1, min(len(self._levels), self._n_columns))
        slots = np.zeros(n_nodes, dtype=np.int64)
        asked, passed = np.full((n_nodes, n_slots), -1, dtype=np.int64), np.ones((n_nodes, n_slots))
        for start, stop in self._levels:
            up, rows = self._parent[start:stop], np.arange(start, stop)
            asked[rows], passed[rows] = asked[up], passed[up]
            # Slots are taken from the left: the first that has this column already, or nobody's.
            mine = columns[start:stop, None]
            slots[rows] = ((asked[rows] == mine) | (asked[rows] < 0)).argmax(axis=1)
            asked[rows, slots[rows]] = columns[start:stop]
            passed[rows, slots[rows]] *= ratios[start:stop]
        used = max(1, int((asked >= 0).sum(axis=1).max()))
        return slots, asked[:, :used], passed[:, :used]

    def shares(self, cells: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what each column adds to the score of one row, shape (n_columns, n_targets)."""
        asked = cells[self._input]
        yes = np.where(self._is_code, asked == self._value, asked <= self._value)
        goes = np.where(np.isnan(asked), self._missing_yes, yes) == self._on_yes
        passes = np.ones((len(goes), self._asked.shape[1]), dtype=bool)
        for start, stop in self._levels:
            passes[start:stop] = passes[self._parent[start:stop]]
            passes[np.arange(start, stop), self._slots[start:stop]] &= goes[start:stop]
        ones, passed = passes[self._leaves].astype(np.float64), self._passed
        weights = np.zeros_like(ones)
        for t, weight in self._quadrature:
            factors = ones * t + passed * (1 - t)
            # A factor is 0 only where o = z = 0, and then o - z is 0, and so is the product of the others' sums.
            product = factors.prod(axis=1, keepdims=True)
            weights += weight * np.divide(product, factors, out=np.zeros_like(factors), where=factors > 0)
        weights *= ones - passed
        column = np.maximum(self._asked, 0).ravel()  # of a slot that nobody has, o - z is 0
        return np.stack(
            [
                np.bincount(column, (weights * target[:, None]).ravel(), minlength=self._n_columns)
                for target in self._weights.T
            ],
            axis=1,
        )


class Explainer:
    """Explains answers of one artifact."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        path = folder / FILE
        if not path.is_file():
            raise NoExplanation(f"{folder}: holds no {FILE}: it was released before there were explanations")
        with np.load(path, allow_pickle=False) as arrays:
            saved = {name: arrays[name] for name in arrays.files}
        self._model = (_Card if "terms" in saved else _Trees)(saved, saved["columns"].astype(np.int64))
        self._columns: list[dict[str, Any]] = config["inputs"]["columns"]
        self._values: Mapping[str, Sequence[str]] = config["inputs"]["values"]
        self._labels: list[str] = config["labels"]
        self._unit: str = config.get("unit") or ""
        # Calibration by a slope and a shift changes shares alike. The isotonic one bends the score as a whole, of which
        # no column has a part: shares are then of the score before it.
        rule = config.get("calibration") or {"slope": 1 / float(config.get("calibration_temperature", 1.0)), "shift": 0}
        bends = not self._labels or rule.get("before")
        self._slope, self._shift = (1.0, 0.0) if bends else (float(rule["slope"]), float(rule["shift"]))

    @property
    def base(self) -> NDArray[np.float64]:
        """The mean score over training rows, shape (n_targets,)."""
        return self._model.base

    def shares(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what each column adds to the scores of some rows, shape (n_rows, n_columns, n_targets).

        Args:
            matrix: What `table_cells.Cells` makes of the rows.

        Returns:
            With `base`, they add up to the output of the graph.
        """
        return np.stack([self._model.shares(row) for row in matrix])

    def explain(
        self,
        rows: Sequence[Mapping[str, Any]],
        matrix: NDArray[np.float32],
        answers: Sequence[Mapping[str, Any]],
        label: str | None = None,
    ) -> list[dict[str, Any]]:
        """Explain some answers.

        Args:
            rows: As they were asked.
            matrix: What `table_cells.Cells` makes of them.
            answers: What was said about them.
            label: The label to explain; default: the one that was answered.

        Returns:
            For each row the answer with `explained`, `base`, `score`, `shares` (greatest first) and `summary`. The
            score of a label is its logit less the mean of the others, so of two labels the log-odds; the score of a
            number is the number. `base` is the mean score over training rows. Where calibration is isotonic, the score
            is that before it.

        Raises:
            NoExplanation: There is no such label.
        """
        if label is not None and label not in self._labels:
            raise NoExplanation(f"{label!r} is no label of {', '.join(self._labels) or 'a model of numbers'}")
        return [
            self._one(row, self._model.shares(cells), answer, label)
            for row, cells, answer in zip(rows, matrix, answers, strict=True)
        ]

    def _one(
        self, row: Mapping[str, Any], shares: NDArray[np.float64], answer: Mapping[str, Any], label: str | None
    ) -> dict[str, Any]:
        inner = row if all(one["name"] in row for one in self._columns) else row["features"]
        told = label or answer.get("label")
        at = self._labels.index(told) if told is not None else 0
        base, scores = (self._slope * _score(one, at) for one in (self.base[None], shares))
        base = base + (self._shift if at else -self._shift)
        order = np.argsort(-np.abs(scores), kind="stable")
        found = [
            {
                "column": self._columns[position]["name"],
                "value": inner[self._columns[position]["name"]],
                "share": float(scores[position]),
                "words": self._words(self._columns[position], inner[self._columns[position]["name"]]),
            }
            for position in order
        ]
        shown: dict[str, Any] = {} if told is None else {"explained": told}
        shown |= {"base": float(base[0]), "score": float(base[0] + scores.sum()), "shares": found}
        return {**answer, **shown, "summary": self._sentence(answer, told, found)}

    def _sentence(self, answer: Mapping[str, Any], told: str | None, shares: Sequence[Mapping[str, Any]]) -> str:
        if told is None:
            said = f"{answer['value']:.6g} {self._unit}".rstrip()
        else:
            said = f"{told}, {100 * answer['probabilities'][told]:.0f} %"
        least = LEAST_SHARE * sum(abs(one["share"]) for one in shares)
        sides = []
        for sign, verb in ((1, "raised"), (-1, "lowered")):
            named = [one["words"] for one in shares if sign * one["share"] > least][:NAMED]
            then = f", then {' and '.join(named[1:])}" if named[1:] else ""
            sides.append(f"{named[0]} {verb} it most{then}" if named else f"nothing {verb} it")
        return f"{said}: {'; '.join(sides)}."

    def _words(self, column: Mapping[str, Any], cell: Any) -> str:
        # What follows a semicolon explains the cells, and would tear the sentence apart.
        name = column.get("description", "").partition(";")[0] or column["name"].replace("_", " ")
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return f"{name} (not known)"
        if column["kind"] == "boolean":
            return f"{name} ({'yes' if str(cell).strip().lower() in ('true', 'yes', 'y', 't', '1', '1.0') else 'no'})"
        text = str(cell).strip() if isinstance(cell, str | int | float) else json.dumps(cell, default=str)
        if column["kind"] == "category" and text not in self._values.get(column["name"], ()):
            return f"{name} ({_short(text)}, which no training row had)"
        unit = f" {column['unit']}" if column.get("unit") else ""
        return f"{name} ({_short(text)}{unit})"


def _score(values: NDArray[np.float64], at: int) -> NDArray[np.float64]:
    """Return the score of a target of values of shape (n, n_targets): less the mean of the others, where there are."""
    n_targets = values.shape[1]
    if n_targets == 1:
        return values[:, 0]
    return np.asarray((n_targets * values[:, at] - values.sum(axis=1)) / (n_targets - 1))


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
