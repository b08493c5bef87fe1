"""Every error a person may see, and what the program does about it.

    FactoryError
    ├── SpecError                a task folder is wrong; carries every problem found      exit 2
    ├── TeacherError
    │   ├── TeacherUnavailable   down, busy or slow: worth trying again (`retryable`)     exit 1
    │   │   └── TeacherBusy      asks to wait for longer than a run waits                  exit 1
    │   └── TeacherRefused       key, model or request refused: trying again is useless   exit 1
    ├── ArtifactError
    │   ├── ArtifactMissing      a file or a folder that should exist does not            exit 1
    │   └── ArtifactCorrupt      a file is not what its manifest or checksum says         exit 1
    └── NotFitted                a student was asked before `fit`                         exit 1

`retryable` is read by the flows, `hint` by the person: it is printed under the message.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


class FactoryError(Exception):
    """Base of the tree; catch it to catch them all."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(hint)


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a task folder, in the words a person needs to mend it."""

    file: Path
    line: int | None
    where: str
    message: str

    def __str__(self) -> str:
        """Format as `file:line: where: message`, which editors and terminals make clickable."""
        line = f":{self.line}" if self.line is not None else ""
        where = f"{self.where}: " if self.where else ""
        return f"{self.file}{line}: {where}{self.message}"


class SpecError(FactoryError):
    """A task folder is wrong; `problems` holds everything that was found, not only the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class TeacherError(FactoryError):
    """The LLM did not answer."""


class TeacherUnavailable(TeacherError):
    """Down, busy or slow; the same request may succeed later."""

    retryable = True


class TeacherBusy(TeacherUnavailable):
    """Asks to wait for longer than a run waits: a person may try again then, a flow must not."""

    retryable = False


class TeacherRefused(TeacherError):
    """The key, the model or the request was refused; the same request will be refused again."""


class ArtifactError(FactoryError):
    """Something on disk is not as it should be."""


class ArtifactMissing(ArtifactError):
    """A file or folder that should exist does not."""


class ArtifactCorrupt(ArtifactError):
    """A file is not what its manifest or checksum says."""


class NotFitted(FactoryError):
    """A student was asked to predict, save or export before `fit`."""
