"""The figures of the report, drawn: each a name, a picture, and what a person is told who cannot see it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from factory.evaluation import charts
from factory.evaluation.charts import Line
from factory.evaluation.data_map import DataMap, Group
from factory.evaluation.metrics import Estimate
from factory.evaluation.plots import COOL, MAIN, WARM, Spec, draw
from factory.evaluation.telling import AnyEvaluation
from factory.evaluation.verdict import STUDENT, Evaluation

if TYPE_CHECKING:
    from markupsafe import Markup

    from factory.evaluation.report import BuildInfo

MOST_LABELS = 30
"""In the plot of labels, those it finds most often last; the table has all."""
MOST_STAGES = 12
MAP_SIZE = 640
FEW_POINTS = 500
"""Up to so many points are drawn larger."""
GROUP_COLOURS = {Group.REAL: (WARM, "square"), Group.WRITTEN: (MAIN, "circle"), Group.REJECTED: (COOL, "cross")}
"""Colour and shape: each alone tells the groups apart. Drawn in this order."""
FIGURE_TITLES = {"auc": "AUC", "r2": "R2 (share of the variance explained)"}

Figure = tuple[Spec, str]
"""A plot, and what it shows in words."""


def figures_of(evaluation: AnyEvaluation, build: "BuildInfo") -> dict[str, "Markup"]:
    """Draw every figure there is something for.

    Args:
        evaluation: What was measured.
        build: What was built.

    Returns:
        SVG by name; templates leave out those that are missing.
    """
    found = {**dict(_of_quality(evaluation)), **dict(_of_build(build))}
    return {name: draw(spec, alt, name=name) for name, (spec, alt) in found.items()}


def _of_quality(evaluation: AnyEvaluation) -> Iterator[tuple[str, Figure]]:
    lines, title = _contenders(evaluation)
    yield "quality", (charts.intervals(lines, title), f"{title} of each contender, with 95 % intervals")
    if not isinstance(evaluation, Evaluation) or not evaluation.labels:
        return
    scores = sorted(evaluation.label_scores, key=lambda one: one.recall)
    recalls = [
        Line(one.label, charts.wilson(round(one.recall * one.support), one.support), is_main=True)
        for one in scores
        if one.support
    ]
    if recalls:
        title = "found of the rows of the label, %"
        yield "labels", (charts.intervals(recalls[:MOST_LABELS], title), "Recall of each label, lowest first")
    if any(one.n for one in evaluation.reliability):
        yield "calibration", (charts.calibration(evaluation.reliability), "Observed accuracy by stated probability")


def _contenders(evaluation: AnyEvaluation) -> tuple[list[Line], str]:
    """Return what contenders are compared by, and the title of its axis."""
    for figure, title in FIGURE_TITLES.items():
        scores = [one for one in evaluation.scores if one.figure == figure]
        if scores:
            percent = [Line(one.contender, one.estimate, one.contender == STUDENT) for one in scores]
            return percent, f"{title}, %"
    assert isinstance(evaluation, Evaluation)
    return [Line(one.name, one.accuracy, one.name == STUDENT) for one in evaluation.contenders], "accuracy, %"


def _of_build(build: "BuildInfo") -> Iterator[tuple[str, Figure]]:
    if build.cascade:
        alt = "Accuracy against the share of texts that reach the last tier"
        yield "tiers", (charts.tiers(build.cascade), alt)
    if build.learning and build.learning.rounds and build.learning.rounds[-1].points:
        curve = build.learning.rounds[-1]
        yield "growth", (charts.learning(curve), "Agreement with the teacher against the number of rows")
    told = list(_told_apart(build))
    if told:
        alt = "How well classifiers tell generated texts apart; 50 % is chance"
        yield "told", (charts.intervals(told, "AUROC, %", mark=50), alt)
    slowest = sorted(build.stages, key=lambda one: -one.seconds)[:MOST_STAGES]
    if slowest and slowest[0].seconds > 0:
        timed = [(one.name, one.seconds, not one.was_cached) for one in slowest]
        yield "cost", (charts.bars(timed, "seconds", number=",.1f"), "Seconds of the slowest stages")
    lost = [(f"{one.name}: {why}", n, True) for one in build.stages for why, n in one.rejected_by_reason.items()]
    if lost:
        lost.sort(key=lambda one: -one[1])
        yield "curation", (charts.bars(lost[:MOST_STAGES], "rows rejected"), "Rows rejected by stage and reason")
    if build.coverage:
        shares = [Line(one.label, charts.wilson(one.n_mentioned, one.n_things), True) for one in build.coverage]
        title = "things mentioned in training texts, %"
        yield (
            "coverage",
            (charts.intervals(shares[:MOST_LABELS], title), "Share of the named things that are mentioned"),
        )
    if build.data_map and build.data_map.points:
        drawn = ", ".join(f"{n:,} {group.value}" for group, n in build.data_map.n_drawn.items() if n)
        yield "map", (_map(build.data_map), f"Texts placed by meaning: {drawn}")
    for position, panel in enumerate(build.explanations):
        if panel.spec:
            yield f"explanation-{position}", (panel.spec, panel.title)


def _told_apart(build: "BuildInfo") -> Iterator[Line]:
    if build.audit is None:
        return
    found: list[tuple[str, Estimate | None]] = [("labels by length", build.audit.length)]
    if build.audit.real:
        found = [
            ("from real by meaning", build.audit.real.vectors),
            ("from real by wording", build.audit.real.ngrams),
            *found,
        ]
    yield from (Line(name, one, is_main=True) for name, one in found if one)


def _map(found: DataMap) -> Spec:
    """Place the points; one layer a group, in the order of `map_points`."""
    layers: list[dict[str, Any]] = []
    whole = {"domain": [0, 1], "nice": False, "zero": False}
    size = 26 if len(found.points) > FEW_POINTS else 70
    for group, (color, shape) in GROUP_COLOURS.items():
        values = [{"x": one.x, "y": one.y} for one in found.points if one.group is group]
        mark = {"type": "point", "shape": shape, "filled": True, "size": size, "opacity": 0.55, "color": color}
        layers.append(
            {
                "name": group.value,
                "data": {"values": values},
                "mark": mark,
                "encoding": {
                    "x": {"field": "x", "type": "quantitative", "scale": whole, "axis": None},
                    "y": {"field": "y", "type": "quantitative", "scale": whole, "axis": None},
                },
            }
        )
    return {"width": MAP_SIZE, "height": MAP_SIZE, "padding": 0, "layer": layers}


def map_points(found: DataMap) -> dict[str, Any]:
    """Return what the script of the map reads: texts and provenances once each, points by group in drawing order."""
    labels = sorted({one.label for one in found.points})
    origins = sorted({one.provenance for one in found.points})
    label_at, origin_at = ({name: at for at, name in enumerate(names)} for names in (labels, origins))
    groups = [
        [
            [round(one.x, 4), round(one.y, 4), label_at[one.label], origin_at[one.provenance], one.text]
            for one in found.points
            if one.group is group
        ]
        for group in GROUP_COLOURS
    ]
    return {"labels": labels, "origins": origins, "names": [one.value for one in GROUP_COLOURS], "groups": groups}
