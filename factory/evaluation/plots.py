"""Plots of the report: Vega-Lite specifications, drawn once into SVG that follows the colours of the page.

A specification is plain data, so whoever has something to show needs no plotting library and no import but this one.
Drawing runs no script in the reader's browser; `docs/decisions/0016-plots.md` says why.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from markupsafe import Markup

Spec = Mapping[str, Any]
"""A Vega-Lite 6 specification without `$schema` and `config`."""

MAIN, OTHER, WARM, COOL = "var(--main)", "var(--other)", "var(--warm)", "var(--cool)"
"""Colours of marks: of the page, so light and dark; told apart by the colour-blind (Okabe and Ito, 2008)."""
INK, SOFT, LINE = "var(--ink)", "var(--soft)", "var(--line)"

WIDTH = 420
"""Of the drawing area of a plot, in CSS pixels: the labels beside it leave it readable on a phone."""
STEP = 26
"""Height of a line of a plot by name."""

MEASURED = 17
"""Font size, in pixels, that room is left for. The page shows 13, and 15 where a phone shrinks the plot: the reader's
font may be wider than the one of here, and a label must not be cut off."""

VEGA_LITE = "6.4"
_AXIS = {
    "labelColor": SOFT,
    "titleColor": SOFT,
    "gridColor": LINE,
    "domain": False,
    "ticks": False,
    "labelFontSize": MEASURED,
    "titleFontSize": MEASURED,
    "titleFontWeight": "normal",
    "labelPadding": 6,
    "titlePadding": 8,
    "labelLimit": 260,
}
CONFIG: Spec = {
    "font": "Arial, Helvetica, sans-serif",
    "padding": 2,
    "background": None,
    "view": {"stroke": None},
    "axis": _AXIS,
    "axisY": {"grid": False},
    "legend": {
        "labelColor": INK,
        "titleColor": SOFT,
        "labelFontSize": MEASURED,
        "titleFontSize": MEASURED,
        "orient": "top",
    },
    "header": {"labelColor": INK, "titleColor": SOFT, "labelFontSize": MEASURED, "titleFontSize": MEASURED},
    "title": {"color": INK, "fontSize": MEASURED, "anchor": "start"},
    "mark": {"color": MAIN},
    "text": {"color": INK, "fontSize": MEASURED},
    "range": {"category": [MAIN, WARM, COOL, OTHER]},
}


@dataclass(frozen=True)
class Panel:
    """Something to show: a plot, a table, or a plot and the table that says the same to whoever cannot see it."""

    title: str
    note: str = ""
    """What it shows and how to read it, in a sentence or two."""
    spec: Spec | None = None
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    """As they shall be shown."""


_SVG = "{http://www.w3.org/2000/svg}"
_ELEMENTS = frozenset(
    {"svg", "g", "path", "line", "rect", "circle", "text", "tspan", "defs", "linearGradient", "stop", "clipPath"}
)
_ATTRIBUTES = frozenset(
    {
        *("viewBox", "width", "height", "transform", "class", "id", "d", "x", "y", "x1", "x2", "y1", "y2"),
        *("cx", "cy", "r", "rx", "ry", "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity"),
        *("stroke-dasharray", "stroke-linecap", "stroke-linejoin", "stroke-miterlimit", "opacity", "text-anchor"),
        *("font-weight", "font-style", "offset", "stop-color", "stop-opacity", "clip-path"),
    }
)
_NOT_IN_XML = re.compile(r"[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")
_LONG_NUMBER = re.compile(r"(\.\d\d)\d+")


def draw(spec: Spec, alt: str, *, name: str = "plot") -> "Markup":
    """Draw a plot.

    Args:
        spec: What to draw; texts in it may be anybody's.
        alt: What a person is told who cannot see it; that is all a screen reader says of the plot.
        name: Begins the ids inside, so that those of two plots of a page differ.

    Returns:
        An `svg` element of known elements and attributes alone: no script, no link, no style of its own.

    Raises:
        ValueError: The specification is none, or it would load or draw something that a report may not contain.
    """
    import vl_convert
    from markupsafe import Markup

    whole = {"$schema": f"https://vega.github.io/schema/vega-lite/v{VEGA_LITE}.json", "config": CONFIG, **_clean(spec)}
    svg = vl_convert.vegalite_to_svg(whole, vl_version=VEGA_LITE, allowed_base_urls=[])
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        _restrict(element, name)
    root.set("role", "img")
    root.set("aria-label", _NOT_IN_XML.sub("\ufffd", alt))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _restrict(element: ElementTree.Element, name: str) -> None:
    """Leave what a drawing needs; the roles that Vega gives to every mark would all be read aloud."""
    tag = str(element.tag).removeprefix(_SVG)
    if tag not in _ELEMENTS:
        raise ValueError(f"a plot of the report may not draw a <{tag}>")
    element.tag = tag  # HTML knows `svg` without its namespace
    for key, value in list(element.attrib.items()):
        if key not in _ATTRIBUTES:
            del element.attrib[key]
        elif key == "id":
            element.set(key, f"{name}-{value}")
        elif value.startswith("url("):
            if not value.startswith("url(#"):
                raise ValueError(f"a plot of the report may not load {value}")
            element.set(key, value.replace("#", f"#{name}-", 1))
        elif key in ("d", "transform"):
            element.set(key, _LONG_NUMBER.sub(r"\1", value))


def _clean(value: Any) -> Any:
    """Replace what XML cannot hold: control characters and halves of surrogate pairs."""
    if isinstance(value, str):
        return _NOT_IN_XML.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {_clean(key): _clean(one) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [_clean(one) for one in value]
    return value
