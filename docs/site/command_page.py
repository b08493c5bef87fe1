"""The page about the commands, made from their help."""

import re

import typer
from typer.cli import get_docs_for_click

from factory.cli import app

EXAMPLES = re.compile(r"^(Examples?:)\n(?=    )", flags=re.MULTILINE)


def command_page() -> str:
    """Return the page as Markdown."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="factory", title="Commands")
    return EXAMPLES.sub(r"\1\n\n", text)  # Markdown wants an empty line before code
