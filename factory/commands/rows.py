"""What is done with single rows: trace one, let people label the open ones."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Outputs, only_text, print_json


def why(
    row: Annotated[
        str | None, typer.Argument(metavar="ROW", help="Id of a row, the beginning of one, or the exact text.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="TASK", help="Name or folder; default: the task with the row.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List all rows of the newest build with their ids.")] = False,
    out: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
) -> None:
    """Tell what became of a row and why: prompts, replies, seeds, cost, and the verdict of every stage.

    Examples:
        factory why 3f2a9c

        factory why "play some jazz" --task snips_intent

        factory why --list --task snips_intent
    """
    from flows.shelf import list_rows, shorten
    from flows.why import why as why_row
    from flows.why_text import print_why

    if (row is None) != list_:
        raise typer.BadParameter("give a row, or --list")
    if row is None:
        rows = list_rows(out, task=task)
        if json_:
            print_json([asdict(one) for one in rows])
            return
        for one in rows:
            typer.echo(f"{one.id}\t{one.state}\t{one.label or ''}\t{shorten(one.text)}")
        return
    told = why_row(only_text([row])[0], out, task=task)
    if json_:
        print_json(told.as_json())
    else:
        print_why(told)


class ReviewAction(StrEnum):
    """What to do with the rows nobody agreed on."""

    EXPORT = "export"
    IMPORT = "import"


def review(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name or folder of a task.")],
    action: Annotated[ReviewAction, typer.Argument(metavar="export|import", help="Write a file, or read one.")],
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="To import: .csv or .jsonl.")] = None,
    to: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="To export: .csv or .jsonl.")] = None,
    outputs: Annotated[Path, typer.Option("--outputs", help="Where builds are.")] = DEFAULT_OUTPUTS,
) -> None:
    """Give people the pool rows on which no label won, and train on the labels they bring back.

    Examples:
        factory review support_mail export --out open.csv

        factory review support_mail import open.csv
    """
    from flows.review import export_review, import_review

    given, other = (to, file) if action is ReviewAction.EXPORT else (file, to)
    if given is None or other is not None:
        raise typer.BadParameter("`export --out FILE` or `import FILE`")
    if action is ReviewAction.EXPORT:
        n_rows = export_review(name, given, outputs)
        typer.echo(f"{given}: {n_rows:,} rows to label; fill in `label`, then: factory review {name} import {given}")
        return
    done = import_review(name, given, outputs)
    left = f", {done.n_open:,} left without a label" if done.n_open else ""
    typer.echo(f"{done.file}: {done.n_new:,} labels taken over{left}; {done.n_rows:,} reviewed rows in all")
