"""What evaluation stages return: one JSON file; the same numbers, the same bytes."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat

Number = Annotated[FiniteFloat, AfterValidator(lambda value: round(value, 6))]
"""Rounded, because the last bits differ between processors and equal results must have equal hashes."""


class Part(BaseModel):
    """Base of results and what they are made of: frozen, an unknown key is an error, text is kept as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class JsonResult(Part):
    """A stage's result that is one JSON file."""

    is_complete: ClassVar[bool] = True
    file: ClassVar[str]

    def save(self, folder: Path) -> None:
        """Write the file."""
        (folder / self.file).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls.model_validate_json((folder / cls.file).read_text(encoding="utf-8"))
