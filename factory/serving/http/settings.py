"""What a person may set about the server, and what is refused before it starts."""

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from factory.errors import FactoryError

KEY_VARIABLE = "FACTORY_API_KEY"
"""Where the key is by default; it is never an argument, because everybody on the machine sees those."""
LEAST_KEY = 16


@dataclass(frozen=True)
class Limits:
    """How much one request may ask, and how long it may take."""

    body_bytes: int = 4_000_000
    texts: int = 1000
    characters: int = 100_000
    """Of one text."""
    seconds: float = 30.0
    """From the last byte of the head of a request to the last of its answer; half of it for the body to arrive."""
    waiting_texts: int = 20_000
    """Texts that wait for the model; more are refused with 503 until some are answered."""


@dataclass(frozen=True)
class Settings:
    """One server."""

    name: str
    """Of the task."""
    outputs: Path
    wanted: str | None = None
    """Version or alias; default: the champion, else the candidate."""
    host: str = "127.0.0.1"
    port: int = 8000
    key: str | None = None
    allow_no_key: bool = False
    limits: Limits = Limits()
    log_texts: Path | None = None
    in_tiers: bool = False
    """Whether a cascade answers, whose last tier may take seconds."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server."""
        return is_loopback(self.host)

    def check(self) -> None:
        """Refuse what would let strangers in, or fail on the first request.

        Raises:
            FactoryError: Another host than loopback without a key, a key anybody guesses, or a log that cannot be
                written.
        """
        if self.key is None and not self.is_local and not self.allow_no_key:
            raise FactoryError(
                f"serve: expected an API key, because {self.host} can be reached from other machines",
                hint=f"set {KEY_VARIABLE} to a long random value, or say --allow-no-key if something else guards it",
            )
        if self.key is not None and (len(self.key) < LEAST_KEY or not self.key.isascii() or not self.key.isprintable()):
            raise FactoryError(
                f"serve: expected an API key of {LEAST_KEY} or more printable ASCII characters",
                hint='make one: python3 -c "import secrets; print(secrets.token_urlsafe(32))"',
            )


def is_loopback(host: str) -> bool:
    """Tell whether an address, or `localhost`, is this machine only; any other name is taken for the world."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_key(variable: str | None) -> str | None:
    """Read the API key from the environment.

    Args:
        variable: Its name; None: `FACTORY_API_KEY`, if that is set.

    Returns:
        The key, or None when there is none and none was asked for.

    Raises:
        FactoryError: A variable was named and is not set.
    """
    key = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if variable is not None and not key:
        raise FactoryError(f"serve: expected the API key in {variable}, which is empty or not set")
    return key or None
