"""The page about spec.yaml, made from docs/spec.schema.json: a section for each part, a row for each key."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).parents[1] / "spec.schema.json"
Schema = dict[str, Any]
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
}
LONGEST_DEFAULT = 60
"""A default with more characters is that of a part, whose section has it key by key."""


INTRODUCTION = """\
Every key of `tasks/<name>/spec.yaml`. `factory check DIR` finds every error in one at once, with its line and the
nearest known name. Editors complete and check it by the first line of a spec
(`# yaml-language-server: $schema=...`), from [spec.schema.json](../spec.schema.json), which `factory schema` prints.

A student, strategy, filter or voter is a name or `{name: ..., params: {...}}`; what `params` may hold is under
[its class](python/factory.students.md).
"""


def spec_page() -> str:
    """Return the page as Markdown."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    parts = schema["$defs"]
    lines = [
        "# The spec",
        "",
        *INTRODUCTION.splitlines(),
        "",
        *table(schema),
    ]
    for name, part in sorted(parts.items()):
        lines += ["", f"## {name}", "", one_line(part.get("description", ""))]
        lines += ["", *table(part)] if "properties" in part else values(part)
    return "\n".join(lines) + "\n"


def table(part: Schema) -> Iterator[str]:
    """Yield a row for each key of an object."""
    yield "| key | what | default | meaning |"
    yield "|---|---|---|---|"
    for key, about in part["properties"].items():
        meaning = one_line(about.get("description", ""))
        yield f"| `{key}` | {kind_of(about)} | {default_of(key, about, part)} | {meaning} |"


def values(part: Schema) -> list[str]:
    """Return the values that a key of this kind may have."""
    return ["", "One of " + ", ".join(f"`{value}`" for value in part["enum"]) + "."] if "enum" in part else []


def kind_of(about: Schema) -> str:
    """Say in a few words what a value may be; a part of the spec links to its section."""
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in about:
        return " or ".join(kind_of(one) for one in about["anyOf"])
    if "const" in about or "enum" in about:
        return ", ".join(f"`{json.dumps(value)}`" for value in about.get("enum", [about.get("const")]))
    kind = str(about.get("type", "anything"))
    if kind == "array" and isinstance(about.get("items"), dict):
        kind = f"list of {kind_of(about['items'])}"
    if kind == "object" and isinstance(about.get("additionalProperties"), dict):
        kind = f"names, each with {kind_of(about['additionalProperties'])}"
    bounds = ", ".join(said.format(about[key]) for key, said in BOUNDS.items() if key in about)
    return f"{kind}, {bounds}" if bounds else kind


def default_of(key: str, about: Schema, part: Schema) -> str:
    """Return the default as it would be written, or that there is none."""
    if key in part.get("required", ()):
        return "**must be given**"
    if "default" not in about:
        return ""
    written = json.dumps(about["default"], ensure_ascii=False)
    return f"`{written}`" if len(written) <= LONGEST_DEFAULT else "see its section"


def one_line(text: str) -> str:
    """Return a text that can stand in a cell."""
    return " ".join(text.split()).replace("|", "\\|")
