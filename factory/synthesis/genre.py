"""What kind of texts a task is about, where that changes how a teacher is asked for them.

A weak teacher writes what it was last shown: after a demonstration in which travellers speak, its news articles were
remarks about the news.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from factory.prompts import render
from factory.spec import Label, Model
from factory.teacher import Message
from factory.teacher.repair import REPAIR

PROMPTS = Path(__file__).parent / "prompts"
SYSTEM, TASK, THINGS, WRITE = (PROMPTS / f"{name}.v1.jinja" for name in ("system", "task", "things_user", "write_user"))

GenreName = Literal["utterance", "article"]
GENRE_FILES: dict[GenreName, Path] = {
    "utterance": PROMPTS / "utterance.v1.yaml",
    "article": PROMPTS / "article.v1.yaml",
}
PROMPT_FILES = (SYSTEM, TASK, THINGS, WRITE, REPAIR, *GENRE_FILES.values())
"""All that decides what a strategy asks; the stages that ask list them."""
Phrases = Annotated[tuple[str, ...], Field(min_length=1)]


class Demonstration(Model):
    """A made-up task with answers as they should be."""

    description: str
    labels: tuple[Label, ...]
    label: str
    style: str
    length: str
    things: dict[str, tuple[str, ...]]
    """What texts mention, by kind of thing; the kinds are those every task of the genre is asked for."""
    texts: tuple[str, ...]

    @property
    def target(self) -> Label:
        """The label that is asked for."""
        return next(label for label in self.labels if label.name == self.label)


class Genre(Model):
    """How to ask for texts of one kind."""

    speaker: str
    """Who writes such texts and who never does: the middle of the system message."""
    sources: str
    """What the teacher imagines before it names things that texts mention."""
    styles: Phrases
    lengths: Phrases
    tokens_per_text: Annotated[int, Field(ge=1)]
    """As many as were written, on average, for each text that was asked for: for the forecast."""
    most_tokens_per_text: Annotated[int, Field(ge=1)]
    """A reply is cut off after so many for each text it was asked for."""
    demonstration: Demonstration

    def system(self) -> Message:
        """Return the system message."""
        return Message("system", render(SYSTEM, speaker=self.speaker))

    def things_request(self, description: str, label: Label, kind: str, n: int) -> Message:
        """Ask for `n` things of a kind that texts of a label mention."""
        user = render(THINGS, description=description, sources=self.sources, label=label, kind=kind, n=n)
        return Message("user", user)

    def shown_things(self) -> list[Message]:
        """Return the demonstration's requests for things and their answers."""
        shown = self.demonstration
        return [
            message
            for kind, things in shown.things.items()
            for message in (
                self.things_request(shown.description, shown.target, kind, len(things)),
                Message("assistant", "\n".join(things)),
            )
        ]

    def shown_texts(self) -> list[Message]:
        """Return the demonstration's request for texts and its answer."""
        shown = self.demonstration
        things = next(iter(shown.things.values()))
        user = render(
            WRITE,
            description=shown.description,
            labels=shown.labels,
            label=shown.target,
            n=len(shown.texts),
            style=shown.style,
            length=shown.length,
            things=things[: len(shown.texts)],
        )
        return [Message("user", user), Message("assistant", "\n".join(shown.texts))]


@cache
def genre_of(name: GenreName) -> Genre:
    """Read how to ask for texts of a genre."""
    import yaml

    return Genre.model_validate(yaml.safe_load(GENRE_FILES[name].read_text(encoding="utf-8")))
