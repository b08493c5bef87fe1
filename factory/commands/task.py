"""What is done to a task folder: check it, plan it, build it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Outputs, TaskFolder, print_json

if TYPE_CHECKING:
    from factory.spec import Spec
    from flows.outcome import Outcome


def check(folder: TaskFolder, json_: AsJson = False) -> None:
    """Find every error in a task folder at once; nothing is asked or spent.

    Example: factory check tasks/snips_intent
    """
    from factory.check import check_task

    task = check_task(folder)
    if json_:
        print_json({"name": task.spec.name, "warnings": list(task.warnings)})
        return
    for warning in task.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"{task.spec.name}: ok, {_in_short(task.spec)}")
    typer.echo(f"next: factory plan {folder}", err=True)


def _in_short(spec: "Spec") -> str:
    """Say what is asked: how many labels, or which number."""
    labels = f"{len(spec.labels)} labels"
    if spec.table is None:
        return labels
    target, unit = spec.table.target.column, spec.table.target.unit
    asked = labels if spec.labels else f"a number, {target}{f' in {unit}' if unit else ''}"
    return f"{asked}, from {len(spec.table.columns)} columns"


def schema() -> None:
    """Print the JSON Schema of spec.yaml, for editors.

    Example: factory schema > docs/spec.schema.json
    """
    from factory.spec import spec_schema

    print_json(spec_schema())


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
        print_json(planned.as_json())
    else:
        print_plan(planned)
        typer.echo(f"next: factory build {folder}{_where(out)}", err=True)


def build(
    folder: TaskFolder,
    out: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only the verdict.")] = False,
) -> None:
    """Build, judge and register a small model; resumes after any stop without paying twice.

    Example: factory build tasks/snips_intent
    """
    outcome = run_build(folder, out, as_json_lines=json_, quiet=quiet)
    if json_:
        print_json(outcome.as_json(), indent=None)
    else:
        from flows.outcome import print_outcome

        print_outcome(outcome)
        report = outcome.folder / "report.html"
        typer.echo(f"next: open {report}; `factory predict {outcome.version.name} --help` shows how to ask the model")


def run_build(folder: Path, out: Path, *, as_json_lines: bool, quiet: bool) -> "Outcome":
    """Build a task folder with Prefect's server beside it, showing what happens."""
    from factory.check import check_task
    from factory.console import watching

    task = check_task(folder)  # before Prefect is imported: a wrong spec should not take seconds to say so
    for warning in task.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if not (as_json_lines or quiet):
        typer.echo("prefect: starting, which takes some seconds", err=True)
    with watching(as_json_lines=as_json_lines, quiet=quiet):
        from flows.server import prefect_server

        with prefect_server(out) as wait_for_server:
            from flows.build import build as build_flow  # takes as long as the server needs to start

            wait_for_server()
            return build_flow(folder, out)


def _where(out: Path) -> str:
    """Return the option that names these outputs, where it is needed."""
    return "" if out == DEFAULT_OUTPUTS else f" --outputs {out}"
