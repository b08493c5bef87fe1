"""The report: one HTML file that needs nothing else, the verdict first.

Texts of rows are other people's: Jinja escapes everything it is given, and the file runs no script.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.evaluation.audit import Audit
from factory.evaluation.cascade import CascadeChoice
from factory.evaluation.curve import plot_of
from factory.evaluation.findings import findings
from factory.evaluation.growth import growth_of
from factory.evaluation.learning_curve import Learning
from factory.evaluation.metrics import Estimate
from factory.evaluation.telling import AnyEvaluation, sentence_of, table_of
from factory.evaluation.verdict import Evaluation, in_percent, in_points

TEMPLATE = Path(__file__).parent / "report.html.jinja"
MOST_LABELS_IN_CONFUSION = 20
"""Above this the table of all pairs is unreadable; the most confused pairs are listed all the same."""


@dataclass(frozen=True)
class StageInfo:
    """A line of the lineage: one stage of the build."""

    name: str
    fingerprint: str
    was_cached: bool
    seconds: float
    """What it took when it ran, perhaps in an earlier build."""
    summary: str
    kept: int | None = None
    """Null for stages whose result is not rows."""
    rejected_by_reason: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RejectedExample:
    """A row that a stage dropped."""

    stage: str
    reason: str
    text: str
    label: str
    score: float | None


@dataclass(frozen=True)
class TeacherUsage:
    """What the teacher was asked in this build; replies from the cache cost nothing."""

    identity: str
    calls: int
    cached_calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float


@dataclass(frozen=True)
class BuildInfo:
    """What the report says besides the evaluation; the flow fills it."""

    task: str
    description: str
    labels: Mapping[str, str]
    """Description of each label, spec order."""
    stages: tuple[StageInfo, ...]
    seconds: float
    """Of this build, start to end."""
    teacher: TeacherUsage | None = None
    rejected_examples: tuple[RejectedExample, ...] = ()
    audit: Audit | None = None
    cascade: CascadeChoice | None = None
    decision: str = ""
    """Replace, cascade or keep, and why; shown first."""
    learning: Learning | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """Further measurements of the artifact, such as size and milliseconds an answer, as they shall be shown."""
    versions: Mapping[str, str] = field(default_factory=dict)
    built_at: str = ""


@dataclass(frozen=True)
class _Interval:
    """A line of the interval plot, in percent of its width."""

    name: str
    value: float
    low: float
    high: float


def render_report(evaluation: AnyEvaluation, build_info: BuildInfo) -> str:
    """Write the report.

    Args:
        evaluation: What was measured.
        build_info: What was built, from what, at what cost.

    Returns:
        A complete HTML document: no network, no script, light and dark.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    columns, table = table_of(evaluation)
    return environment.get_template(TEMPLATE.name).render(
        evaluation=evaluation,
        build=build_info,
        sentence=sentence_of(evaluation),
        columns=columns,
        table=table,
        **(_of_labels(evaluation) if isinstance(evaluation, Evaluation) else {}),
        rejections=list(_rejections(build_info)),
        findings=findings(build_info.audit) if build_info.audit else [],
        points=in_points,
        percent=in_percent,
        growth=growth_of(build_info.learning.rounds[-1]) if build_info.learning else None,
        curve=plot_of(build_info.cascade) if build_info.cascade else None,
    )


def _of_labels(evaluation: Evaluation) -> dict[str, Any]:
    """Return what is shown where the answer is a label."""
    lowest, ticks = _axis(evaluation)
    return {
        "intervals": [_interval(one.name, one.accuracy, lowest) for one in evaluation.contenders],
        "ticks": [(100 * (tick - lowest) / (1 - lowest), f"{100 * tick:.0f}") for tick in ticks],
        "bars": [bar for bar in evaluation.reliability if bar.n],
        "most_in_bar": max((bar.n for bar in evaluation.reliability), default=0),
        "shows_confusion": len(evaluation.labels) <= MOST_LABELS_IN_CONFUSION,
    }


def _axis(evaluation: Evaluation) -> tuple[float, list[float]]:
    """Return where the plot of accuracies starts, a multiple of a tenth, and its ticks."""
    tenths = int(10 * min(one.accuracy.low for one in evaluation.contenders))
    tenths = min(tenths, 9)
    return tenths / 10, [tick / 10 for tick in range(tenths, 11)]


def _interval(name: str, accuracy: Estimate, lowest: float) -> _Interval:
    value, low, high = (100 * (one - lowest) / (1 - lowest) for one in (accuracy.value, accuracy.low, accuracy.high))
    return _Interval(name, value, low, high)


def _rejections(build: BuildInfo) -> Iterator[tuple[str, str, int, list[RejectedExample]]]:
    """Yield stage, reason, number of rows and examples."""
    for stage in build.stages:
        for reason, n in stage.rejected_by_reason.items():
            examples = [one for one in build.rejected_examples if (one.stage, one.reason) == (stage.name, reason)]
            yield stage.name, reason, n, examples
