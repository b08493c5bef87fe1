"""`factory completion`, and what a shell is offered for the names of tasks, models and versions."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

SPEC = "spec.yaml"
ZSH_FIRST_TAB = """
[[ "${funcstack[1]}" == _factory ]] && _factory_completion
"""
"""zsh loads the file `_factory` at the first Tab, and expects an answer of it: Typer's script alone gives none."""


class Shell(StrEnum):
    """Shells with a script of their own."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Which shell the script is for.")]) -> None:
    """Print the script with which a shell completes commands, options, task folders and names of models.

    `factory --install-completion` puts it in place for the shell it is called from; this prints it.

    Examples:
        factory completion bash > ~/.local/share/bash-completion/completions/factory

        factory completion zsh > ~/.zfunc/_factory        (a folder of fpath, before compinit)

        factory completion fish > ~/.config/fish/completions/factory.fish
    """
    from typer._completion_shared import get_completion_script  # what --show-completion prints, for any shell

    script = get_completion_script(prog_name="factory", complete_var="_FACTORY_COMPLETE", shell=shell.value)
    typer.echo(f"{script}{ZSH_FIRST_TAB}" if shell is Shell.ZSH else script)


def task_folders(incomplete: str) -> list[str]:
    """Return the task folders below the place that has been typed so far, `tasks/` where nothing has."""
    typed = Path(incomplete or "tasks/")
    parent = typed if incomplete.endswith("/") or not incomplete else typed.parent
    roots = [parent] if parent.is_dir() else []
    if parent == Path():
        roots.append(Path("tasks"))  # `ti` may be meant to be tasks/tiny
    return [str(spec.parent) for root in roots for spec in sorted(root.glob(f"*/{SPEC}"))]


def model_names(incomplete: str) -> list[str]:
    """Return the names that may be built models: tasks of `tasks/` with a folder of their own in `outputs/`."""
    del incomplete  # the shell keeps what fits
    return sorted(copy.parent.name for copy in Path("outputs").glob("*/versions.json"))


def aliases(incomplete: str) -> list[str]:
    """Return the names a version may go by."""
    del incomplete
    return ["candidate", "champion", "previous"]
