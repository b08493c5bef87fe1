"""What is done with the versions of a model: make one the champion, go back, compare two."""

from pathlib import Path
from typing import Annotated

import typer

from factory.commands.completion import aliases
from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Name, Outputs, print_json

Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; kept with who did it and when.")]


def promote(
    name: Name,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="Number or alias.", autocompletion=aliases)
    ] = "candidate",
    note: Note = "",
    force: Annotated[bool, typer.Option("--force", help="Also a version that did not pass its gate.")] = False,
    out: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
) -> None:
    """Make a version the champion, which answers from now on; the champion before becomes `previous`.

    Examples:
        factory promote snips_intent

        factory promote snips_intent 3 --note "better on refunds, see report"
    """
    from factory.release.registry import Registry

    registry = Registry(out)
    was = [one.version for one in registry.versions(name) if "champion" in one.aliases]
    promoted = registry.promote(name, version, note=note, force=force)
    if json_:
        print_json(promoted.model_dump(mode="json"))
    elif promoted.version in was:
        typer.echo(f"{name}: version {promoted.version} is the champion already; nothing was changed")
    else:
        typer.echo(f"{name}: version {promoted.version} is the champion{_was(promoted.moves[-1].was)}")


def rollback(name: Name, note: Note = "", out: Outputs = DEFAULT_OUTPUTS, json_: AsJson = False) -> None:
    """Make the previous champion the champion again; a second rollback undoes the first.

    Example: factory rollback snips_intent --note "wrong on questions"
    """
    from factory.release.registry import Registry

    restored = Registry(out).rollback(name, note=note)
    if json_:
        print_json(restored.model_dump(mode="json"))
    else:
        typer.echo(f"{name}: version {restored.version} is the champion again{_was(restored.moves[-1].was)}")


def compare(
    name: Name,
    first: Annotated[str, typer.Argument(metavar="A", help="Number or alias of a version.", autocompletion=aliases)],
    second: Annotated[str, typer.Argument(metavar="B", help="Of another.", autocompletion=aliases)],
    rows: Annotated[
        Path | None, typer.Option("--rows", metavar="FILE", help="JSONL with `text` and `label`; default: the holdout.")
    ] = None,
    out: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
) -> None:
    """Ask two versions the same gold rows, and test whether they differ.

    Without --rows: the rows of the holdout that both versions were judged on.

    Examples:
        factory compare snips_intent champion candidate

        factory compare snips_intent 2 5 --rows labelled-last-week.jsonl
    """
    from factory.serving.comparison import compare as compare_versions
    from factory.serving.comparison import comparison_lines

    compared = compare_versions(out, name, first, second, rows=rows)
    if json_:
        print_json({"verdict": compared.sentence, **compared.model_dump(mode="json")})
        return
    for line in comparison_lines(compared):
        typer.echo(line)


def _was(version: int | None) -> str:
    return "" if version is None else f"; version {version} is now `previous`: `factory rollback` goes back to it"
