"""The command line. Heavy imports wait inside the commands, so that `--help` answers at once.

Exit codes: 0 done, 1 an error that is said in one line, 2 the task folder or the command is wrong, 130 stopped by
Ctrl-C (the same command resumes). `factory verdict` also ends with 3 (cascade) and 4 (keep the LLM), `factory watch`
with 3 (drift).
"""

import os
import signal
import sys
from typing import Annotated

import typer

from factory import __version__
from factory.commands.cache import cache_app
from factory.commands.explain import explain
from factory.commands.export import export
from factory.commands.init import init
from factory.commands.model import models, predict
from factory.commands.registry import compare, promote, rollback
from factory.commands.rows import review, why
from factory.commands.serve import serve
from factory.commands.task import build, check, plan, schema
from factory.commands.verdict import verdict
from factory.commands.watch import improve, watch
from factory.errors import FactoryError

app = typer.Typer(
    name="factory",
    help="Turn a task description into a small model: an LLM writes the data, small models do the work.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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


TASKS = (init, check, schema, plan, build)
MODELS = (predict, explain, serve, verdict, watch, improve, models, compare, promote, rollback, export)
ROWS = (why, review)
for command in (*TASKS, *MODELS, *ROWS):
    app.command()(command)
app.add_typer(cache_app)


if __name__ == "__main__":
    main()
