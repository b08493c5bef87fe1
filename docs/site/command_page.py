"""The page about the commands, made from their help."""

import re

import typer
from typer.cli import get_docs_for_click

from factory.cli import app

EXAMPLES = re.compile(r"^(Examples?:)\n(?=    )", flags=re.MULTILINE)
LISTED = re.compile(r"^\* `([a-z]+)`: .*\.\.\.$", flags=re.MULTILINE)
"""A command in the list at the top, its sentence cut off."""


def command_page() -> str:
    """Return the page as Markdown."""
    group = typer.main.get_command(app)
    text = get_docs_for_click(obj=group, ctx=typer.Context(group), name="factory", title="Commands")

    def whole(match: re.Match[str]) -> str:
        command = getattr(group, "commands", {}).get(match[1])
        if command is None:
            return match[0]
        sentence = " ".join((command.help or "").partition("\n\n")[0].split())
        return f"* [`{match[1]}`](#factory-{match[1]}): {sentence}"

    return EXAMPLES.sub(r"\1\n\n", LISTED.sub(whole, text))  # Markdown wants an empty line before code
