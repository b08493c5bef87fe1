"""Plugins of a spec: that they exist, for this kind of task, and take the parameters that are given."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from factory.check.reading import plugins_in
from factory.encoders import encoder_problem
from factory.errors import Problem
from factory.spec import Kind, Plugin
from factory.spec_errors import not_among, problems_of
from factory.spec_source import KeyPath, Source


def check_plugins(plugins: Sequence[tuple[KeyPath, Plugin]], table: Mapping[str, Any], source: Source) -> list[Problem]:
    """Check names and parameters of plugins against the table of their floor.

    Args:
        plugins: What the spec asks for, and where it does.
        table: What there is, by name. An entry is a class whose fields are the parameters, or has such a class as
            `params` or `options`.
        source: The file the plugins were named in.

    Returns:
        A problem for each unknown name and each wrong parameter.
    """
    problems = []
    titles: set[str] = set()
    for path, plugin in plugins:
        where = source.existing((*path, "name"))
        title = _title(plugin, table)
        if title in titles:
            problems.append(source.problem(where, f"{title!r} is named twice: results are stored by name"))
        titles.add(title or "")
        if plugin.name not in table:
            known = not_among(plugin.name, list(table)) if table else "not for tables: leave it out"
            message = f"{plugin.name!r} is {known}"
            problems.append(source.problem(where, message))
            continue
        params = _params_of(table[plugin.name])
        try:
            TypeAdapter(params).validate_json(json.dumps(plugin.params), strict=True)
        except ValidationError as error:
            problems += problems_of(error, params, source, at=(*path, "params"))
            continue
        wrong = encoder_problem(plugin.params["encoder"]) if "encoder" in plugin.params else ""
        if wrong:
            problems.append(source.problem((*path, "params", "encoder"), wrong))
    return problems


def _params_of(entry: Any) -> Any:
    return entry if isinstance(entry, type) else getattr(entry, "options", None) or entry.params


def _title(plugin: Plugin, table: Mapping[str, Any]) -> str | None:
    """Return what results are stored by: the name or, of what may be named with several params, a title of both."""
    if plugin.name not in table or not hasattr(params := _params_of(table[plugin.name]), "title"):
        return plugin.name
    try:
        return str(TypeAdapter(params).validate_python(plugin.params).title)
    except ValidationError:
        return None  # which is complained about


def order_problems(source: Source) -> list[Problem]:
    """Filters run in spec order, but the noise filter judges what all others left: its place is the last."""
    plugins = plugins_in(source, ("curation",))
    return [
        source.problem(path, "label-noise runs after all other filters: put it last")
        for path, plugin in plugins[:-1]
        if plugin.name == "label-noise"
    ]


def plugin_tables(kind: Kind) -> dict[KeyPath, Mapping[str, Any]]:
    """Return the plugin table behind each list of the spec; what no task of the kind can have is empty."""
    from factory.curation import FILTERS
    from factory.labelling.aggregation import AGGREGATORS
    from factory.labelling.voters import VOTERS
    from factory.students import STUDENTS, TABLE_STUDENTS
    from factory.synthesis import STRATEGIES, TABLE_STRATEGIES
    from factory.synthesis.augmenters import AUGMENTERS

    if kind.is_table:
        return {
            ("augmentation", "strategies"): {},
            ("synthesis", "strategies"): TABLE_STRATEGIES if kind.has_labels else {},
            ("labelling", "voters"): {},
            ("curation",): {},
            ("students",): TABLE_STUDENTS,
        }
    return {
        ("augmentation", "strategies"): AUGMENTERS,
        ("synthesis", "strategies"): STRATEGIES,
        ("labelling", "voters"): VOTERS,
        ("labelling", "aggregation"): AGGREGATORS,
        ("curation",): FILTERS,
        ("students",): STUDENTS,
    }
