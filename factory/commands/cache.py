"""`factory cache`: look into the reply store, and prune it."""

from typing import Annotated

import typer

from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Outputs, TaskFolder, print_json

cache_app = typer.Typer(name="cache", help="Look into the reply store, and prune it.", no_args_is_help=True)


@cache_app.command()
def stats(out: Outputs = DEFAULT_OUTPUTS, json_: AsJson = False) -> None:
    """Count replies, tokens and seconds by endpoint and model, damaged lines, and failures by reason.

    Example: factory cache stats
    """
    from flows.cache import print_stats, read_stats

    found = read_stats(out)
    if json_:
        print_json(found.as_json())
    else:
        print_stats(found)


@cache_app.command()
def explain(folder: TaskFolder, out: Outputs = DEFAULT_OUTPUTS, json_: AsJson = False) -> None:
    """Say what a build would ask now that is not stored, and which part of the key differs from what is.

    Asks the teacher nothing and stores nothing.

    Example: factory cache explain tasks/snips_intent
    """
    from factory.check import check_task
    from flows.explain import explain as explain_task
    from flows.explain import print_explanation

    explained = explain_task(check_task(folder), out)
    if json_:
        print_json(explained.as_json())
    else:
        print_explanation(explained)


@cache_app.command()
def prune(
    out: Outputs = DEFAULT_OUTPUTS,
    older_than: Annotated[
        float | None, typer.Option("--older-than", metavar="DAYS", min=0, help="Delete only replies older than this.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without it they are only counted.")] = False,
    json_: AsJson = False,
) -> None:
    """Delete replies that the newest build of no task used; without --yes only say which. Not while a build runs.

    Example: factory cache prune --older-than 30
    """
    from flows.cache import plan_pruning, print_pruning, prune_replies

    pruning = plan_pruning(out, older_than_days=older_than)
    if yes:
        prune_replies(out, pruning)
    if json_:
        print_json({**pruning.as_json(), "deleted": yes})
    else:
        print_pruning(pruning, deleted=yes)
