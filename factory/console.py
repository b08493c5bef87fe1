"""How a build looks to whoever watches: a live table on a terminal, lines in a pipe, JSON for programs."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TextIO

from factory.events import (
    Event,
    Progressed,
    StageFinished,
    StageStarted,
    TeacherUsed,
    Warned,
    as_json,
    listening,
    used_together,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

STAGES_SHOWN = 14
LINE_EVERY_S = 5.0
"""Plain output repeats a stage's progress at most this often."""


class View(Protocol):
    """Shows events as they come."""

    def show(self, event: Event) -> None:
        """Show one event."""


class JsonView:
    """One JSON object a line, for programs."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, event: Event) -> None:
        """Write one event."""
        self._out.write(json.dumps(as_json(event), ensure_ascii=False) + "\n")
        self._out.flush()


class PlainView:
    """One line for each thing worth knowing, for logs and pipes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._state = State()
        self._last_line_at = 0.0

    def show(self, event: Event) -> None:
        """Write a line, or keep quiet when the last one about the same progress is fresh."""
        self._state.take(event)
        if isinstance(event, StageStarted):
            self._write(f"{event.stage}: started ({event.because})")
        elif isinstance(event, StageFinished):
            how = "cached" if event.cached else f"{event.seconds:.1f} s"
            self._write(f"{event.stage}: {event.summary} ({how})")
        elif isinstance(event, Warned):
            self._write(f"warning: {event.message}")
        elif isinstance(event, Progressed) and time.monotonic() - self._last_line_at > LINE_EVERY_S:
            for name, stage in self._state.stages.items():
                if stage.progress is event:
                    self._write(f"{name}: {stage.doing()}{self._state.teacher_note()}")

    def _write(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()
        self._last_line_at = time.monotonic()


@dataclass
class StageState:
    """What is known about one stage."""

    started_at: float
    progress: Progressed | None = None
    finished: StageFinished | None = None

    def doing(self) -> str:
        """Describe the progress, with the time left when it can be known."""
        if self.progress is None:
            return "running"
        p, elapsed = self.progress, time.monotonic() - self.started_at
        if not p.total:
            return f"{p.done:,} {p.unit} {p.note}".strip()
        left = elapsed * (p.total - p.done) / p.done if p.done else 0.0
        eta = f", {_clock(left)} left" if p.done and left >= 1 else ""
        return f"{p.done:,} of {p.total:,} {p.unit}{eta} {p.note}".strip()


@dataclass
class State:
    """What a view has heard so far."""

    stages: dict[str, StageState] = field(default_factory=dict)
    teachers: dict[str, TeacherUsed] = field(default_factory=dict)
    warnings: list[Warned] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, TeacherUsed):
            self.teachers[event.teacher] = event
            return
        if isinstance(event, Warned):
            self.warnings.append(event)
            return
        if isinstance(event, Progressed):
            # The function inside a stage does not know under which name the flow runs it (`fit-setfit`, `verify-2`).
            running = [stage for stage in self.stages.values() if stage.finished is None]
            if running:
                running[-1].progress = event
            return
        if isinstance(event, StageStarted) or event.stage not in self.stages:
            self.stages[event.stage] = StageState(time.monotonic())
        if isinstance(event, StageFinished):
            self.stages[event.stage].finished = event

    def teacher_note(self) -> str:
        """Describe what the teacher was asked; empty when it was not."""
        used = used_together(self.teachers.values())
        if used is None:
            return ""
        money = f", ${used.usd:.2f}" if used.usd else ""
        return (
            f" | teacher: {used.calls:,} calls ({used.cached_calls:,} more from the cache), "
            f"{used.prompt_tokens + used.completion_tokens:,} tokens, {used.tokens_per_s:.0f} written a second{money}"
        )


class LiveView:
    """A table that is redrawn in place."""

    def __init__(self) -> None:
        self._state = State()

    def show(self, event: Event) -> None:
        """Take in one event; rich redraws on its own clock."""
        self._state.take(event)

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 1), show_header=False)
        # A build has more stages than a terminal has lines: what is finished scrolls away at the top.
        for name, stage in [*self._state.stages.items()][-STAGES_SHOWN:]:
            done = stage.finished
            if done is None:
                table.add_row(Spinner("dots"), Text(name, style="bold"), Text(stage.doing()), "")
            else:
                took = "cached" if done.cached else _clock(done.seconds)
                table.add_row(Text("✓", style="green"), name, Text(done.summary), Text(took, style="dim"))
        warnings = [Text(f"warning: {event.message}", style="yellow") for event in self._state.warnings[-3:]]
        return Group(table, Text(self._state.teacher_note().removeprefix(" | "), style="dim"), *warnings)


@contextmanager
def watching(*, as_json_lines: bool = False, quiet: bool = False) -> Iterator[None]:
    """Show events while the block runs.

    Args:
        as_json_lines: Write each event as a JSON line to standard output.
        quiet: Show nothing.

    Yields:
        Nothing; the view closes with the block.
    """
    if quiet:
        yield
    elif as_json_lines:
        with listening(JsonView(sys.stdout).show):
            yield
    elif not sys.stderr.isatty():
        with listening(PlainView(sys.stderr).show):
            yield
    else:
        from rich.console import Console
        from rich.live import Live

        view = LiveView()
        with Live(view, console=Console(stderr=True), refresh_per_second=5), listening(view.show):
            yield


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"
