"""The newest learning curve, in percent of the width and height of a plot."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from factory.evaluation.learning_curve import LearningCurve


@dataclass(frozen=True)
class GrowthPlot:
    """What the template draws: rows from left to right on a logarithmic scale, agreement upwards."""

    points: Sequence[tuple[float, float, str]]
    """Place, height, and both in words."""
    ticks: Sequence[tuple[float, str]]
    """Heights with their agreement in percent."""


def growth_of(curve: LearningCurve) -> GrowthPlot:
    """Scale a curve so that the plot begins at a multiple of a tenth."""
    tenths = min((int(10 * point.agreement) for point in curve.points), default=0)
    tenths = min(9, tenths)
    least, most = (log(n) for n in (curve.points[0].n_rows, curve.points[-1].n_rows)) if curve.points else (0.0, 1.0)

    def height(agreement: float) -> float:
        return 100 * (agreement - tenths / 10) / (1 - tenths / 10)

    return GrowthPlot(
        points=[
            (
                100 * (log(point.n_rows) - least) / ((most - least) or 1.0),
                height(point.agreement),
                f"{point.n_rows:,} rows: {100 * point.agreement:.1f} %",
            )
            for point in curve.points
        ],
        ticks=[(height(tick / 10), str(10 * tick)) for tick in range(tenths, 11)],
    )
