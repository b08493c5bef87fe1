"""Plots: what is drawn, that it follows the page, and that nothing else gets in."""

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.evaluation import charts
from factory.evaluation.charts import Line
from factory.evaluation.metrics import Bin, Estimate
from factory.evaluation.plots import MAIN, Spec, draw

HOSTILE = '</text></svg><script>alert(1)</script><img src=x onerror=alert(1)> & "'


def bars(name: str = "a") -> Spec:
    return charts.bars([(name, 3, True), ("b", 1, False)], "rows")


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.1, high=value + 0.1)


def shown(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter("text") if element.text]


def test_a_plot_says_its_names_and_amounts_in_colours_of_the_page() -> None:
    svg = draw(bars("duplicate"), "what was rejected")
    assert {"duplicate", "b", "3", "1", "rows"} <= set(shown(svg))
    assert f'fill="{MAIN}"' in svg
    root = ElementTree.fromstring(svg)
    assert (root.get("role"), root.get("aria-label")) == ("img", "what was rejected")


def test_only_the_whole_plot_is_read_aloud() -> None:
    svg = draw(bars(), "alt")
    assert svg.count("aria-") == 1
    assert svg.count("role=") == 1


def test_a_hostile_name_is_text_and_nothing_else() -> None:
    svg = draw(bars(HOSTILE), HOSTILE)
    root = ElementTree.fromstring(svg)
    assert {str(element.tag) for element in root.iter()} <= {"svg", "g", "path", "line", "text", "rect"}
    assert not [name for element in root.iter() for name in element.attrib if name.startswith("on")]
    assert root.get("aria-label") == HOSTILE
    assert any(text.startswith("</text></svg><script>") for text in shown(svg))


@settings(max_examples=25, deadline=None)
@given(name=st.text(max_size=40))
def test_any_name_can_be_drawn(name: str) -> None:
    ElementTree.fromstring(draw(bars(name), name))


@pytest.mark.parametrize("name", ["\x00\x1b", "\ud800 half a pair", "\ufffe"])
def test_what_xml_cannot_hold_is_replaced(name: str) -> None:
    assert any("\ufffd" in text for text in shown(draw(bars(name), name)))


def test_a_plot_that_would_load_something_is_refused() -> None:
    image = {
        "data": {"values": [{"url": "http://127.0.0.1:9/x.png"}]},
        "mark": {"type": "image", "width": 9, "height": 9},
        "encoding": {"url": {"field": "url", "type": "nominal"}},
    }
    with pytest.raises(ValueError, match="may not draw a <image>"):
        draw(image, "x")


def test_data_from_an_address_is_not_fetched() -> None:
    remote = {"data": {"url": "http://127.0.0.1:9/rows.json"}, "mark": "bar", "encoding": {}}
    with pytest.raises(ValueError, match="127"):
        draw(remote, "x")


def test_ids_of_two_plots_differ() -> None:
    clipped = {**bars(), "width": 50}
    clipped["layer"] = [{**layer, "mark": {**layer["mark"], "clip": True}} for layer in bars()["layer"]]
    first, second = (draw(clipped, "x", name=name) for name in ("a", "b"))
    assert 'id="a-clip' in first
    assert "url(#a-clip" in first
    assert 'id="b-clip' in second
    assert "a-clip" not in second


def test_intervals_begin_below_the_lowest_end_and_mark_chance() -> None:
    spec = charts.intervals(
        [Line("student", estimate(0.9), True), Line("other", estimate(0.7))], "accuracy, %", mark=50
    )
    assert [one["low"] for one in spec["data"]["values"]] == pytest.approx([80, 60])
    assert spec["layer"][0]["encoding"]["x"]["datum"] == 50
    assert "60" in shown(draw(spec, "x"))


def test_a_range_without_rows_is_no_point_of_the_calibration() -> None:
    bins = [
        Bin(low=0, high=0.5, n=0, confidence=0, accuracy=0),
        Bin(low=0.5, high=1, n=4, confidence=0.8, accuracy=0.5),
    ]
    (point,) = charts.calibration(bins)["data"]["values"]
    assert (point["said"], point["right"], point["n"]) == (80, 50, 4)
    assert point["low"] < 50 < point["high"]


@pytest.mark.parametrize(("n_right", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (0, 0, 0, 1)])
def test_a_share_has_the_interval_of_wilson(n_right: int, n: int, low: float, high: float) -> None:
    found = charts.wilson(n_right, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4)
