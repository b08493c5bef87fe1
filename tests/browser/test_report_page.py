"""The report in a browser: it opens from disk, asks nobody, hurts nobody, and can be used by everybody."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from factory.evaluation.coverage import LabelCoverage
from factory.evaluation.data_map import DataMap, Group, Point
from factory.evaluation.learning_curve import CurvePoint, Learning, LearningCurve
from factory.evaluation.metrics import Estimate
from factory.evaluation.plots import Panel
from factory.evaluation.report import Headline, Snippet, render_report
from tests.browser.conftest import OpenPage
from tests.test_report import BREAKING, HOSTILE, build_of, evaluation_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

TEXTS = (
    "play some jazz by the sea",
    "will it rain tomorrow in Oslo",
    f"a hostile one {HOSTILE} {BREAKING} </script><script>alert(2)</script>",
)


def made_map() -> DataMap:
    points = [
        Point(
            x=0.05 + 0.9 * (n % 20) / 19,
            y=0.05 + 0.9 * (n // 20) / 9,
            group=tuple(Group)[n % 3],
            label=("book", f"play {HOSTILE}")[n % 2],
            text=f"{TEXTS[n % 3]} {n}",
            provenance=f"written by the teacher ({HOSTILE}); trained on",
        )
        for n in range(200)
    ]
    return DataMap(points=tuple(points), n_rows=dict.fromkeys(Group, 400), explained=0.21)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report that has every section, of hostile texts."""
    labels = ("book", f"play {HOSTILE}", "weather")
    gain = Estimate(value=0.011, low=0.002, high=0.02)
    curve = LearningCurve(
        n_rows=400,
        n_added=100,
        n_fresh=120,
        points=tuple(CurvePoint(n_rows=100 * 2**n, agreement=0.8 + 0.05 * n) for n in range(3)),
        gain=gain,
        rows_for_one_point=90,
        rows_at_least=50,
        rows_at_most=None,
    )
    spec = {
        "width": 300,
        "height": {"step": 24},
        "data": {"values": [{"word": HOSTILE, "weight": 2.0}, {"word": "jazz", "weight": -1.0}]},
        "mark": "bar",
        "encoding": {
            "y": {"field": "word", "type": "nominal", "sort": None, "title": None},
            "x": {"field": "weight", "type": "quantitative"},
        },
    }
    build = replace(
        build_of(labels, HOSTILE),
        decision="Replace the LLM: the student is no more than 2 points worse.",
        data_map=made_map(),
        coverage=(LabelCoverage("book", 20, 14, 60, 41, (HOSTILE, "a table for two")),),
        learning=Learning(rounds=(curve,), most_rounds=1, stop_gain=0.005),
        headlines=(Headline("right on gold rows", "91.6 %", "89.6 to 93.7 %"), Headline("size", "23.4 MB")),
        explanations=(
            Panel("Words that weigh most", "Weights.", spec, ("word", "weight"), ((HOSTILE, "2.0"), ("jazz", "-1.0"))),
        ),
        use=(Snippet("Here", 'factory predict snips_intent "a text"'),),
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(evaluation_of(labels, text=HOSTILE), build), encoding="utf-8")
    return path


def opened(page: "Page", report: Path) -> "Page":
    page.goto(report.as_uri())
    return page


def test_it_opens_from_disk_without_a_request_an_error_or_a_hostile_script(page: "Page", report: Path) -> None:
    requests: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(f"alert: {dialog.message}"))
    opened(page, report)
    assert requests == [report.as_uri()]
    assert faults == []
    assert page.locator("script").count() == 2
    assert page.locator("main img").count() == 0
    assert HOSTILE in page.locator("#confusion").inner_text()
    assert page.locator("svg text", has_text="<script>").count() >= 1


def test_a_script_that_a_text_would_smuggle_in_is_not_run(page: "Page", report: Path) -> None:
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    opened(page, report)
    page.evaluate(
        "() => { const made = document.createElement('script'); made.textContent = 'window.ran = 1';"
        " document.body.append(made); }"
    )
    assert page.evaluate("window.ran") is None
    assert "Content Security Policy" in refused[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_serious_fault(open_page: OpenPage, report: Path, scheme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = opened(open_page(scheme, width=width), report)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.locator(".plane").focus()
    page.keyboard.press("ArrowRight")
    found = Axe().run(page).response["violations"]
    serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []


def test_a_point_says_its_text_and_where_it_is_from(page: "Page", report: Path) -> None:
    opened(page, report)
    said = page.locator(".said")
    page.locator(".written_marks > path").first.hover(force=True)
    assert "play some jazz by the sea 0" in said.inner_text()
    assert f"written by the teacher ({HOSTILE}); trained on" in said.inner_text()
    assert "Label: book" in said.inner_text()


def test_the_map_is_gone_through_by_keys_and_hostile_texts_stay_text(page: "Page", report: Path) -> None:
    opened(page, report)
    page.locator(".plane").focus()
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
        seen.append(page.locator(".said").inner_text())
    assert len(set(seen)) >= 5
    assert any(TEXTS[2] in one for one in seen)
    assert page.locator(".said *:not(p)").count() == 0
    assert page.locator(".said").get_attribute("aria-live") == "polite"


def test_groups_and_labels_can_be_hidden(page: "Page", report: Path) -> None:
    opened(page, report)
    layer = page.locator("g.rejected_marks")
    assert layer.is_visible()
    page.get_by_role("checkbox", name="rejected").uncheck()
    assert not layer.is_visible()
    page.locator(".map select").select_option(label="book")
    assert page.locator(".dim").count() > 50
    page.locator(".plane").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        assert "Label: book" in page.locator(".said").inner_text()


def test_nothing_is_wider_than_a_phone(open_page: OpenPage, report: Path) -> None:
    page = opened(open_page(width=390, height=844), report)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("nav a").first.is_visible()


def test_on_paper_everything_folded_is_shown_and_what_only_works_on_a_screen_is_not(page: "Page", report: Path) -> None:
    opened(page, report)
    folded = page.locator("#curation td.text").first
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.is_visible()
    assert not page.locator("nav").is_visible()
    assert not page.locator(".map select").is_visible()
    assert page.pdf().startswith(b"%PDF")


def test_the_contents_lead_to_every_section(page: "Page", report: Path) -> None:
    opened(page, report)
    targets = page.locator("nav a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    assert targets == page.locator("main > section").evaluate_all("found => found.map((one) => '#' + one.id)")
    assert {"#map", "#calibration", "#growth", "#coverage", "#explanations", "#use", "#lineage"} <= set(targets)


def test_without_a_script_the_map_is_a_picture(browser: "object", report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)  # type: ignore[attr-defined]
    page = opened(context.new_page(), report)
    assert page.locator(".plane svg").is_visible()
    assert not page.locator(".map select").is_visible()
    context.close()
