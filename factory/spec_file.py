"""Reading `tasks/<name>/spec.yaml`: a `Spec`, or every problem of its structure with its line."""

import json
from pathlib import Path

from pydantic import ValidationError

from factory.errors import Problem, SpecError
from factory.spec import Spec
from factory.spec_errors import problems_of
from factory.spec_source import Source, read_source
from factory.spec_table import with_table_defaults

SPEC_FILE = "spec.yaml"


def load_spec(folder: Path) -> Spec:
    """Read the structure of a task folder's spec; `factory.check.check_task` looks at plugins and data too.

    Args:
        folder: A task folder, with a `spec.yaml` in it.

    Returns:
        The spec.

    Raises:
        SpecError: The folder or the file is missing or wrong; holds every problem of the structure.
    """
    spec, problems = parse_spec(spec_source(folder))
    if spec is None:
        raise SpecError(problems)
    return spec


def spec_source(folder: Path) -> Source:
    """Read `spec.yaml` of a task folder as plain data with lines.

    Args:
        folder: A task folder.

    Returns:
        The data, whatever it says.

    Raises:
        SpecError: There is no such folder or file, or it is no YAML mapping.
    """
    if not folder.exists():
        raise SpecError([Problem(folder, None, "", "no such folder")])
    if not folder.is_dir():
        raise SpecError([Problem(folder, None, "", f"expected a task folder with a {SPEC_FILE} in it, got a file")])
    return read_source(folder / SPEC_FILE)


def parse_spec(source: Source) -> tuple[Spec | None, list[Problem]]:
    """Validate what a file says: return the spec, or None and every problem of its structure."""
    try:
        # Strict, so that `seed: true` is not 1; through JSON, where strict still takes lists for tuples.
        return Spec.model_validate_json(json.dumps(with_table_defaults(source.data)), strict=True), []
    except ValidationError as error:
        return None, problems_of(error, Spec, source)
