"""Why a version is champion, or may not be: who decided, when and what for, as tags of the version."""

import getpass
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, ValidationError

from factory.evaluation.result import Part

PREFIX = "champion/"
"""Of the tags; the time follows, so that none overwrites another."""

How = Literal["gate", "promote", "rollback", "reject"]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "unknown"


class Move(Part):
    """One move of the champion, or one that a person did not allow."""

    how: How
    """A build that passed its gate, the command, or a person who was asked and said no."""
    was: int | None
    """The version that was champion before, if there was one."""
    note: str = ""
    forced: bool = False
    """It had not passed its gate."""
    at: str = Field(default_factory=_now)
    """UTC, ISO 8601."""
    by: str = Field(default_factory=_who)
    """Who says so: the name a person gave when asked, else the user's name on the machine where the command ran."""

    @property
    def summary(self) -> str:
        """One line for a person."""
        how = {
            "gate": "built and past its gate",
            "promote": "promoted",
            "rollback": "rolled back to",
            "reject": "rejected",
        }[self.how]
        parts = [f"{self.at[:16].replace('T', ' ')} UTC: {how}", f"by {self.by}"]
        parts += ["against the gate"] if self.forced else []
        parts += [f"in place of version {self.was}"] if self.was is not None else []
        return " ".join(parts) + (f": {self.note}" if self.note else "")


def write_move(client: Any, name: str, version: int, move: Move) -> None:
    """Tag a version with a move."""
    client.set_model_version_tag(name, str(version), PREFIX + move.at, move.model_dump_json())


def read_moves(tags: Mapping[str, str]) -> tuple[tuple[Move, ...], dict[str, str]]:
    """Part the tags of a version into moves, oldest first, and all others."""
    moves, others = [], {}
    for key in sorted(tags):
        try:
            if not key.startswith(PREFIX):
                raise ValueError(key)
            moves.append(Move.model_validate_json(tags[key]))
        except (ValueError, ValidationError):  # a tag of somebody else, whatever it is called
            others[key] = tags[key]
    return tuple(moves), others
