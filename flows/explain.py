"""`factory cache explain`: what a build would ask now that is not stored, and what differs from what is."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from factory.check import Task
from factory.teacher import REPLIES_FILE
from factory.teacher.nearest import Change, Nearest, difference
from factory.teacher.replies import Exchange, Replies
from flows.plan import PlannedStage, walk
from flows.probing import THOROUGH, Probed


@dataclass(frozen=True)
class Group:
    """Missing requests that differ in the same parts from what is stored; one of them in detail."""

    n: int
    asked: str
    """Key of the one."""
    nearest: str | None
    """Key of the stored exchange it is nearest to; None when nothing is stored."""
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class ExplainedStage:
    """What a stage that uses the teacher would ask."""

    stage: str
    state: str
    """`cached` (its result is stored, nothing would be asked), `stored` (every reply is), `missing`, or `unknown`."""
    because: str
    """Why the stage itself would run; empty when it is cached."""
    n_stored: int = 0
    n_missing: int = 0
    is_open: bool = False
    """Whether it would ask more once it has what is missing."""
    groups: tuple[Group, ...] = ()
    """Largest first."""


@dataclass(frozen=True)
class Explanation:
    """What a build would ask that is not stored."""

    task: str
    stages: tuple[ExplainedStage, ...]

    @property
    def n_missing(self) -> int:
        """Requests known to be missing."""
        return sum(stage.n_missing for stage in self.stages)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {**asdict(self), "n_missing": self.n_missing}


def explain(task: Task, outputs: Path) -> Explanation:
    """Find out what a build would ask now; asks nobody and stores nothing.

    Args:
        task: A checked task folder.
        outputs: Where builds and replies are stored.

    Returns:
        The stages that use the teacher, in the order of the build.
    """
    planner = walk(task, outputs, runnable=THOROUGH, always=True)
    path = outputs / REPLIES_FILE
    replies = Replies(path) if path.is_file() else None
    try:
        has_missing = any(probed.missing for probed in planner.probed.values())
        nearest = Nearest(replies.exchanges() if replies is not None and has_missing else ())
        stages = [
            _explained(stage, planner.probed.get(stage.name), nearest, replies)
            for stage in planner.stages
            if stage.asks_teacher
        ]
    finally:
        if replies is not None:
            replies.close()
    return Explanation(task.spec.name, tuple(stages))


def _explained(
    stage: PlannedStage, probed: Probed[Any] | None, nearest: Nearest, replies: Replies | None
) -> ExplainedStage:
    if stage.is_cached:
        return ExplainedStage(stage.name, "cached", "")
    if probed is None:
        return ExplainedStage(stage.name, "unknown", stage.because)
    if not probed.missing:
        return ExplainedStage(stage.name, "stored", stage.because, probed.n_stored)
    groups = _grouped(probed.missing, nearest, replies)
    return ExplainedStage(
        stage.name, "missing", stage.because, probed.n_stored, len(probed.missing), probed.is_open, groups
    )


def _grouped(missing: Mapping[str, Exchange], nearest: Nearest, replies: Replies | None) -> tuple[Group, ...]:
    """Group missing requests by the parts in which they differ from the nearest stored exchange."""
    counts: Counter[tuple[str, ...]] = Counter()
    first: dict[tuple[str, ...], Group] = {}
    for key, asked in missing.items():
        found = nearest.to(asked)
        stored = replies.find(found) if replies is not None and found is not None else None
        changes = () if stored is None else difference(stored, asked).changes
        parts = tuple(change.part for change in changes)
        counts[parts] += 1
        first.setdefault(parts, Group(1, key, found, changes))
    return tuple(
        Group(n, first[parts].asked, first[parts].nearest, first[parts].changes) for parts, n in counts.most_common()
    )


def print_explanation(explained: Explanation) -> None:
    """Print for people what is missing, stage by stage."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    for stage in explained.stages:
        say(f"{stage.stage}: {_in_words(stage)}")
        for group in stage.groups:
            if group.nearest is None:
                say(f"  {group.n:,} requests: nothing is stored that could be compared")
                continue
            parts = ", ".join(change.part for change in group.changes)
            say(f"  {group.n:,} requests differ from the nearest stored one in: {parts}")
            say(f"    such as {group.asked[:12]}, nearest {group.nearest[:12]}")
            for change in group.changes:
                say(f"    {change.part}: stored {change.before}")
                say(f"    {' ' * len(change.part)}     now {change.after}")
    say(f"{explained.task}: {explained.n_missing:,} requests would be made that are known now")


def _in_words(stage: ExplainedStage) -> str:
    if stage.state == "cached":
        return "its result is stored, it would ask nothing"
    if stage.state == "unknown":
        return f"not known yet, {stage.because}"
    if stage.state == "stored":
        return f"would run ({stage.because}); all {stage.n_stored:,} replies are stored"
    more = "; more depends on the missing ones" if stage.is_open else ""
    return f"would run ({stage.because}); {stage.n_stored:,} replies are stored, {stage.n_missing:,} are missing{more}"
