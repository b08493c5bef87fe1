"""The report: one HTML file that needs nothing else, the verdict first.

Texts of rows are other people's: Jinja escapes everything it is given, and the one script of the page, that of the data
map, is allowed by its hash alone and never makes markup of a text.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from factory.evaluation.audit import Audit
from factory.evaluation.cascade import CascadeChoice
from factory.evaluation.coverage import LabelCoverage
from factory.evaluation.data_map import DataMap
from factory.evaluation.findings import findings
from factory.evaluation.learning_curve import Learning
from factory.evaluation.plots import Panel
from factory.evaluation.report_figures import figures_of, map_points
from factory.evaluation.telling import AnyEvaluation, groups_of, groups_sentence, is_table, sentence_of, table_of
from factory.evaluation.verdict import Evaluation, in_percent, in_points

TEMPLATES = Path(__file__).parent / "templates"
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
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    """Null where no price is known."""


class Headline(NamedTuple):
    """One of the few figures that are shown large."""

    name: str
    value: str
    note: str = ""
    """Its interval, or what it is compared with."""


class Snippet(NamedTuple):
    """A way to use the model, to be copied."""

    title: str
    code: str


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
    trained_on: str = ""
    """Of a table, whose regime says too little: a sentence on its rows."""
    learning: Learning | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """Further measurements of the artifact, such as size and milliseconds an answer, as they shall be shown."""
    versions: Mapping[str, str] = field(default_factory=dict)
    built_at: str = ""
    headlines: tuple[Headline, ...] = ()
    """At most six."""
    data_map: DataMap | None = None
    coverage: tuple[LabelCoverage, ...] = ()
    explanations: tuple[Panel, ...] = ()
    """Why the model answers as it does: whatever plots and tables there are, in this order."""
    use: tuple[Snippet, ...] = ()


@dataclass(frozen=True)
class _Section:
    """A part of the page; `templates/<name>.html.jinja` is what it says."""

    name: str
    title: str


def render_report(evaluation: AnyEvaluation, build_info: BuildInfo) -> str:
    """Write the report.

    Args:
        evaluation: What was measured.
        build_info: What was built, from what, at what cost.

    Returns:
        A complete HTML document: no network, light and dark, for the screen and for paper.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    columns, table = table_of(evaluation)
    script = (TEMPLATES / "data_map.js").read_text(encoding="utf-8") if build_info.data_map else ""
    return environment.get_template("report.html.jinja").render(
        evaluation=evaluation,
        build=build_info,
        sections=list(_sections(evaluation, build_info)),
        sentence=sentence_of(evaluation),
        is_table=is_table(evaluation),
        columns=columns,
        table=table,
        groups=groups_of(evaluation),
        groups_sentence=groups_sentence(evaluation),
        figures=figures_of(evaluation, build_info),
        rejections=list(_rejections(build_info)),
        findings=findings(build_info.audit) if build_info.audit else [],
        shows_confusion=isinstance(evaluation, Evaluation) and len(evaluation.labels) <= MOST_LABELS_IN_CONFUSION,
        points=in_points,
        percent=in_percent,
        map_points=map_points(build_info.data_map) if build_info.data_map else None,
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() if script else "",
    )


def _sections(evaluation: AnyEvaluation, build: BuildInfo) -> Iterator[_Section]:
    """Yield the parts of the page for which there is something to show, in order."""
    yield _Section("quality", "How good it is")
    if isinstance(evaluation, Evaluation) and evaluation.labels:
        yield _Section("labels", "Label by label")
        yield _Section("confusion", "What it confuses")
        yield _Section("calibration", "Do its probabilities mean what they say?")
    if build.explanations:
        yield _Section("explanations", "Why it answers as it does")
    if build.cascade:
        yield _Section("tiers", "Answering in tiers")
    yield _Section("cost", "Cost and time")
    if build.learning:
        yield _Section("growth", "Would more rows help?")
    if build.data_map and build.data_map.points:
        yield _Section("map", "Data map")
    if build.audit and not is_table(evaluation):
        yield _Section("audit", "What the teacher wrote")
    if build.coverage:
        yield _Section("coverage", "What was asked for, and what came")
    yield _Section("curation", "What was rejected on the way")
    if build.use:
        yield _Section("use", "How to use it")
    yield _Section("lineage", "Lineage")


def _rejections(build: BuildInfo) -> Iterator[tuple[str, str, int, list[RejectedExample]]]:
    """Yield stage, reason, number of rows and examples."""
    for stage in build.stages:
        for reason, n in stage.rejected_by_reason.items():
            examples = [one for one in build.rejected_examples if (one.stage, one.reason) == (stage.name, reason)]
            yield stage.name, reason, n, examples
