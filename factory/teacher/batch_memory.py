"""What is on its way in batches, on disk, so that a run that died is no reason to pay again."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, TypeAdapter, ValidationError

from factory.errors import ArtifactCorrupt, ArtifactError

LOCK_POLL_S = 0.1


class Sent(BaseModel):
    """Requests on their way to the service, or there."""

    tag: str
    """The batch carries it in its metadata."""
    endpoint: str
    """Identity of the endpoint: address and model."""
    at: float
    """When it was about to be sent, seconds since 1970."""
    keys: list[str]
    """Of the replies that have not been collected."""
    id: str | None = None
    """None until the service has said it: the batch may exist or not."""


_FILE = TypeAdapter(list[Sent])


class BatchMemory:
    """A JSON file, replaced as a whole; to be read and written under its lock only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Keep other runs out, in this process too; the system frees the lock when its holder dies."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.with_suffix(".lock").open("w")
        except OSError as error:
            raise self._unusable(error) from error
        with file:
            while not _try_lock(file):
                await asyncio.sleep(LOCK_POLL_S)  # a blocking wait would be deaf to Ctrl-C
            yield

    def load(self) -> list[Sent]:
        """Return everything that is remembered.

        Raises:
            ArtifactCorrupt: The file is not ours, or somebody edited it.
            ArtifactError: It cannot be read.
        """
        try:
            return _FILE.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return []
        except ValidationError as error:
            hint = "mend it, or delete it: what is on its way in batches is then asked and paid for again"
            raise ArtifactCorrupt(
                f"{self.path}: not a list of batches: {error.errors()[0]['msg']}", hint=hint
            ) from None
        except OSError as error:
            raise self._unusable(error) from error

    def save(self, remembered: list[Sent]) -> None:
        """Remember this and nothing else, atomically.

        Raises:
            ArtifactError: The file cannot be written.
        """
        scratch = self.path.with_suffix(".tmp")  # one is enough: the lock is held
        try:
            with scratch.open("wb") as file:
                file.write(_FILE.dump_json(remembered) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self.path)
        except OSError as error:
            raise self._unusable(error) from error

    async def forget(self, batch_id: str, keys: Collection[str]) -> None:
        """Strike keys of a batch that were collected or will never be; the batch too when none is left."""
        async with self.locked():
            remembered = self.load()
            for sent in remembered:
                if sent.id == batch_id:
                    sent.keys = [key for key in sent.keys if key not in keys]
            self.save([sent for sent in remembered if sent.keys])

    def _unusable(self, error: OSError) -> ArtifactError:
        hint = "check that the disk has space and that the file and its folder may be written"
        return ArtifactError(f"{self.path}: cannot remember what is on its way: {error}", hint=hint)


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
