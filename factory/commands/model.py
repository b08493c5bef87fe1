"""What is done with a built model: answer with it, list its versions."""

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.commands.bulk import is_bulk, predict_files
from factory.commands.completion import model_names
from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Name, Outputs, Version, only_text, print_json
from factory.errors import FactoryError

if TYPE_CHECKING:
    from factory.release.predict import Answering


def predict(
    name: Name,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="Texts; without any: stdin.")] = None,
    in_: Annotated[Path | None, typer.Option("--in", metavar="FILE", help="Parquet, CSV or JSONL to read.")] = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="To write, of the same format; JSONL default: stdout."),
    ] = None,
    outputs: Annotated[Path, typer.Option("--outputs", help="Where builds are.")] = DEFAULT_OUTPUTS,
    version: Version = None,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Answer in tiers: the LLM is asked what no student is sure about.")
    ] = False,
    task: Annotated[
        Path | None, typer.Option("--task", metavar="DIR", help="With --cascade: who the LLM is; default: tasks/NAME.")
    ] = None,
    column: Annotated[str, typer.Option("--column", help="Where a file has its texts.")] = "text",
    dask: Annotated[
        str | None,
        typer.Option("--dask", metavar="ADDRESS", help="Scheduler of a Dask cluster whose workers answer."),
    ] = None,
    json_: AsJson = False,
) -> None:
    """Answer texts, or rows of a table, with a built model: no PyTorch, and no LLM unless --cascade is given.

    A file may be of any size, and the same command resumes it.

    Examples:
        factory predict snips_intent "play some jazz"

        factory predict snips_intent --in texts.jsonl --out labelled.jsonl

        factory predict snips_intent --cascade "play some jazz"

        factory predict snips_intent --in big.parquet --out labelled.parquet --column message

        factory predict german_credit --in rows.jsonl

        factory predict german_credit '{"age": 35, "purpose": "new car", "amount": 1000}'
    """
    from factory.serving.predictor import load

    if in_ is not None and texts:
        raise typer.BadParameter("give texts or --in, not both")
    if to is not None and in_ is None:
        raise typer.BadParameter("--out goes with --in")
    if in_ is not None and to is not None and is_bulk(in_, to) and not cascade:
        predict_files(outputs, name, version, in_, to, column=column, dask=dask, json_=json_)
        return
    if dask is not None or column != "text":
        raise typer.BadParameter(
            "--column and --dask go with --in and --out: two files in Parquet, CSV or JSONL, no cascade"
        )
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # whatever the locale says
    if task is not None and not cascade:
        raise typer.BadParameter("--task goes with --cascade")
    asked = None if in_ is not None else only_text(texts or [line.rstrip("\r\n") for line in sys.stdin])
    if not cascade:
        _answer(load(outputs, name, version), asked, in_, to, json_=json_)
        return
    from factory.serving.cascade import find_cascade, open_cascade
    from flows.cascading import asking

    folder, described = find_cascade(outputs, name, version)
    if not described.is_certified:
        typer.echo("warning: no thresholds of this cascade were certified: the LLM is asked everything", err=True)
    with asking(task or Path("tasks") / name, described, outputs) as fallback:
        _answer(open_cascade(folder, described, fallback=fallback), asked, in_, to, json_=json_)


def _answer(model: "Answering", asked: list[str] | None, in_: Path | None, to: Path | None, *, json_: bool) -> None:
    """Print or write the answers to some texts, or to those of a file."""
    from factory.release.predict import ArtifactError, answer_file, answers_rows, in_short, read_arguments

    try:
        if in_ is not None:
            answer_file(model, in_, to)
            return
        rows = read_arguments(model, asked or [])
        answers = model.predict(rows)
    except ArtifactError as error:  # of the stand-alone program, which knows nothing of the factory
        raise FactoryError(str(error)) from error
    for row, answer in zip(rows, answers, strict=True):
        text = json.dumps(row, ensure_ascii=False) if answers_rows(model) else row
        if json_:
            print_json({**(row if answers_rows(model) else {"text": row}), **answer}, indent=None)
        else:
            tier = f"{answer['tier']}\t" if "tier" in answer else ""
            typer.echo(f"{in_short(answer)}\t{tier}{text}")


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Name of a built task; default: all.", autocompletion=model_names),
    ] = None,
    out: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
) -> None:
    """List the versions of a built model, or of all, with their aliases, scores and folders.

    Examples:
        factory models

        factory models snips_intent
    """
    from factory.release.registry import Registry

    registry = Registry(out)
    versions = [version for one in ([name] if name else registry.names()) for version in registry.versions(one)]
    if not versions:
        said = f"{name}: no version is registered in {out}" if name else f"{out}: no model is registered here"
        raise FactoryError(said, hint=f"factory build tasks/{name or 'NAME'}")
    if json_:
        print_json([{**version.model_dump(mode="json"), "path": str(out / version.path)} for version in versions])
        return
    for version in versions:
        scores = "  ".join(f"{score} {value:.3f}" for score, value in sorted(version.metrics.items()))
        head = f"version {version.version}" if name else f"{version.name} version {version.version}"
        typer.echo(f"{head}  {','.join(version.aliases) or '-'}  {scores}  {out / version.path}")
        for move in version.moves:
            typer.echo(f"  {'' if move.how == 'reject' else 'champion '}{move.summary}")
