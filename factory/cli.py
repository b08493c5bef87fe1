"""The command line. Heavy imports wait inside the commands, so that `--help` answers at once.

Exit codes: 0 done, 1 an error that is said in one line, 2 the task folder or the command is wrong, 130 stopped by
Ctrl-C (the same command resumes).
"""

import io
import json
import os
import signal
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from factory import __version__
from factory.errors import FactoryError

app = typer.Typer(
    name="factory",
    help="Turn a task description into a small model: an LLM writes the data, small models do the work.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

cache_app = typer.Typer(name="cache", help="Look into the reply store, and prune it.", no_args_is_help=True)
app.add_typer(cache_app)

TaskFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Task folder, such as tasks/snips_intent.")]
Outputs = Annotated[Path, typer.Option("--out", "--outputs", metavar="OUTPUTS", help="Where results and models go.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON for programs instead of text for people.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a built task, such as snips_intent.")]

DEFAULT_OUTPUTS = Path("outputs")
STOPPED = 130
"""What typer ends with on Ctrl-C, without a word, and shells too."""


def main() -> None:
    """Run the command line and turn every expected error into one message and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what a build started is ended with it
    arguments = sys.argv[1:]
    debug = "--debug" in arguments or os.environ.get("FACTORY_DEBUG") == "1"
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        app(args=arguments, prog_name="factory")
    except FactoryError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        if error.hint:
            typer.echo(f"  hint: {error.hint}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if debug:
            raise
        typer.echo(f"error: {error.filename or 'the system'}: {error.strerror or error}", err=True)
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        first_line = str(error).partition("\n")[0][:300]
        typer.echo(f"error: {type(error).__name__}: {first_line}", err=True)
        typer.echo("  hint: this was not foreseen; --debug shows where it happened", err=True)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == STOPPED:
            typer.echo("\nstopped; nothing paid for is lost: run the same command again to go on", err=True)
        raise


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Turn a task description into a small model: an LLM writes the data, small models do the work.

    Start with `factory check DIR`, then `factory plan DIR`, then `factory build DIR`. Add --debug to any command for
    the traceback of an error.
    """
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def check(folder: TaskFolder, json_: AsJson = False) -> None:
    """Find every error in a task folder at once; nothing is asked or spent.

    Example: factory check tasks/snips_intent
    """
    from factory.check import check_task

    task = check_task(folder)
    if json_:
        _print_json({"name": task.spec.name, "warnings": list(task.warnings)})
        return
    for warning in task.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"{task.spec.name}: ok, {len(task.spec.labels)} labels")


@app.command()
def schema() -> None:
    """Print the JSON Schema of spec.yaml, for editors.

    Example: factory schema > docs/spec.schema.json
    """
    from factory.spec import spec_schema

    _print_json(spec_schema())


@app.command()
def plan(folder: TaskFolder, out: Outputs = DEFAULT_OUTPUTS, json_: AsJson = False) -> None:
    """Show the stages, what is cached and why the rest is not, and what a build would cost. Asks the teacher nothing.

    Example: factory plan tasks/snips_intent
    """
    from factory.check import check_task
    from flows.plan import make_plan, print_plan
    from flows.room import check_folder

    check_folder(out)
    planned = make_plan(check_task(folder), out)
    if json_:
        _print_json(planned.as_json())
    else:
        print_plan(planned)


@app.command()
def build(
    folder: TaskFolder,
    out: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only the verdict.")] = False,
) -> None:
    """Build, judge and register a small model; resumes after any stop without paying twice.

    Example: factory build tasks/snips_intent
    """
    from factory.check import check_task
    from factory.console import watching

    task = check_task(folder)  # before Prefect is imported: a wrong spec should not take seconds to say so
    for warning in task.warnings:
        typer.echo(f"warning: {warning}", err=True)
    with watching(as_json_lines=json_, quiet=quiet):
        from flows.server import prefect_server

        with prefect_server(out) as wait_for_server:
            from flows.build import build as build_flow  # takes as long as the server needs to start

            wait_for_server()
            outcome = build_flow(folder, out)
    if json_:
        _print_json(outcome.as_json(), indent=None)
    else:
        from flows.outcome import print_outcome

        print_outcome(outcome)


@app.command()
def predict(
    name: Name,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="Texts; without any: stdin.")] = None,
    in_: Annotated[Path | None, typer.Option("--in", metavar="FILE", help="JSONL with a `text` a line.")] = None,
    to: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="JSONL to write; default: stdout.")] = None,
    outputs: Annotated[Path, typer.Option("--outputs", help="Where builds are.")] = DEFAULT_OUTPUTS,
    version: Annotated[str | None, typer.Option(help="Version or alias; default: champion, else candidate.")] = None,
    json_: AsJson = False,
) -> None:
    """Label texts with a built model: no LLM, no PyTorch.

    Examples:
        factory predict snips_intent "play some jazz"

        factory predict snips_intent --in texts.jsonl --out labelled.jsonl
    """
    from factory.release.predict import ArtifactError, answer_file
    from factory.serving.predictor import load

    if in_ is not None and texts:
        raise typer.BadParameter("give texts or --in, not both")
    if to is not None and in_ is None:
        raise typer.BadParameter("--out goes with --in")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # whatever the locale says
    predictor = load(outputs, name, version)
    if in_ is not None:
        try:
            answer_file(predictor, in_, to)
        except ArtifactError as error:  # of the stand-alone program, which knows nothing of the factory
            raise FactoryError(str(error)) from error
        return
    asked = _only_text(texts or [line.rstrip("\r\n") for line in sys.stdin])
    for text, answer in zip(asked, predictor.predict(asked), strict=True):
        if json_:
            _print_json({"text": text, **answer}, indent=None)
        else:
            typer.echo(f"{answer['label']}\t{answer['probability']:.3f}\t{text}")


@app.command()
def models(name: Name, out: Outputs = DEFAULT_OUTPUTS, json_: AsJson = False) -> None:
    """List the versions of a built model with their aliases, scores and folders.

    Example: factory models snips_intent
    """
    from factory.release.registry import Registry

    versions = Registry(out).versions(name)
    if not versions:
        raise FactoryError(f"{name}: no version is registered in {out}", hint=f"factory build tasks/{name}")
    if json_:
        _print_json([{**version.model_dump(mode="json"), "path": str(out / version.path)} for version in versions])
        return
    for version in versions:
        scores = "  ".join(f"{score} {value:.3f}" for score, value in sorted(version.metrics.items()))
        typer.echo(f"version {version.version}  {','.join(version.aliases) or '-'}  {scores}  {out / version.path}")


@cache_app.command()
def stats(out: Outputs = DEFAULT_OUTPUTS, json_: AsJson = False) -> None:
    """Count replies, tokens and seconds by endpoint and model, damaged lines, and failures by reason.

    Example: factory cache stats
    """
    from flows.cache import print_stats, read_stats

    found = read_stats(out)
    if json_:
        _print_json(found.as_json())
    else:
        print_stats(found)


@cache_app.command()
def explain(folder: TaskFolder, out: Outputs = DEFAULT_OUTPUTS, json_: AsJson = False) -> None:
    """Say what a build would ask now that is not stored, and which part of the key differs from what is.

    Asks the teacher nothing and stores nothing.

    Example: factory cache explain tasks/snips_intent
    """
    from factory.check import check_task
    from flows.explain import explain as explain_task
    from flows.explain import print_explanation

    explained = explain_task(check_task(folder), out)
    if json_:
        _print_json(explained.as_json())
    else:
        print_explanation(explained)


@cache_app.command()
def prune(
    out: Outputs = DEFAULT_OUTPUTS,
    older_than: Annotated[
        float | None, typer.Option("--older-than", metavar="DAYS", min=0, help="Delete only replies older than this.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without it they are only counted.")] = False,
    json_: AsJson = False,
) -> None:
    """Delete replies that the newest build of no task used; without --yes only say which. Not while a build runs.

    Example: factory cache prune --older-than 30
    """
    from flows.cache import plan_pruning, print_pruning, prune_replies

    pruning = plan_pruning(out, older_than_days=older_than)
    if yes:
        prune_replies(out, pruning)
    if json_:
        _print_json({**pruning.as_json(), "deleted": yes})
    else:
        print_pruning(pruning, deleted=yes)


@app.command()
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
            _print_json([asdict(one) for one in rows])
            return
        for one in rows:
            typer.echo(f"{one.id}\t{one.state}\t{one.label or ''}\t{shorten(one.text)}")
        return
    told = why_row(_only_text([row])[0], out, task=task)
    if json_:
        _print_json(told.as_json())
    else:
        print_why(told)


class ReviewAction(StrEnum):
    """What to do with the rows nobody agreed on."""

    EXPORT = "export"
    IMPORT = "import"


@app.command()
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


def _only_text(texts: list[str]) -> list[str]:
    """Refuse bytes that are no UTF-8, which Python smuggles into arguments and standard input as half characters."""
    for position, text in enumerate(texts, start=1):
        if not text.isascii() and any("\ud800" <= mark <= "\udfff" for mark in text):
            raise FactoryError(f"text {position}: not UTF-8: {text!r}")
    return texts


def _print_json(value: object, *, indent: int | None = 2) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=indent))


if __name__ == "__main__":
    main()
