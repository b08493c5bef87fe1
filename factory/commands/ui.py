"""Runs that are started and followed in a browser: `factory ui` on one machine, `factory deploy` on a server."""

from pathlib import Path
from typing import Annotated

import typer

from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Outputs, print_json

Tasks = Annotated[Path, typer.Option("--tasks", metavar="DIR", help="Folder of the task folders.")]
DEFAULT_TASKS = Path("tasks")
Port = Annotated[int, typer.Option(min=0, max=65535, help="0: any; if it is taken, the next that is free.")]


def ui(
    tasks: Tasks = DEFAULT_TASKS,
    out: Outputs = DEFAULT_OUTPUTS,
    port: Port = 4200,
    mlflow_port: Port = 5000,
    reports_port: Port = 4280,
    json_: AsJson = False,
) -> None:
    """Start pages to run, follow and approve builds in: Prefect, MLflow and the reports. Ctrl-C ends them all.

    They answer on this machine only (127.0.0.1), without a password. Runs that go on when it ends are cancelled;
    nothing is lost: started again, they go on where they were.

    Examples:
        factory ui

        factory ui --tasks my-tasks --out results --port 4300
    """
    from flows.ui import Ports, pages

    def say(message: str) -> None:
        typer.echo(message, err=True)

    say("starting (half a minute the first time) ...")
    try:
        with pages(tasks, out, Ports(port, mlflow_port, reports_port), say) as running:
            found = running.addresses
            if json_:
                print_json(found.as_json(), indent=None)
            else:
                typer.echo(f"runs     {found.prefect}/v2/deployments   (open one, then Run, Custom run)")
                typer.echo(f"models   {found.mlflow}/#/models")
                typer.echo(f"reports  {found.reports}/")
                typer.echo("Ctrl-C ends all of them.")
            running.wait()
    except KeyboardInterrupt:
        say("ended; runs that went on were cancelled, and go on when they are run again")


def deploy(
    pool: Annotated[str, typer.Option("--pool", metavar="NAME", help="Work pool of type `process`.")],
    tasks: Tasks = DEFAULT_TASKS,
    out: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
) -> None:
    """Register the flows on the Prefect server of PREFECT_API_URL, for the workers of a pool.

    The workers run on machines where the factory is installed, and see the same folders of tasks and outputs.

    Example: factory deploy --pool factory
    """
    from flows.registering import register_all

    done = register_all(pool, tasks, out)
    if json_:
        print_json(done)
        return
    for name, url in done.items():
        typer.echo(f"{name}  {url}")
    typer.echo(f"start a worker, if there is none: prefect worker start --pool {pool}", err=True)
