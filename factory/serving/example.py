"""A row that a release of a table can answer: to warm it up, and for the page that describes it."""

from typing import Any

from factory.release.predict import Predictor

PLAIN: dict[str, Any] = {"numeric": 0, "integer": 0, "boolean": True, "date": "2024-12-31", "text": "text"}


def example_row(student: Predictor) -> dict[str, Any]:
    """Return a cell for each column: a number within its range, its first category, a date."""
    inputs = student.config["inputs"]
    return {one["name"]: _cell(one, inputs["values"].get(one["name"], ())) for one in inputs["columns"]}


def _cell(column: dict[str, Any], values: list[str]) -> Any:
    if column["kind"] in ("category", "ordinal"):
        return next(iter(values), "text")
    low, high = column.get("range") or (None, None)
    bound = low if low is not None else high
    return bound if column["kind"] in ("numeric", "integer") and bound is not None else PLAIN[column["kind"]]
