"""Whether a built model is good enough to replace the LLM."""

from pathlib import Path
from typing import Annotated

import typer

from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Name, Outputs, Version, print_json


def verdict(
    name: Name,
    version: Version = None,
    task: Annotated[
        Path | None, typer.Option("--task", metavar="DIR", help="Task folder, for prices; default: tasks/NAME.")
    ] = None,
    out: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
) -> None:
    """Say whether to replace the LLM, put a cascade in front of it, or keep it; asks nobody.

    The exit code is 0 to replace, 3 for the cascade, 4 to keep; 1 and 2 are errors as everywhere. Of a table whose rows
    no LLM answered: 0 where the model is surely better than no learning, else 5.

    Examples:
        factory verdict snips_intent

        factory verdict snips_intent --version champion --json
    """
    from factory.spec import VerdictSpec
    from factory.spec_file import SPEC_FILE, load_spec
    from flows.verdict import print_verdict, read_verdict

    folder = task or Path("tasks") / name
    # A release may be judged where its task folder is not; then no prices are known.
    spec = load_spec(folder) if task is not None or (folder / SPEC_FILE).is_file() else None
    settings, prices = (spec.verdict, spec.teacher.known_prices) if spec else (VerdictSpec(), None)
    found = read_verdict(out, name, version, settings, prices)
    if json_:
        print_json(found.as_json())
    else:
        print_verdict(found)
    raise typer.Exit(found.decision.choice.exit_code)
