"""`factory verdict`: from what a build stored to one sentence, and the figures under it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from factory.errors import ArtifactMissing
from factory.evaluation.cascade import CASCADE, CascadeChoice
from factory.evaluation.comparison import EVALUATE
from factory.evaluation.cost import Cost, Side, StageCost, cost_of
from factory.evaluation.decision import Decision, decide
from factory.evaluation.label_free import LABEL_FREE, LabelFree
from factory.evaluation.result import JsonResult
from factory.evaluation.table_verdict import EVALUATE_NUMBERS, EVALUATE_TABLE
from factory.evaluation.telling import AnyEvaluation, groups_of, groups_sentence, is_table, table_of
from factory.evaluation.verdict import in_percent, in_points
from factory.release.measure import MEASURE, Speed
from factory.release.package import LINEAGE, Lineage, Release
from factory.release.registry import Registry
from factory.release.robustness import ROBUSTNESS, Robustness
from factory.spec import Prices, VerdictSpec
from factory.store import Artifact, Stage

ASKING = "annotate-"
"""Begins the names of the stages in which the teacher labels texts and does nothing else."""
EMBEDDED = "embedded:"


@dataclass(frozen=True)
class Verdict:
    """What to do with the LLM, and everything that says so."""

    decision: Decision
    evaluation: AnyEvaluation
    speed: Speed
    cost: Cost
    cascade: CascadeChoice | None = None
    robustness: Robustness | None = None
    label_free: LabelFree | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the verdict for programs."""
        return {
            "verdict": self.decision.choice.value,
            "exit_code": self.decision.choice.exit_code,
            "sentence": self.decision.sentence,
            "is_estimate": self.decision.is_estimate,
            "evaluation": self.evaluation.model_dump(mode="json"),
            "cascade": self.cascade and self.cascade.model_dump(mode="json"),
            "robustness": self.robustness and self.robustness.model_dump(mode="json"),
            "label_free": self.label_free and self.label_free.model_dump(mode="json"),
            "speed": self.speed.model_dump(mode="json"),
            "cost": self.cost.model_dump(mode="json"),
        }


def verdict_of(
    stages: Sequence[Artifact[Any]],
    evaluation: AnyEvaluation,
    speed: Speed,
    *,
    settings: VerdictSpec,
    prices: Prices | None,
) -> Verdict:
    """Decide by the stored stages of one build.

    Args:
        stages: All of them.
        evaluation: Their evaluation.
        speed: Their measurement.
        settings: The spec's `verdict`.
        prices: Of the teacher, where they are known.

    Returns:
        The verdict.
    """
    cascade, robustness = _found(stages, CASCADE), _found(stages, ROBUSTNESS)
    seconds = 1 / speed.texts_per_s
    hourly = settings.machine_usd_per_hour
    student = Side(
        seconds_per_answer=seconds,
        usd_per_million=None if hourly is None else hourly * seconds * 1e6 / 3600,
        joules_per_thousand=speed.joules_per_thousand,
        energy=speed.energy,
    )
    costs = {stage.folder.parent.name: _stage_cost(stage) for stage in stages}
    teachers = {str(stage.manifest["key"]["resources"].get("teacher", "")) for stage in stages}
    cost = cost_of(
        list(costs.values()),
        [cost for name, cost in costs.items() if name.startswith(ASKING)],
        student,
        usd_per_million_tokens=None
        if prices is None
        else (prices.input_usd_per_million, prices.output_usd_per_million),
        is_local=any(teacher.startswith(EMBEDDED) for teacher in teachers),
        threads=speed.threads,
    )
    return Verdict(
        decide(evaluation, cascade), evaluation, speed, cost, cascade, robustness, _found(stages, LABEL_FREE)
    )


def read_verdict(
    outputs: Path, name: str, version: str | None, settings: VerdictSpec, prices: Prices | None
) -> Verdict:
    """Decide again by what the build of a registered release stored.

    Args:
        outputs: Folder of all tasks' outputs.
        name: Of the task.
        version: A number or an alias; default: the champion, else the candidate.
        settings: The spec's `verdict`; its margin was applied when the release was built.
        prices: Of the teacher, where they are known.

    Returns:
        The verdict.

    Raises:
        ArtifactMissing: No such release, or its stages are no longer stored.
        ArtifactCorrupt: A file is not the one that was stored.
    """
    folder = Registry(outputs).resolve(name, version)
    Artifact(folder, Release, was_cached=True).check()
    lineage = Lineage.model_validate_json(_without_code((folder / LINEAGE).read_bytes()))
    root = outputs / name
    stages = [Artifact[Any](root / one.stage / one.fingerprint, JsonResult, was_cached=True) for one in lineage.stages]
    missing = [stage.folder for stage in stages if not stage.folder.is_dir()]
    evaluation, speed = _found(stages, _evaluate_stage(stages)), _found(stages, MEASURE)
    if missing or evaluation is None or speed is None:
        gone = missing[0] if missing else root / EVALUATE.name
        raise ArtifactMissing(f"{gone}: this stage of the release is no longer stored", hint="build the task again")
    return verdict_of(stages, evaluation, speed, settings=settings, prices=prices)


def print_verdict(verdict: Verdict) -> None:
    """Print a verdict for people, the sentence first."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)  # a pipe has no width; the table should not be folded
    estimate = " (an estimate: no person labelled these rows)" if verdict.decision.is_estimate else ""
    console.print(f"{verdict.decision.sentence}{estimate}", soft_wrap=True, markup=False, style="bold")
    table = Table(box=None, padding=(0, 2, 0, 0))
    headings, lines = table_of(verdict.evaluation)
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="left" if position == 0 else "right")
    for line in lines:
        table.add_row(*line)
    console.print()
    console.print(table)
    print_groups(console, verdict.evaluation)
    console.print()
    for name, value in figures(verdict):
        console.print(f"{name}: {value}", soft_wrap=True, markup=False)


def print_groups(console: Any, evaluation: AnyEvaluation) -> None:
    """Print the table of the protected groups; nothing where the spec protects no column."""
    from rich.markup import escape
    from rich.table import Table

    headings, lines = groups_of(evaluation)
    if not lines:
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading)
    for line in lines:
        table.add_row(*map(escape, line))
    console.print("\nBy protected column, with 95 % intervals:")
    console.print(table)
    console.print(groups_sentence(evaluation), soft_wrap=True, markup=False)


def _evaluate_stage(stages: Sequence[Artifact[Any]]) -> Stage[Any]:
    """Return the stage that judged: of texts, of a table with labels, or of numbers."""
    judged = next((one for one in stages if one.folder.parent.name == EVALUATE.name and one.folder.is_dir()), None)
    table = judged.manifest["key"]["params"].get("table") if judged is not None else None
    if table is None:
        return EVALUATE
    return EVALUATE_TABLE if table["labels"] else EVALUATE_NUMBERS


def figures(verdict: Verdict) -> list[tuple[str, str]]:
    """Return what a person may want to know besides the contenders: name and value."""
    speed = verdict.speed
    unit = "row" if is_table(verdict.evaluation) else "text"
    found = [
        (
            f"one {unit}",
            f"{speed.p50_ms:.2f} ms (p95 {speed.p95_ms:.2f}, p99 {speed.p99_ms:.2f})",
        ),
        (
            "in batches",
            f"{speed.texts_per_s:,.0f} {unit}s/s; {speed.size_mb:.1f} MB on disk, {speed.memory_mb:.0f} MB of memory",
        ),
        *verdict.cost.lines,
    ]
    if verdict.robustness is not None:
        found += [
            (f"accuracy with {one.name}", f"{in_percent(one.accuracy)} %, {in_points(one.change)} points")
            for one in verdict.robustness.perturbed
        ]
    if verdict.label_free is not None:
        found += _estimates(verdict.label_free)
    if verdict.cascade is not None:
        found.append(("cascade", verdict.cascade.summary))
    return found


def _estimates(label_free: LabelFree) -> list[tuple[str, str]]:
    """Say what texts without labels let one guess."""
    if label_free.thresholded is None or label_free.mean_confidence is None:
        return []
    thresholded, mean = (f"{100 * one:.1f} %" for one in (label_free.thresholded, label_free.mean_confidence))
    guess = f"{thresholded} (thresholded), {mean} (mean probability)"
    found = [("estimated accuracy", f"{guess} on {label_free.n_pool:,} texts without labels")]
    if (powered := label_free.powered) is not None:
        alone = f"{in_percent(powered.labels_alone)} % from the {powered.n_labelled:,} labels alone"
        saved = f"worth {powered.labels_saved:,.0f} more labels"
        found.append(
            ("with texts without labels", f"{in_percent(powered.accuracy)} % (prediction-powered, {saved}); {alone}")
        )
    return found


def _found(stages: Sequence[Artifact[Any]], stage: Stage[Any]) -> Any:
    """Return the result of a stage, or None where the build has none."""
    artifact = next((one for one in stages if one.folder.parent.name == stage.name), None)
    if artifact is None:
        return None
    try:
        return Artifact(artifact.folder, stage.result, was_cached=True).load()
    except ValidationError as error:
        raise ArtifactMissing(
            f"{artifact.folder}: was written by another version of the factory", hint="build the task again"
        ) from error


def _stage_cost(stage: Artifact[Any]) -> StageCost:
    varying = stage.manifest["varying"]
    return StageCost(
        seconds=varying["seconds"],
        calls=varying.get("teacher_calls", 0),
        prompt_tokens=varying.get("prompt_tokens", 0),
        completion_tokens=varying.get("completion_tokens", 0),
    )


def _without_code(lineage: bytes) -> str:
    """Drop the part of lineage.json that the model does not know."""
    return json.dumps({key: value for key, value in json.loads(lineage).items() if key != "code"})
