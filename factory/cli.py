"""The command line. Heavy imports wait inside the commands, so that `--help` answers at once.

Exit codes are those of docs/reference/exit-codes.md. With --json an error is also an object on standard output.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from factory import __version__
from factory.commands.cache import cache_app
from factory.commands.completion import completion
from factory.commands.explain import explain
from factory.commands.export import export
from factory.commands.init import init
from factory.commands.model import models, predict
from factory.commands.options import print_json
from factory.commands.registry import compare, promote, rollback
from factory.commands.rows import review, why
from factory.commands.serve import serve
from factory.commands.task import build, check, plan, schema
from factory.commands.ui import deploy, ui
from factory.commands.verdict import verdict
from factory.commands.watch import improve, watch
from factory.errors import FactoryError, Problem

app = typer.Typer(
    name="factory",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

STOPPED = 130
"""What typer ends with on Ctrl-C, without a word, and shells too."""


def main() -> None:
    """Run the command line and turn every expected error into one message and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what a build started is ended with it
    # OpenMP reads it when a library is loaded. Threads that spin while they wait for each other make boosting take
    # several times the CPU on a machine that others use too (docs/log.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:]
    debug = "--debug" in arguments or os.environ.get("FACTORY_DEBUG") == "1"
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        app(args=arguments, prog_name="factory")
    except Exception as error:
        if debug:
            raise
        failed = failure(error)
        typer.echo(f"error: {failed.message}", err=True)
        if failed.hint:
            typer.echo(f"  hint: {failed.hint}", err=True)
        if "--json" in arguments:
            print_json(failed.as_json(), indent=None)
        sys.exit(failed.exit_code)
    except SystemExit as stop:
        if stop.code == STOPPED:
            typer.echo("\nstopped; nothing paid for is lost: run the same command again to go on", err=True)
        raise


@dataclass(frozen=True)
class Failure:
    """How a command failed."""

    message: str
    hint: str
    exit_code: int
    problems: tuple[Problem, ...] = ()
    """Of a task folder: each with its file and line."""

    def as_json(self) -> dict[str, object]:
        """Return what programs read; `build --json` ends with it in place of the verdict."""
        problems = [{**asdict(problem), "file": str(problem.file)} for problem in self.problems]
        told = {"event": "Error", "error": self.message, "hint": self.hint, "exit_code": self.exit_code}
        return {**told, "problems": problems}


def failure(error: Exception) -> Failure:
    """Say what went wrong in words for a person."""
    if isinstance(error, FactoryError):
        return Failure(str(error), error.hint, error.exit_code, getattr(error, "problems", ()))
    if isinstance(error, OSError):
        return Failure(f"{error.filename or 'the system'}: {error.strerror or error}", "", 1)
    first_line = str(error).partition("\n")[0][:300]
    return Failure(f"{type(error).__name__}: {first_line}", "this was not foreseen; --debug shows where it happened", 1)


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Turn a task description into a small model: an LLM writes the data, small models do the work.

    Start with `factory check DIR`, then `factory plan DIR`, then `factory build DIR`; `factory COMMAND --help` has
    examples. Add --debug to any command for the traceback of an error.

    Exit codes: 0 done, 1 an error, 2 the task folder or the command line is wrong, 130 stopped by Ctrl-C (the same
    command goes on). 3 to 5 are answers of `verdict` and `watch`.

    Examples:
        factory check tasks/tiny

        factory build tasks/tiny

        factory predict tiny "where is my parcel?"
    """
    if version:
        typer.echo(__version__)
        raise typer.Exit


COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Build a model": (init, check, schema, plan, build),
    "Follow and approve in a browser": (ui, deploy),
    "Use it": (predict, explain, serve, export),
    "Decide about it": (verdict, compare, models, promote, rollback, watch, improve),
    "Look into rows and replies": (why, review),
}
"""What `--help` lists under which heading, in this order."""
for heading, listed in COMMANDS.items():
    for command in listed:
        app.command(rich_help_panel=heading)(command)
app.add_typer(cache_app, rich_help_panel="Look into rows and replies")
app.command(rich_help_panel="For your shell")(completion)


if __name__ == "__main__":
    main()
