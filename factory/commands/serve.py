"""`factory serve`: answer over HTTP."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Name, Outputs, Version, print_json

if TYPE_CHECKING:
    from factory.serving.http.live import Opened


def serve(
    name: Name,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one, printed at the start.")] = 8000,
    version: Version = None,
    key_env: Annotated[
        str | None,
        typer.Option("--key-env", metavar="VARIABLE", help="Environment variable with the API key [FACTORY_API_KEY]."),
    ] = None,
    allow_no_key: Annotated[bool, typer.Option("--allow-no-key", help="Let anybody ask who reaches --host.")] = False,
    log_texts: Annotated[
        Path | None, typer.Option("--log-texts", metavar="FILE", help="Append every text and its answer, as JSONL.")
    ] = None,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Answer in tiers: the LLM is asked what no student is sure about.")
    ] = False,
    task: Annotated[
        Path | None, typer.Option("--task", metavar="DIR", help="With --cascade: who the LLM is; default: tasks/NAME.")
    ] = None,
    out: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
) -> None:
    """Answer over HTTP with the champion, and switch when another version becomes it.

    Examples:
        factory serve snips_intent

        curl -s localhost:8000/v1/predict -H 'content-type: application/json' -d '{"texts": ["play some jazz"]}'

        factory serve snips_intent --cascade

        FACTORY_API_KEY=$(cat key) factory serve snips_intent --host 0.0.0.0

    A program that asks an LLM to classify needs only another base_url: http://127.0.0.1:8000/v1
    """
    if task is not None and not cascade:
        raise typer.BadParameter("--task goes with --cascade")
    from factory.serving.http.run import serve as run
    from factory.serving.http.settings import Settings, read_key

    def started(opened: "Opened", port: int) -> None:
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if json_:
            print_json({"name": opened.name, "version": opened.version, "url": url}, indent=None)
        else:
            typer.echo(f"{opened.name} version {opened.version} answers at {url}; Ctrl-C stops it")

    settings = Settings(
        name=name,
        outputs=out,
        wanted=version,
        host=host,
        port=port,
        key=read_key(key_env),
        allow_no_key=allow_no_key,
        log_texts=log_texts,
        in_tiers=cascade,
    )
    if not cascade:
        run(settings, started=started)
        return
    from factory.serving.cascade import find_cascade
    from factory.serving.http.tiers import in_tiers
    from flows.cascading import asking

    settings.check()  # before a teacher is started
    _, described = find_cascade(out, name, version)
    if not described.is_certified:
        typer.echo("warning: no thresholds of this cascade were certified: the LLM is asked everything", err=True)
    with asking(task or Path("tasks") / name, described, out) as fallback:
        run(settings, started=started, wrap=in_tiers(described, fallback))
