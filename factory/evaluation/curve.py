"""The cost-quality curve of a cascade, in percent of the width and height of a plot."""

from collections.abc import Sequence
from dataclasses import dataclass

from factory.evaluation.cascade import CascadeChoice
from factory.evaluation.metrics import Estimate
from factory.evaluation.verdict import in_percent


@dataclass(frozen=True)
class PlotPoint:
    """Some thresholds."""

    share: float
    value: float
    low: float
    high: float
    words: str
    is_certified: bool


@dataclass(frozen=True)
class Plot:
    """What the template draws."""

    points: Sequence[PlotPoint]
    alone: Sequence[tuple[str, float]]
    """Each tier, and the height of its own accuracy."""
    ticks: Sequence[tuple[float, str]]
    """Heights with their accuracy in percent."""


def plot_of(choice: CascadeChoice) -> Plot:
    """Scale the curve so that the plot begins at a multiple of a tenth."""
    estimates: list[Estimate] = [point.accuracy for point in choice.curve] + list(choice.tiers.values())
    tenths = min(9, int(10 * min(one.low for one in estimates)))

    def height(accuracy: float) -> float:
        return 100 * (accuracy - tenths / 10) / (1 - tenths / 10)

    return Plot(
        points=[
            PlotPoint(
                share=100 * point.last_share,
                value=height(point.accuracy.value),
                low=height(point.accuracy.low),
                high=height(point.accuracy.high),
                words=in_percent(point.accuracy),
                is_certified=point.is_certified,
            )
            for point in choice.curve
        ],
        alone=[(name, height(one.value)) for name, one in choice.tiers.items()],
        ticks=[(height(tick / 10), str(10 * tick)) for tick in range(tenths, 11)],
    )
