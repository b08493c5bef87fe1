"""`factory watch` and `factory improve`: are the texts of production still those the model was made for, and if not?"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Name, Outputs, TaskFolder, Version, print_json

DRIFT = 3
"""The exit code when drift is found."""


class Against(StrEnum):
    """Rows of the build that production is compared with."""

    TRAINING = "training"
    HOLDOUT = "holdout"


def watch(
    name: Name,
    log: Annotated[Path, typer.Option("--log", metavar="FILE", help="JSONL with a `text` a line.")],
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE.html", help="Also write a page.")] = None,
    against: Annotated[
        Against | None, typer.Option("--against", help="Default: the holdout, else the training rows.")
    ] = None,
    version: Version = None,
    with_texts: Annotated[bool, typer.Option("--with-texts", help="Put texts into the order, not only ids.")] = False,
    outputs: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
) -> None:
    """Compare the texts of a log with those the model was judged on, and order the data it lacks.

    Exit code 0: no drift is shown; 3: drift. Only then an order is written.

    Examples:
        factory watch snips_intent --log answered.jsonl

        factory watch snips_intent --log answered.jsonl --report drift.html --with-texts
    """
    from factory.console import watching
    from factory.evaluation.drift_report import render_drift
    from factory.evaluation.order import write_order
    from factory.serving.watch import watch as watch_model

    with watching(quiet=json_):
        found = watch_model(
            outputs, name, log, version=version, against=against and against.value, with_texts=with_texts
        )
    drift, order = found.drift, found.order
    written = write_order(order, outputs / name / "orders") if drift.found else None
    if report is not None:
        title = f"{name}, version {order.version}"
        report.write_text(render_drift(drift, order, title=title, reference=found.reference), encoding="utf-8")
    if json_:
        told = drift.model_dump(mode="json", exclude={"points", "top"})
        print_json({"verdict": drift.sentence, "drift": told, "order": None if written is None else str(written)})
    else:
        typer.echo(f"{drift.sentence[0].upper()}{drift.sentence[1:]}, against {found.reference}.")
        for test in drift.tests:
            typer.echo(f"  {test.name}: p = {test.p:.3g}, {test.what} {test.statistic:.4g}")
        for one in order.labels if written else ():
            typer.echo(f"  wanted: {one.n_rows:,} rows of {one.label}: {one.why}")
        if written:
            typer.echo(f"order: {written}")
    if drift.found:
        raise typer.Exit(DRIFT)


def improve(
    folder: TaskFolder,
    order: Annotated[
        Path | None, typer.Option("--order", metavar="FILE", help="Default: the newest that `watch` wrote.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE", help="The log it was made from; its texts are taken.")
    ] = None,
    build: Annotated[bool, typer.Option("--build/--no-build", help="Build afterwards, and compare.")] = True,
    outputs: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
) -> None:
    """Fill an order: put its texts beside the spec, have the teacher label them, build, and compare with what was.

    Examples:
        factory improve tasks/snips_intent --log answered.jsonl

        factory improve tasks/snips_intent --order order.json --no-build    # look at ordered.jsonl first
    """
    from factory.commands.task import run_build
    from flows.improve import compared_with_watched, fill_order, filled_lines

    filled = fill_order(folder, outputs, order=order, log=log)
    if not json_:
        for line in filled_lines(filled):
            typer.echo(line)
    built = run_build(folder, outputs, as_json_lines=False, quiet=json_) if build else None
    compared = compared_with_watched(outputs, filled.order, built.version.version) if built else None
    if json_:
        told = {
            "file": str(filled.file),
            "n_new": filled.n_new,
            "n_rows": filled.n_rows,
            "version": built and built.version.version,
            "verdict": compared and compared.sentence,
            "comparison": compared and compared.model_dump(mode="json"),
        }
        print_json(told)
    elif not build:
        typer.echo(f"next: factory build {folder}")
    elif compared is not None:
        typer.echo(f"On the holdout, {compared.sentence}. `factory promote` and `factory rollback` move the champion.")
