"""What is done with single rows: trace one, let people label the open ones."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Outputs, one_of, only_text, print_json

if TYPE_CHECKING:
    from factory.labelling.decision_journal import DecisionJournal
    from factory.labelling.review import Format


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
    """How people get to see rows."""

    SERVE = "serve"
    EXPORT = "export"
    IMPORT = "import"


def review(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a task in tasks/, or its folder.")],
    action: Annotated[
        ReviewAction,
        typer.Argument(metavar="[serve|export|import]", help="Open a page (default), write a file, or read one."),
    ] = ReviewAction.SERVE,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="To import: .csv, .jsonl or .json.", show_default=False)
    ] = None,
    to: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="To export: .csv, .jsonl or .json.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="csv, jsonl, argilla or label-studio.")
    ] = None,
    order: Annotated[
        str, typer.Option(help="To export: best, disagreement, uncertainty, influence or built comes first.")
    ] = "best",
    limit: Annotated[int | None, typer.Option(min=1, help="To export: so many rows at most.")] = None,
    by: Annotated[
        str | None,
        typer.Option("--name", metavar="PERSON", help="Who decides; default: git's user.name, or the account."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0: any free one.")] = 8766,
    outputs: Annotated[Path, typer.Option("--outputs", help="Where builds are.")] = DEFAULT_OUTPUTS,
    json_: AsJson = False,
) -> None:
    """Let a person accept, relabel, edit or reject rows; the next build trains on what they said.

    Examples:
        factory review support_mail

        factory review support_mail --name "Ada Lovelace"

        factory review support_mail export --out open.csv --limit 200

        factory review support_mail export --out records.json --format argilla

        factory review support_mail import open.csv
    """
    from factory.labelling.review import Format
    from factory.labelling.review_rows import Order
    from flows.review import export_review, import_review, interface_file, open_review, who_reviews

    given = {ReviewAction.SERVE: to or file, ReviewAction.EXPORT: file, ReviewAction.IMPORT: to}[action]
    if given is not None or (action is ReviewAction.EXPORT and to is None):
        raise typer.BadParameter("`export --out FILE` or `import FILE`; a page needs no file")
    wanted = one_of(Format, format_, "--format") if format_ is not None else None
    if action is ReviewAction.SERVE:
        _serve_review(name, outputs, port, by, json_=json_)
    elif action is ReviewAction.EXPORT and to is not None:
        n_rows = export_review(name, to, outputs, wanted=wanted, order=one_of(Order, order, "--order"), limit=limit)
        if json_:
            interface = {"interface": str(interface_file(to))} if wanted is Format.LABEL_STUDIO else {}
            print_json({"file": str(to), "rows": n_rows, **interface})
            return
        typer.echo(f"{to}: {n_rows:,} rows to label; {_what_next(name, to, wanted)}")
    elif file is None:
        raise typer.BadParameter("`import FILE`")
    else:
        task = open_review(name)
        who = who_reviews(task.folder, by)
        _set_aside_torn_line(task.journal)
        done = import_review(name, file, outputs, by=who, told=wanted)
        if json_:
            told = {"file": str(done.file), "new": done.n_new, "open": done.n_open, "rows": done.n_rows}
            print_json({**told, "disputed": list(done.disputed)})
            return
        left = f", {done.n_open:,} left without a label" if done.n_open else ""
        typer.echo(f"{done.file}: {done.n_new:,} labels taken over{left}; {done.n_rows:,} reviewed rows in all")
        if done.disputed:
            some = ", ".join(done.disputed[:5])
            typer.echo(f"warning: {len(done.disputed):,} rows stay open, people disagree: {some}", err=True)


def _set_aside_torn_line(journal: "DecisionJournal") -> None:
    kept = journal.set_aside_torn_line()
    if kept is not None:
        typer.echo(f"warning: {journal.path}: the last line had no end; it is in {kept} now, look at it", err=True)


def _what_next(name: str, file: Path, wanted: "Format | None") -> str:
    from factory.labelling.review import Format
    from flows.review import interface_file

    if wanted is Format.LABEL_STUDIO:
        interface = interface_file(file)
        first = f"give a Label Studio project the interface in {interface} and these tasks, export it as JSON"
    elif wanted is Format.ARGILLA:
        first = "log them to an Argilla dataset, export it with `dataset.records.to_json`"
    else:
        return f"fill in `label`, then: factory review {name} import {file}"
    return f"{first}, then: factory review {name} import THAT_FILE"


def _serve_review(name: str, outputs: Path, port: int, by: str | None, *, json_: bool) -> None:
    from factory.reviewing.run import serve_review
    from flows.review import make_desk, open_review, who_reviews

    task = open_review(name)
    who = who_reviews(task.folder, by)
    _set_aside_torn_line(task.journal)
    desk = make_desk(task, outputs, by=who)

    def started(address: str) -> None:
        n_rows = desk.progress()["n_rows"]
        if json_:
            print_json({"name": task.spec.name, "rows": n_rows, "by": who, "url": address}, indent=None)
            return
        typer.echo(f"{task.spec.name}: {n_rows:,} rows for {who}; Ctrl-C stops, what is saved stays\n{address}")

    serve_review(desk, outputs / task.spec.name, port, started=started)
    settled, people = task.said()
    if settled.standing and not json_:
        said = ", ".join(f"{person} {n:,}" for person, n in people.items())
        typer.echo(f"{task.journal.path}: version {task.version}, {len(settled.standing):,} decisions ({said})")
        typer.echo(f"the next build trains on them: factory build {task.folder}")
