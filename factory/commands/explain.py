"""`factory explain`: what spoke for an answer, column by column or word by word."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Name, Outputs, Version, only_text, print_json
from factory.errors import FactoryError

SHOWN = 8
"""Columns or words shown of one answer; --json has all."""


def explain(
    name: Name,
    rows: Annotated[list[str] | None, typer.Argument(metavar="ROW...", help="Rows as JSON objects; or texts.")] = None,
    in_: Annotated[Path | None, typer.Option("--in", metavar="FILE.jsonl", help="Rows to read.")] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Of a table: explain this label, not the answer.")
    ] = None,
    out: Outputs = DEFAULT_OUTPUTS,
    version: Version = None,
    json_: AsJson = False,
) -> None:
    """Say what each column of a row added to its answer, or each word of a text.

    Of a table the shares are exact: with what the model says on average they add up to its score.

    Examples:
        factory explain german_credit '{"age": 35, "purpose": "new car", ...}'

        factory explain german_credit --in rows.jsonl --json

        factory explain snips_intent "play some jazz"
    """
    from factory.release.predict import ArtifactError, Predictor, read_arguments, read_file
    from factory.serving.explain import explain_text
    from factory.serving.predictor import load

    if (in_ is None) == (not rows):
        raise typer.BadParameter("give rows or --in")
    predictor: Predictor = load(out, name, version)
    if label is not None and not predictor.is_table:
        raise typer.BadParameter("--label is for tables")
    try:
        asked = read_file(predictor, in_) if in_ is not None else read_arguments(predictor, only_text(rows or []))
        if predictor.is_table:
            found = predictor.explain(asked, label)
        else:
            found = [explain_text(text, predictor.predict) for text in asked]
    except ArtifactError as error:  # of the stand-alone program, which knows nothing of the factory
        raise FactoryError(str(error)) from error
    for one in found:
        if json_:
            print_json(one, indent=None)
        else:
            typer.echo("\n".join(_table_lines(one) if predictor.is_table else _text_lines(one)))


def _table_lines(found: dict[str, Any]) -> list[str]:
    """Write the sentence, then each share: in units of the number, or by how much it multiplies the odds."""
    lines = [found["summary"]]
    for one in found["shares"][:SHOWN]:
        share = one["share"]
        effect = f"{share:+.4g} {found['unit']}".rstrip() if "unit" in found else f"odds x {math.exp(share):.2f}"
        lines.append(f"  {effect:>14}  {one['words']}")
    rest = sum(one["share"] for one in found["shares"][SHOWN:])
    if found["shares"][SHOWN:]:
        effect = f"{rest:+.4g} {found['unit']}".rstrip() if "unit" in found else f"odds x {math.exp(rest):.2f}"
        lines.append(f"  {effect:>14}  {len(found['shares']) - SHOWN} other columns")
    return lines


def _text_lines(found: dict[str, Any]) -> list[str]:
    words = sorted(found["words"], key=lambda word: -abs(word["weight"]))[:SHOWN]
    return [
        f"{found['label']}, {100 * found['probability']:.0f} %",
        *(f"  {100 * word['weight']:+7.1f} points  {word['text']}" for word in words),
    ]
