"""Prompts are Jinja files beside the code that uses them; data enters as variables only, never as template text."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template


@cache
def _template(path: Path) -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(path.parent),  # for `include`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # a prompt is plain text, and `<` must reach the teacher as `<`
    )
    return environment.get_template(path.name)


def render(path: Path, **variables: Any) -> str:
    """Fill a prompt template.

    Args:
        path: A `.jinja` file of this package.
        variables: What the template names; one that is missing is an error, never an empty string.

    Returns:
        The prompt, without surrounding white space.
    """
    return _template(path).render(**variables).strip()
