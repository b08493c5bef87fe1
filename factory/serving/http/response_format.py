"""How the label is written when a client asks for JSON: the one string property of its schema, filled."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from factory.serving.http.problems import Problem


class UnsupportedFormat(Problem):
    """A `response_format` that a label cannot fill."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "unsupported_format", message, param="response_format")


def content_of(response_format: dict[str, Any] | None, labels: Sequence[str]) -> Callable[[str], str]:
    """Return what writes a label as the content of the answer.

    Args:
        response_format: As in a chat request: None, text, json_object or json_schema.
        labels: All labels the model knows.

    Returns:
        A function from a label to the content.

    Raises:
        UnsupportedFormat: The schema is no object with one property for the label, or its enum lacks a label.
    """
    kind = (response_format or {}).get("type", "text")
    if kind == "text":
        return lambda label: label
    if kind == "json_object":
        return lambda label: _json({"label": label})
    if kind != "json_schema" or response_format is None:
        raise UnsupportedFormat("expected the type text, json_object or json_schema")
    named = response_format.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    if not isinstance(schema, dict):
        raise UnsupportedFormat("expected an object under json_schema.schema")
    key = _check(schema, labels)
    return (lambda label: _json(label)) if key is None else (lambda label: _json({key: label}))


def _check(schema: dict[str, Any], labels: Sequence[str]) -> str | None:
    """Return the name of the property that takes the label; None when the schema is that of the label itself."""
    top = _resolve(schema, schema)
    if top.get("type") == "string" or "enum" in top:
        _check_enum(top, labels)
        return None
    properties = top.get("properties")
    if not isinstance(properties, dict) or len(properties) != 1:
        raise UnsupportedFormat("expected an object with one property, the label: this model answers nothing else")
    ((name, inner),) = properties.items()
    found = _resolve(inner, schema)
    if found.get("type", "string") != "string" or not {"type", "enum", "const"} & found.keys():
        raise UnsupportedFormat("expected the one property to be a string")
    _check_enum(found, labels)
    if not str(name).isprintable():
        raise UnsupportedFormat("expected a property with a printable name")
    return str(name)


def _check_enum(schema: dict[str, Any], labels: Sequence[str]) -> None:
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    if allowed is None:
        return
    lacking = [label for label in labels if not isinstance(allowed, list) or label not in allowed]
    if lacking:
        shown = ", ".join(lacking[:5])
        raise UnsupportedFormat(f"the enum lacks labels this model may answer: {shown}")


def _resolve(schema: object, root: dict[str, Any]) -> dict[str, Any]:
    """Follow a `$ref` into the schema's own `$defs`, where pydantic puts an enum class."""
    for _ in range(10):
        if not isinstance(schema, dict):
            break
        reference = schema.get("$ref")
        if reference is None:
            wrapped = schema.get("allOf")
            if isinstance(wrapped, list) and len(wrapped) == 1:
                schema = wrapped[0]
                continue
            return schema
        group, _, name = str(reference).removeprefix("#/").partition("/")
        definitions = root.get(group) if group in ("$defs", "definitions") else None
        schema = definitions.get(name) if isinstance(definitions, dict) else None
    raise UnsupportedFormat("expected references to lead into the schema's own $defs")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
