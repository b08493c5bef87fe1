"""What people see of a run in Prefect while it goes on: progress, what it spent, what was rejected, the verdict.

Nothing here may stop or slow a run: progress is sent by a thread of its own, and what Prefect does not take is left out
with one warning.
"""

import contextvars
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from factory.evaluation.telling import table_of
from factory.events import (
    Event,
    Progressed,
    StageFinished,
    StageStarted,
    TeacherUsed,
    Warned,
    emit,
    listening,
    used_together,
)
from factory.spec import Spec
from factory.spec_teacher import Budget
from factory.store import Artifact
from flows.choices import report_line
from flows.outcome import Outcome
from flows.titles import title_of

EVERY_S = 2.0
"""How often progress is sent."""
ROWS_FILE = "rejected.parquet"
MADE = re.compile(r"annotate-pool-\d+|verify-.+|meaning-.+")
"""Stages whose rows are accepted as far as is known before any filter has seen them."""
FILTERED = re.compile(r"(dedup|leakage|description|weigh)-(\d+|loop-\d+)|label-noise|gather-training|weigh")
"""Stages that end with all rows accepted so far."""


@dataclass
class Following:
    """One run as Prefect shows it."""

    name: str
    """Of the task."""
    wanted: int
    """Rows that the spec asks for."""
    budget: Budget
    made: dict[str, int] = field(default_factory=dict)
    filtered: int | None = None
    rejections: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many rows, by title of the stage and reason."""
    used: dict[str, TeacherUsed] = field(default_factory=dict)
    doing: str = ""

    def heard(self, event: Event) -> None:
        """Take in one event; called in whatever thread it comes from."""
        if isinstance(event, TeacherUsed):
            self.used = {**self.used, event.teacher: event}
        elif isinstance(event, StageStarted):
            self.doing = title_of(event.stage)
        elif isinstance(event, Progressed):
            of = f" of {event.total:,}" if event.total else ""
            self.doing = f"{self.doing.partition(': ')[0]}: {event.done:,}{of} {event.unit}"
        elif isinstance(event, StageFinished):
            self.doing = title_of(event.stage)

    def finished(self, artifact: Artifact[Any]) -> None:
        """Count the rows of a stage that was run or found."""
        stage = artifact.folder.parent.name
        if not (artifact.folder / ROWS_FILE).is_file():
            return
        rows = artifact.load()
        if FILTERED.fullmatch(stage):
            self.filtered = len(rows.kept)
        elif MADE.fullmatch(stage):
            self.made[stage] = len(rows.kept)
        for reason, n in rows.report.get("rejected_by_reason", {}).items():
            self.rejections[title_of(stage), reason] += n

    @property
    def accepted(self) -> int:
        """Rows that passed all filters so far; before the first one, what came out of writing and labelling."""
        return sum(self.made.values()) if self.filtered is None else self.filtered

    def rows_line(self) -> tuple[float, str]:
        """Return how much of the wanted rows there is, in percent, and a line for a person."""
        of = f" of {self.wanted:,} wanted" if self.wanted else ""
        line = f"{self.accepted:,} rows accepted{of}, {sum(self.rejections.values()):,} rejected"
        share = min(1.0, self.accepted / self.wanted) if self.wanted else 0.0
        return 100 * share, f"{line}. Now: {self.doing}" if self.doing else line

    def spent_line(self) -> tuple[float, str]:
        """Return how much of the budget is used, in percent (0 without one), and a line for a person."""
        used = used_together(self.used.values())
        if used is None:
            return 0.0, "the teacher was asked nothing"
        tokens = used.prompt_tokens + used.completion_tokens
        spent = {"calls": used.calls, "tokens": tokens, "usd": used.usd}
        bounds = {unit: bound for unit in spent if (bound := getattr(self.budget, unit)) is not None}
        share = max((spent[unit] / bound if bound else 1.0 for unit, bound in bounds.items()), default=0.0)
        of = {unit: f" of {bound:,}" for unit, bound in bounds.items()}
        line = f"${used.usd:.2f}{of.get('usd', '')} for {used.calls:,}{of.get('calls', '')} calls"
        line += f" ({used.cached_calls:,} more from the cache) and {tokens:,}{of.get('tokens', '')} tokens"
        return min(100.0, 100 * share), line

    def key(self, what: str) -> str:
        """Return the key of an artifact, which may hold small letters, digits and dashes."""
        return f"{self.name.replace('_', '-')}-{what}"


class _Sender:
    """Sends the two progress bars of a run until it is told to stop."""

    def __init__(self, run: Following) -> None:
        self._run = run
        self._sent: dict[str, tuple[UUID, tuple[float, str]]] = {}
        self._stop = threading.Event()
        # The context tells Prefect which run it is.
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=[self._work], daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what is left."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        try:
            while True:
                is_last = self._stop.wait(EVERY_S)
                self._send("rows", self._run.rows_line())
                self._send("spent", self._run.spent_line())
                if is_last:
                    return
        except Exception as error:  # whatever it is, a build does not end because nobody can look on
            _warn(error)

    def _send(self, what: str, shown: tuple[float, str]) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        percent, line = shown
        if what not in self._sent:
            self._sent[what] = (_as_id(create_progress_artifact(percent, self._run.key(what), line)), shown)
        elif self._sent[what][1] != shown:
            known = self._sent[what][0]
            _ = update_progress_artifact(known, percent, line)
            self._sent[what] = (known, shown)


def _as_id(made: Any) -> UUID:
    """Prefect's functions are typed for async callers too."""
    return UUID(str(made))


@contextmanager
def followed(spec: Spec, *, wanted: int | None = None) -> Iterator[Following]:
    """Show a run in Prefect while the block runs: its log, two progress bars, and in the end what was rejected.

    Args:
        spec: The task.
        wanted: Rows that are wanted in all; default: what the spec says.

    Yields:
        What is to be told of stages that end.
    """
    from prefect import get_run_logger

    n_wanted = wanted if wanted is not None else spec.wanted_per_label * len(spec.labels)
    run, log = Following(spec.name, n_wanted, spec.teacher.budget), get_run_logger()
    sender = _Sender(run)

    def hear(event: Event) -> None:
        run.heard(event)
        if isinstance(event, StageStarted):
            log.info("%s: started (%s)", title_of(event.stage), event.because)
        elif isinstance(event, StageFinished):
            how = "cached" if event.cached else f"{event.seconds:.1f} s"
            log.info("%s: %s (%s)", title_of(event.stage), event.summary, how)
        elif isinstance(event, Warned):
            log.warning("%s", event.message)

    try:
        with listening(hear):
            yield run
    finally:
        run.doing = ""
        sender.close()
        if run.rejections:
            lines = [
                {"stage": stage, "reason": reason, "rows": n} for (stage, reason), n in run.rejections.most_common()
            ]
            publish(lambda: _table(lines, run.key("rejected"), "Rejected rows by reason"))


def publish_outcome(outcome: Outcome) -> None:
    """Put the scores beside the baselines, and the verdict with a link to its report, into Prefect."""
    name = outcome.version.name.replace("_", "-")
    headings, lines = table_of(outcome.evaluation)
    rows = [dict(zip(headings, line, strict=True)) for line in lines]
    publish(lambda: _table(rows, f"{name}-scores", "Scores beside the baselines, with 95% intervals"))
    publish_markdown(verdict_markdown(outcome), f"{name}-verdict", "The verdict")


def publish_markdown(text: str, key: str, description: str) -> None:
    """Put a text into Prefect."""
    from prefect.artifacts import create_markdown_artifact

    publish(lambda: create_markdown_artifact(text, key.replace("_", "-"), description))


def publish_table(rows: list[dict[str, Any]], key: str, description: str) -> None:
    """Put a table into Prefect."""
    publish(lambda: _table(rows, key.replace("_", "-"), description))


def _table(rows: list[dict[str, Any]], key: str, description: str) -> Any:
    from prefect.artifacts import create_table_artifact

    return create_table_artifact(rows, key, description)


def publish(make: Callable[[], Any]) -> None:
    """Make an artifact; if Prefect does not take it, say so and go on."""
    try:
        make()
    except Exception as error:
        _warn(error)


def _warn(error: Exception) -> None:
    first_line = str(error).partition("\n")[0][:200]
    emit(Warned("prefect", f"Prefect does not show all of this run: {type(error).__name__}: {first_line}"))


def verdict_markdown(outcome: Outcome) -> str:
    """Return the verdict as Markdown; whatever comes from the data is escaped."""
    judged = outcome.judged
    head = judged.decision.sentence if judged else outcome.sentence
    report = report_line(outcome.folder)
    aliases = ", ".join(outcome.version.aliases) or "none"
    parts = [
        f"# {escaped(head)}",
        report,
        *([escaped(outcome.sentence)] if judged else []),
        f"**Gate {'passed' if outcome.gate.passed else 'not passed'}:** {escaped('; '.join(outcome.gate.lines))}",
        f"**Version {outcome.version.version}** of {escaped(outcome.version.name)}, called: {aliases}",
        f'Ask it: `factory predict {outcome.version.name} "..."`; its folder: `{outcome.folder}`',
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&])", r"\\\1", text)
