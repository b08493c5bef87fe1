"""How events look: lines, JSON, and a table that is redrawn."""

import io
import json
import sys

import pytest
from rich.console import Console

from factory.console import JsonView, LiveView, PlainView, View, watching
from factory.events import Event, Progressed, StageFinished, StageStarted, TeacherUsed, Warned, emit

USED = TeacherUsed(
    "teacher", calls=1200, cached_calls=30, prompt_tokens=900, completion_tokens=100, usd=0.5, tokens_per_s=24
)
EVENTS: list[Event] = [
    StageFinished("read-holdout", cached=True, seconds=0.01, summary="9 kept"),
    StageStarted("attributes-1", because="params.seed changed"),
    USED,
    Progressed("attributes", 3, 12, "calls", "24 texts"),
    StageFinished("attributes-1", cached=False, seconds=83.2, summary="96 kept, 4 rejected"),
    StageStarted("export", because="never run"),
    Progressed("export", 40, 0, "steps"),
]  # fmt: skip


def show(view: View, events: list[Event]) -> None:
    for event in events:
        view.show(event)


def drawn(view: LiveView, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(view)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def test_plain_lines_say_what_began_why_and_how_it_ended() -> None:
    out = io.StringIO()
    show(PlainView(out), EVENTS)
    assert out.getvalue().splitlines() == [
        "read-holdout: 9 kept (cached)",
        "attributes-1: started (params.seed changed)",
        "attributes-1: 96 kept, 4 rejected (83.2 s)",
        "export: started (never run)",
    ]


def test_plain_progress_is_repeated_only_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    out = io.StringIO()
    view = PlainView(out)
    show(view, EVENTS[1:3])
    for done in (1, 2, 3):
        now[0] += 3.0
        view.show(Progressed("attributes", done, 12, "calls"))
    # Six seconds for two of twelve calls leave thirty for the other ten.
    assert out.getvalue().splitlines()[1:] == [
        "attributes-1: 2 of 12 calls, 30.0 s left | teacher: 1,200 calls (30 more from the cache), 1,000 tokens, "
        "24 written a second, $0.50"
    ]


def test_json_is_one_event_a_line() -> None:
    out = io.StringIO()
    show(JsonView(out), EVENTS)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == [type(event).__name__ for event in EVENTS]
    assert lines[0] == {
        "event": "StageFinished",
        "stage": "read-holdout",
        "cached": True,
        "seconds": 0.01,
        "summary": "9 kept",
    }


def test_the_live_table_shows_each_stage_once_with_its_state() -> None:
    view = LiveView()
    show(view, EVENTS)
    rows = drawn(view).splitlines()
    assert [row.split() for row in rows[:2]] == [
        ["✓", "read-holdout", "9", "kept", "cached"],
        ["✓", "attributes-1", "96", "kept,", "4", "rejected", "1", "min", "23", "s"],
    ]
    assert rows[2].endswith("40 steps")
    assert rows[3].startswith("teacher: 1,200 calls (30 more from the cache), 1,000 tokens")
    assert len(rows) == 4


def test_what_a_stage_says_is_text_and_not_markup() -> None:
    view = LiveView()
    view.show(StageFinished("gather", cached=False, seconds=1, summary="[red]9[/] kept [/nonsense]"))
    assert "[red]9[/] kept [/nonsense]" in drawn(view)


def test_progress_belongs_to_the_stage_that_runs() -> None:
    view = LiveView()
    show(view, [*EVENTS[:5], Progressed("late", 1, 2, "rows")])
    assert "rows" not in drawn(view).replace("96 kept, 4 rejected", "")


def test_without_a_terminal_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with watching():
        emit(EVENTS[0])
    emit(EVENTS[1])
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "read-holdout: 9 kept (cached)\n")


def test_json_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(as_json_lines=True):
        emit(EVENTS[0])
    said = capsys.readouterr()
    assert json.loads(said.out)["stage"] == "read-holdout"
    assert said.err == ""


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(quiet=True):
        for event in EVENTS:
            emit(event)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_the_live_table(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with watching():
        emit(EVENTS[0])
    assert "read-holdout" in screen.getvalue()
    assert "\x1b[?25h" in screen.getvalue()  # the cursor is back


def test_a_warning_is_shown_and_is_no_stage() -> None:
    out = io.StringIO()
    live = LiveView()
    for view in (PlainView(out), live):
        show(view, [StageStarted("verify", because="never run"), Warned("teacher", "two damaged lines")])
    assert out.getvalue().splitlines() == ["verify: started (never run)", "warning: two damaged lines"]
    assert "warning: two damaged lines" in drawn(live) and "teacher" not in drawn(live)
