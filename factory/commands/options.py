"""What commands share: their arguments, and how they print."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from factory.commands.completion import aliases, model_names, task_folders
from factory.errors import FactoryError

TaskFolder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Task folder, such as tasks/snips_intent.", autocompletion=task_folders),
]
Outputs = Annotated[Path, typer.Option("--out", "--outputs", metavar="OUTPUTS", help="Where results and models go.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON for programs instead of text for people.")]
Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Name of a built task, such as snips_intent.", autocompletion=model_names),
]
Version = Annotated[
    str | None,
    typer.Option(
        metavar="VERSION", help="Version or alias; default: champion, else candidate.", autocompletion=aliases
    ),
]

DEFAULT_OUTPUTS = Path("outputs")


def only_text(texts: list[str]) -> list[str]:
    """Refuse bytes that are no UTF-8, which Python smuggles into arguments and standard input as half characters."""
    for position, text in enumerate(texts, start=1):
        if not text.isascii() and any("\ud800" <= mark <= "\udfff" for mark in text):
            raise FactoryError(f"text {position}: not UTF-8: {text!r}")
    return texts


E = TypeVar("E", bound=StrEnum)


def one_of(known: type[E], given: str, option: str) -> E:
    """Read a choice whose names a heavy module knows, which no `--help` should import."""
    try:
        return known(given)
    except ValueError:
        raise typer.BadParameter(f"{given!r} is not one of {', '.join(known)}", param_hint=option) from None


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print a value as JSON, letters of every script as they are."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=indent))
