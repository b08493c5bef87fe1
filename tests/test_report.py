"""The report: complete, self-contained, and safe to open whatever the rows say."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from factory.evaluation.comparison import EvaluateParams, evaluate
from factory.evaluation.data_map import MOST_CHARACTERS, DataMap, DataMapParams, Group, Point
from factory.evaluation.report import BuildInfo, RejectedExample, StageInfo, TeacherUsage, render_report
from factory.evaluation.verdict import Evaluation, verdict_sentence
from factory.records import Origin, Predictions, Rejection, TextRow, all_kept, split, text_dataset

HOSTILE = "<script>alert(1)</script>"
BREAKING = '"><img src=x onerror=alert(1)> {{ 7*7 }} {% raw %}'
VOID = {"meta", "br", "img", "hr", "input", "link"}


class Outline(HTMLParser):
    """Collects tags and shown text, and checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Outline:
    outline = Outline()
    outline.feed(html)
    outline.close()
    assert outline.open == []
    return outline


def evaluation_of(labels: tuple[str, ...], *, gold: bool = True, text: str = "text") -> Evaluation:
    """A student right on all rows but the first."""
    n_rows = 4 * len(labels)
    origin = Origin.GOLD if gold else Origin.SYNTHETIC
    rows = all_kept(text_dataset([TextRow(f"{text} {n}", labels[n % len(labels)], origin) for n in range(n_rows)]))
    probs = np.full((n_rows, len(labels)), 0.1 / (len(labels) - 1))
    probs[np.arange(n_rows), [1, *(n % len(labels) for n in range(1, n_rows))]] = 0.9
    student = Predictions(labels, tuple(rows.kept["id"]), probs)
    majority = Predictions(labels, tuple(rows.kept["id"]), np.full((n_rows, len(labels)), 1 / len(labels)))
    asked = [TextRow(f"{text} {n}", labels[n % len(labels)], Origin.SILVER) for n in range(3)]
    teacher = split(text_dataset(asked), {2: Rejection("abstain-refusal")}, by="annotate") if gold else None
    params = EvaluateParams(labels=labels, champion="sentence-linear", n_resamples=50)
    given = {"holdout": rows} if gold else {"rows": rows}
    return evaluate(params, **given, teacher=teacher, student=student, majority=majority)


def build_of(labels: tuple[str, ...], text: str = "text") -> BuildInfo:
    return BuildInfo(
        task="snips_intent",
        description=f"What a person asks. {text}",
        labels={label: f"described {label}" for label in labels},
        stages=(
            StageInfo("synthesise", "abc123", was_cached=True, seconds=540.2, summary="500 kept", kept=500),
            StageInfo("dedup", "def456", False, 1.5, "410 kept", 410, {"duplicate": 30, "near-duplicate": 60}),
            StageInfo("calibrate", "fed789", False, 0.5, "macro-F1 0.93"),
        ),
        seconds=12.3,
        teacher=TeacherUsage("qwen@loopback", 1200, 90_000, 41_000, 0.0),
        rejected_examples=(RejectedExample("dedup", "duplicate", text, labels[0], 1.0),),
        facts={"milliseconds an answer, p50": "1.3"},
        versions={"factory": "0.1.0", "python": "3.11"},
        built_at="2026-01-01T00:00:00Z",
    )


def test_the_verdict_comes_first_and_everything_else_is_there() -> None:
    labels = ("book", "play", "weather")
    evaluation = evaluation_of(labels)
    outline = read(render_report(evaluation, build_of(labels)))
    shown = " ".join(" ".join(outline.text).split())
    assert shown.index(verdict_sentence(evaluation)) < shown.index("Contenders")
    for expected in (
        "majority", "teacher", "on 3 of 12 rows (a stratified sample); no usable answer on 1 rows, counted as wrong",
        "described weather", "dedup: near-duplicate, 60 rows",
        "90,000 read, 41,000 written", "milliseconds an answer, p50", "fed789", "python 3.11",
        "Regime Z0: descriptions of the labels only",
    ):  # fmt: skip
        assert expected in shown
    assert outline.tags.count("svg") == 5  # contenders, labels, calibration, rejections, seconds


def test_hostile_texts_are_shown_as_text() -> None:
    for text in (HOSTILE, BREAKING):
        labels = (f"a {text}", f"b {text}")
        evaluation = evaluation_of(labels, text=text)
        outline = read(render_report(evaluation, build_of(labels, text)))
        assert not {"script", "img"} & set(outline.tags)
        assert not [name for name, _ in outline.attributes if name.startswith("on")]
        shown = "".join(outline.text)
        assert f"{text} 0" in shown, "the confused example"
        assert f"described a {text}" in shown, "the description of a label"


def test_the_file_needs_nothing_else() -> None:
    labels = ("book", "play")
    html = render_report(evaluation_of(labels), build_of(labels))
    outline = read(html)
    assert not {"script", "link", "img", "iframe"} & set(outline.tags)
    assert not re.search(r"https?://|url\(|@import", html)
    assert "prefers-color-scheme: dark" in html
    assert "default-src 'none'" in html


def test_without_gold_rows_the_report_says_so_at_the_top() -> None:
    labels = ("book", "play")
    outline = read(render_report(evaluation_of(labels, gold=False), build_of(labels)))
    assert ("class", "verdict estimate") in outline.attributes
    assert "No gold rows: all figures are out-of-fold estimates" in " ".join(outline.text)


@pytest.mark.parametrize(("n_labels", "shows"), [(20, True), (77, False)])
def test_a_confusion_table_nobody_could_read_is_left_out(n_labels: int, shows: bool) -> None:
    labels = tuple(f"label {n}" for n in range(n_labels))
    outline = read(render_report(evaluation_of(labels), build_of(labels)))
    classes = [value or "" for name, value in outline.attributes if name == "class"]
    assert any(value.startswith("matrix") for value in classes) is shows
    assert "The pairs confused most often" in " ".join(outline.text)


def test_a_build_without_teacher_or_rejections_has_a_report() -> None:
    labels = ("book", "play")
    build = BuildInfo(task="t", description="d", labels={}, stages=(), seconds=0.1)
    shown = " ".join(read(render_report(evaluation_of(labels), build)).text)
    assert "Nothing." in shown


def test_a_map_of_the_longest_texts_that_escape_worst_leaves_the_page_below_six_megabytes() -> None:
    labels = ("book", "play")
    texts = (f"{n:04d}{'<' * (MOST_CHARACTERS - 4)}" for n in range(DataMapParams().most_points))
    points = tuple(
        Point(x=0.5, y=0.5, group=Group.WRITTEN, label="book", text=text, provenance="written") for text in texts
    )
    drawn = DataMap(points=points, n_rows=dict.fromkeys(Group, 10_000), explained=0.1)
    html = render_report(evaluation_of(labels), replace(build_of(labels), data_map=drawn))
    assert len(points) == 3000
    assert len(html.encode()) < 6_000_000
    assert "<<<" not in html


def test_same_evaluation_and_build_same_bytes() -> None:
    labels = ("book", "play")
    first, second = (render_report(evaluation_of(labels), build_of(labels)) for _ in range(2))
    assert first == second
