"""`factory export`: a registered version in the form that somebody else runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Name, Outputs, Version, print_json


class Kind(StrEnum):
    """The forms; see `factory.release.bundles`."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    DOCKER = "docker"
    HUB = "hub"
    DATASET = "dataset"


def export(
    name: Name,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")],
    kind: Annotated[Kind, typer.Option("--to", help="In which form.")] = Kind.ONNX,
    version: Version = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
) -> None:
    """Write a version in the form that somebody else runs, or the rows it was trained on, with their card.

    Examples:
        factory export snips_intent --to docker image

        factory export snips_intent --to hub snips-intent --version 3

        factory export snips_intent --to dataset snips-rows
    """
    from factory.release.bundles import export_bundle
    from factory.release.registry import Registry

    registry = Registry(outputs)
    chosen = registry.find(name, version)
    export_bundle(registry.resolve(name, str(chosen.version)), kind.value, folder)
    if json_:
        print_json({"folder": str(folder), "name": name, "version": chosen.version, "kind": kind.value})
        return
    typer.echo(f"{folder}: version {chosen.version} of {name} for {kind.value}")
