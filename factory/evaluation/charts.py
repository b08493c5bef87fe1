"""What the report plots, as Vega-Lite specifications. Every figure with its interval where it has one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from factory.evaluation.cascade import CascadeChoice
from factory.evaluation.learning_curve import LearningCurve
from factory.evaluation.metrics import Bin, Estimate
from factory.evaluation.plots import MAIN, OTHER, SOFT, STEP, WIDTH, Spec


@dataclass(frozen=True)
class Line:
    """A line of a plot of intervals."""

    name: str
    estimate: Estimate
    is_main: bool = False


def wilson(n_right: int, n: int) -> Estimate:
    """Return a share with its Wilson 95 % interval (Wilson, JASA 22, 1927); a share of nothing may be anything."""
    from scipy.stats import binomtest

    if n == 0:
        return Estimate(value=0.0, low=0.0, high=1.0)
    found = binomtest(n_right, n).proportion_ci(method="wilson")
    return Estimate(value=n_right / n, low=found.low, high=found.high)


def intervals(lines: Sequence[Line], title: str, *, percent: bool = True, mark: float | None = None) -> Spec:
    """Show estimates below each other, each a point on the line of its interval.

    Args:
        lines: From top to bottom.
        title: Of the axis, with the unit.
        percent: Whether values are shares, shown in percent.
        mark: Value of a dashed line to compare with, such as chance.

    Returns:
        The plot; the axis begins where the lowest interval does.
    """
    by = 100.0 if percent else 1.0
    values = [
        {
            "name": one.name,
            "value": by * one.estimate.value,
            "low": by * one.estimate.low,
            "high": by * one.estimate.high,
            "main": one.is_main,
        }
        for one in lines
    ]
    color = {"condition": {"test": "datum.main", "value": MAIN}, "value": OTHER}
    y = {"field": "name", "type": "nominal", "sort": None, "title": None}
    x = {"type": "quantitative", "title": title, "scale": {"zero": False, "nice": True}, "axis": {"tickCount": 6}}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rule", "strokeWidth": 3, "strokeCap": "round"},
            "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}, "y": y, "color": color},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {
                "x": {"field": "value", **x},
                "y": y,
                "color": color,
                "shape": {"condition": {"test": "datum.main", "value": "circle"}, "value": "diamond"},
            },
        },
    ]
    if mark is not None:
        layers.insert(0, _dashed("x", mark))
    return {"width": WIDTH, "height": {"step": STEP}, "data": {"values": values}, "layer": layers}


def calibration(bins: Sequence[Bin]) -> Spec:
    """Show observed accuracy, with Wilson intervals, against stated probability, and how many rows each point has."""
    values = []
    for one in bins:
        if one.n:
            right = wilson(round(one.accuracy * one.n), one.n)
            values.append(
                {
                    "said": 100 * one.confidence,
                    "right": 100 * one.accuracy,
                    "low": 100 * right.low,
                    "high": 100 * right.high,
                    "n": one.n,
                    "from": 100 * one.low,
                    "to": 100 * one.high,
                }
            )
    whole = {"domain": [0, 100], "nice": False}
    fifths = {"values": [0, 20, 40, 60, 80, 100]}
    x = {"field": "said", "type": "quantitative", "scale": whole, "title": "stated probability, %", "axis": fifths}
    y = {
        "field": "right",
        "type": "quantitative",
        "scale": whole,
        "title": "right, %",
        "axis": {**fifths, "grid": True},
    }
    ideal = {
        "data": {"values": [{"a": 0}, {"a": 100}]},
        "mark": {"type": "line", "strokeDash": [5, 4], "color": SOFT, "strokeWidth": 1.5},
        "encoding": {
            "x": {"field": "a", "type": "quantitative", "scale": whole},
            "y": {"field": "a", "type": "quantitative", "scale": whole},
        },
    }
    ranges = {
        "mark": {"type": "rule", "strokeWidth": 2.5, "color": MAIN},
        "encoding": {"x": x, "y": {**y, "field": "low"}},
    }
    ranges["encoding"]["y2"] = {"field": "high"}  # type: ignore[index]
    points = {"mark": {"type": "point", "filled": True, "size": 80, "opacity": 1}, "encoding": {"x": x, "y": y}}
    counts = {
        "width": 340,
        "height": 60,
        "mark": {"type": "bar", "color": OTHER},
        "encoding": {
            "x": {
                "field": "from",
                "type": "quantitative",
                "scale": whole,
                "title": None,
                "axis": {**fifths, "labels": False},
            },
            "x2": {"field": "to"},
            "y": {"field": "n", "type": "quantitative", "title": "rows", "axis": {"tickCount": 2}},
            "y2": {"datum": 0},
        },
    }
    shown = {"width": 340, "height": 300, "layer": [ideal, ranges, points]}
    return {"data": {"values": values}, "spacing": 8, "vconcat": [counts, shown]}


def learning(curve: LearningCurve) -> Spec:
    """Show agreement with the teacher against the number of rows, on a logarithmic scale."""
    values = [{"rows": one.n_rows, "agreement": 100 * one.agreement} for one in curve.points]
    return {
        "width": WIDTH,
        "height": 260,
        "data": {"values": values},
        "mark": {"type": "line", "point": {"filled": True, "size": 70}, "strokeWidth": 2},
        "encoding": {
            "x": {
                "field": "rows",
                "type": "quantitative",
                "scale": {"type": "log", "nice": False, "padding": 12},
                "axis": {"values": [one.n_rows for one in curve.points], "format": ",d", "grid": False},
                "title": "training rows (logarithmic)",
            },
            "y": {
                "field": "agreement",
                "type": "quantitative",
                "scale": {"zero": False},
                "axis": {"grid": True, "tickCount": 5},
                "title": "agrees with the teacher, %",
            },
        },
    }


def tiers(choice: CascadeChoice) -> Spec:
    """Show accuracy against the share of texts that reach the last tier, and each tier alone."""
    values = [
        {
            "share": 100 * one.last_share,
            "value": 100 * one.accuracy.value,
            "low": 100 * one.accuracy.low,
            "high": 100 * one.accuracy.high,
            "tested": "passed the test" if one.is_certified else "not passed",
        }
        for one in choice.curve
    ]
    alone = [{"value": 100 * one.value, "name": f"{name} alone"} for name, one in choice.tiers.items()]
    said = {"field": "tested", "type": "nominal", "title": None, "scale": {"domain": ["passed the test", "not passed"]}}
    color = {**said, "scale": {**said["scale"], "range": [MAIN, OTHER]}}  # type: ignore[dict-item]
    shape = {**said, "scale": {**said["scale"], "range": ["circle", "diamond"]}}  # type: ignore[dict-item]
    x = {
        "field": "share",
        "type": "quantitative",
        "scale": {"domain": [0, 100]},
        "title": f"texts that reach {list(choice.tiers)[-1]}, %",
        "axis": {"grid": False},
    }
    y = {"type": "quantitative", "scale": {"zero": False}, "title": "right, %", "axis": {"grid": True, "tickCount": 5}}
    at = {"y": {"field": "value", **y}}
    return {
        "width": WIDTH,
        "height": 280,
        "data": {"values": values},
        "layer": [
            {
                "data": {"values": alone},
                "mark": {"type": "rule", "strokeDash": [5, 4], "color": SOFT},
                "encoding": at,
            },
            {
                "data": {"values": alone},
                "mark": {"type": "text", "align": "right", "baseline": "bottom", "dy": -3, "color": SOFT},
                "encoding": {**at, "x": {"value": WIDTH}, "text": {"field": "name"}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5},
                "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}, "color": color},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {"x": x, **at, "color": color, "shape": shape},
            },
        ],
    }


def bars(counts: Sequence[tuple[str, float, bool]], title: str, *, number: str = ",d") -> Spec:
    """Show amounts below each other.

    Args:
        counts: Name, amount, and whether it is one to look at; from top to bottom.
        title: Of the axis, with the unit.
        number: Format of the amounts, as D3 writes formats.

    Returns:
        The plot; each bar says its amount.
    """
    values = [{"name": name, "amount": amount, "main": main} for name, amount, main in counts]
    y = {"field": "name", "type": "nominal", "sort": None, "title": None}
    x = {"field": "amount", "type": "quantitative", "title": title, "axis": {"tickCount": 4}}
    color = {"condition": {"test": "datum.main", "value": MAIN}, "value": OTHER}
    text = {"type": "text", "align": "left", "dx": 5, "color": SOFT}
    return {
        "width": WIDTH - 60,
        "height": {"step": STEP},
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "bar", "height": {"band": 0.65}}, "encoding": {"x": x, "y": y, "color": color}},
            {"mark": text, "encoding": {"x": x, "y": y, "text": {"field": "amount", "format": number}}},
        ],
    }


def _dashed(axis: str, value: float) -> dict[str, Any]:
    return {
        "mark": {"type": "rule", "strokeDash": [5, 4], "color": SOFT, "strokeWidth": 1.5},
        "encoding": {axis: {"datum": value, "type": "quantitative"}},
    }
