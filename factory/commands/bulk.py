"""`factory predict` on a file: which way it is read, and by whom it is answered."""

from pathlib import Path

import typer

from factory.commands.options import print_json


def is_bulk(source: Path, target: Path) -> bool:
    """Return whether a file is labelled part by part: not a pipe, a stream, or a file of another kind."""
    if {source.suffix.lower(), target.suffix.lower()} & {".parquet", ".csv"}:
        return True
    both = source.suffix.lower() == target.suffix.lower() == ".jsonl"
    return both and source.is_file() and (target.is_file() or not target.exists())


def predict_files(
    outputs: Path,
    name: str,
    version: str | None,
    source: Path,
    target: Path,
    *,
    column: str,
    dask: str | None,
    json_: bool,
) -> None:
    """Label a file of any size; see docs/how-to/bulk.md."""
    from factory.console import watching
    from factory.release.files import Files
    from factory.release.registry import Registry
    from factory.serving.bulk import answer_here, predict_file
    from factory.serving.bulk_formats import ANSWER_COLUMNS, NUMBER_COLUMNS
    from factory.serving.predictor import open_release
    from factory.store import Artifact

    release = Registry(outputs).resolve(name, version)
    model = Artifact(release, Files, was_cached=True).content_hash
    predictor = open_release(release)
    if dask is None:
        answer_all = answer_here(predictor)
    else:
        from factory.serving.bulk_dask import answer_on_dask

        answer_all = answer_on_dask(dask, release, model)
    with watching(quiet=json_):
        done = predict_file(
            source,
            target,
            answer_all,
            model=model,
            column=None if predictor.is_table else column,
            answers=ANSWER_COLUMNS if predictor.labels else NUMBER_COLUMNS,
        )
    if json_:
        told = {"file": str(target), "rows": done.n_rows, "seconds": done.seconds}
        print_json({**told, "parts": done.n_parts, "parts_resumed": done.n_resumed})
        return
    resumed = f", {done.n_resumed:,} of {done.n_parts:,} parts from an earlier run" if done.n_resumed else ""
    typer.echo(f"{target}: {done.n_rows:,} rows in {done.seconds:.1f} s{resumed}", err=True)
