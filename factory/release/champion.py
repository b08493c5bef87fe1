"""Moving the champion from one version to another, once the reason is written down."""

from collections.abc import Sequence
from typing import Any

from factory.release.moves import How, Move, write_move
from factory.release.versions import CHAMPION, PREVIOUS, Version, aliased


def make_champion(
    client: Any,
    versions: Sequence[Version],
    number: int,
    *,
    how: How,
    note: str = "",
    by: str = "",
    forced: bool = False,
) -> None:
    """Move `champion` to a version and `previous` to the champion; nothing where it is the champion already.

    Args:
        client: An `mlflow.MlflowClient`.
        versions: All of the task.
        number: Of the version.
        how: What decided it.
        note: Why.
        by: Who decided it; default: the user's name.
        forced: Whether it had not passed its gate.
    """
    champion = aliased(versions, CHAMPION)
    if champion is not None and champion.version == number:
        return
    name, was = versions[0].name, None if champion is None else champion.version
    write_move(client, name, number, new_move(how, was, note=note, by=by, forced=forced))
    moves = [(CHAMPION, number)] if was is None else [(PREVIOUS, was), (CHAMPION, number)]
    # Who is killed between the two can give the same command again: of a promotion `previous` is right already, after
    # a rollback `champion` is.
    for alias, version in moves if how != "rollback" else moves[::-1]:
        client.set_registered_model_alias(name, alias, str(version))


def new_move(how: How, was: int | None, *, note: str = "", by: str = "", forced: bool = False) -> Move:
    """Return a move that was made now."""
    named = {"by": by} if by else {}
    return Move(how=how, was=was, note=note, forced=forced, **named)
