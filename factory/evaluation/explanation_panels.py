"""Why a student of a table answers as it does, and how it treats groups of people, as the report shows it."""

from collections.abc import Iterator

from factory.evaluation import charts
from factory.evaluation.charts import Line
from factory.evaluation.explanations import Curve, Explanations, Point
from factory.evaluation.metrics import Estimate
from factory.evaluation.plots import MAIN, WIDTH, Panel, Spec
from factory.evaluation.table_verdict import NumberEvaluation, TableEvaluation
from factory.evaluation.telling import AnyEvaluation, groups_of, groups_sentence
from factory.spec_table import Table

MOST_LINES = 20
"""Columns in the plot of importance; the table has all."""
CURVE_HEIGHT = 200


def explanation_panels(table: Table | None, verdict: AnyEvaluation, found: Explanations | None) -> tuple[Panel, ...]:
    """Return what the report shows of a table: importance, curves, groups.

    Args:
        table: What the rows hold; None of texts.
        verdict: Whose groups are shown.
        found: Importance and curves.

    Returns:
        Panels in order; none of texts.
    """
    if table is None:
        return ()
    panels = [] if found is None else [_importance(found), *_curves(table, found)]
    return (*panels, *_groups(verdict))


def _importance(found: Explanations) -> Panel:
    origin = "gold rows" if found.is_gold else "training rows, which flatters what is learned by heart,"
    figure = "fall of R2" if found.is_number else "growth of the log loss, nats"
    lines = [Line(one.column, one.loss, is_main=one.loss.low > 0) for one in found.importances[:MOST_LINES]]
    return Panel(
        title="What it leans on",
        note=f"How much worse the answers to {found.n_rows:,} {origin} become when the cells of a column are shuffled, "
        "with 95 % intervals. Columns that say the same share it. It tells what this model uses, not what causes the "
        "answer.",
        spec=charts.intervals(lines, f"{figure} when shuffled", percent=False, mark=0.0),
        columns=("column", figure),
        rows=tuple((one.column, _shown(one.loss)) for one in found.importances),
    )


def _shown(one: Estimate) -> str:
    return f"{one.value:.4f} ({one.low:.4f} to {one.high:.4f})"


def _curves(table: Table, found: Explanations) -> Iterator[Panel]:
    phrases = {column.name: column.phrase for column in table.columns}
    by = 1.0 if found.is_number else 100.0
    what = f"{found.target}{f' ({found.unit})' if found.unit else ''}" if found.is_number else f"{found.target}, %"
    for position, curve in enumerate(found.curves):
        placed = [one for one in curve.points if not isinstance(one.value, str)]
        named = [one for one in curve.points if isinstance(one.value, str)]
        note = "" if position else f"The mean {what} if all rows had this cell; eight of ten rows lie in the band."
        if placed and named:
            note = f"{note} Where it is not known: {by * named[0].mean:.3g}.".strip()
        if found.is_additive and not position:
            note += " The model is a sum of such curves" + (" and a few pairs." if found.student == "ebm" else ".")
        shown = tuple(
            (one.value if isinstance(one.value, str) else f"{one.value:g}", f"{by * one.mean:.3g}",
             f"{by * one.low:.3g} to {by * one.high:.3g}")
            for one in curve.points
        )  # fmt: skip
        yield Panel(
            title=phrases.get(curve.column, curve.column),
            note=note,
            spec=_line(curve, placed, what, by) if placed else _names(named, what, percent=not found.is_number),
            columns=(curve.column, what, "eight of ten rows"),
            rows=shown,
        )


def _line(curve: Curve, points: list[Point], what: str, by: float) -> Spec:
    values = [{"at": one.value, "mean": by * one.mean, "low": by * one.low, "high": by * one.high} for one in points]
    unit = f" ({curve.unit})" if curve.unit else ""
    x = {"field": "at", "type": "quantitative", "title": f"{curve.column}{unit}", "scale": {"zero": False}}
    y = {"type": "quantitative", "title": what, "axis": {"grid": True}, "scale": {"zero": False}}
    return {
        "width": WIDTH,
        "height": CURVE_HEIGHT,
        "data": {"values": values},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.2, "color": MAIN},
                "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line", "point": {"size": 30, "color": MAIN}, "color": MAIN},
                "encoding": {"x": x, "y": {"field": "mean", **y}},
            },
        ],
    }


def _names(points: list[Point], what: str, *, percent: bool) -> Spec:
    lines = [Line(str(one.value), Estimate(value=one.mean, low=one.low, high=one.high), is_main=True) for one in points]
    return charts.intervals(lines, what, percent=percent)


def _groups(verdict: AnyEvaluation) -> Iterator[Panel]:
    headings, rows = groups_of(verdict)
    if not rows or not isinstance(verdict, TableEvaluation | NumberEvaluation):
        return
    is_number = isinstance(verdict, NumberEvaluation)
    measured = [(one, one.mean_error if is_number else one.selected) for one in verdict.groups]
    lines = [Line(f"{one.group} ({one.column})", rate, is_main=True) for one, rate in measured if rate is not None]
    title = "answer less right number, mean" if is_number else f"answered {verdict.labels[-1]}, %"
    yield Panel(
        title="Groups of the protected columns",
        note=groups_sentence(verdict),
        spec=charts.intervals(lines, title, percent=not is_number) if lines else None,
        columns=headings,
        rows=tuple(rows),
    )
