"""Finding a row in what the builds of a task stored, by its id or its text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from factory.errors import ArtifactMissing, FactoryError
from factory.records import row_id
from factory.spec_file import SPEC_FILE, load_spec
from flows.builds import Build, builds_of, tasks_in
from flows.evidence import Step, Table
from flows.steps import SHOWN_ONLY

ID_LENGTH = 16
"""Of a row id, in hexadecimal digits."""
SHORTEST_PREFIX = 4
SHOWN = 5
"""Rows listed where several might be meant."""
SHOWN_CHARS = 60
MOST_COMPARED = 20_000
"""Texts that are compared with one that was not found."""


class Shelf:
    """The builds of one task, with stages that are read when they are looked at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.builds: Sequence[Build] = builds_of(root)
        self._steps: dict[Path, Step] = {}

    def steps(self, build: Build) -> list[Step]:
        """Return the stages of a build, in order."""
        return [self._steps.setdefault(folder, Step(folder)) for folder in build.folders]

    def tables(self) -> Iterator[Table]:
        """Return all rows there are, those of the newest build first."""
        seen: set[Path] = set()
        for build in self.builds:
            for step in self.steps(build):
                if step.has_rows and step.folder not in seen:
                    seen.add(step.folder)
                    yield from (step.kept, step.rejected)

    def matching(self, query: str) -> list[str]:
        """Return the ids a person may mean: an exact id or text, else those that begin so."""
        tables = list(self.tables())
        for exact in (query.lower(), row_id(query)):
            if any(exact in table for table in tables):
                return [exact]
        prefix = query.lower()
        if not SHORTEST_PREFIX <= len(prefix) <= ID_LENGTH:
            return []
        return sorted({one for table in tables for one in table.ids if one.startswith(prefix)})

    def text_of(self, wanted: str) -> str:
        """Return the text of a row that is there."""
        line = next(table.line(table.positions(wanted)[0]) for table in self.tables() if wanted in table)
        return str(line["text"])

    def having(self, content_hash: str) -> Step | None:
        """Return a stage with this result, of the newest build that has one."""
        steps = (step for build in self.builds for step in self.steps(build))
        return next((step for step in steps if step.content_hash == content_hash), None)

    def learned_from(self, step: Step) -> Step | None:
        """Return the rows that a stage fitted a student to release on; None for all other stages."""
        if step.fit is None or step.name in SHOWN_ONLY:
            return None
        return self.having(step.inputs["rows"])


@dataclass(frozen=True)
class Listed:
    """A row in a list."""

    id: str
    state: str
    """`trained on`, `kept`, or who rejected it and why."""
    label: str | None
    text: str


def find_row(query: str, outputs: Path, *, task: str | None = None) -> tuple[Shelf, str]:
    """Find the row a person means.

    Args:
        query: Id of the row, the beginning of one, or the exact text.
        outputs: Where builds are.
        task: Name or folder of the task; default: whichever has the row.

    Returns:
        What is stored of its task, and its id.

    Raises:
        ArtifactMissing: No such row or task, or nothing is stored.
        FactoryError: Several rows are meant, or several tasks have the row.
    """
    shelves = [Shelf(root) for root in roots_of(outputs, task)]
    found = [(shelf, one) for shelf in shelves for one in shelf.matching(query)]
    if not found:
        message, hint = _unknown(query, shelves)
        raise ArtifactMissing(message, hint=hint)
    if len({one for _, one in found}) > 1:
        listed = "; ".join(f"{one} {shorten(shelf.text_of(one))!r}" for shelf, one in found[:SHOWN])
        more = f"; and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
        raise FactoryError(f"{query}: {len(found)} rows begin so: {listed}{more}", hint="give more digits of the id")
    if len(found) > 1:
        names = ", ".join(shelf.root.name for shelf, _ in found)
        raise FactoryError(f"{shorten(query)}: {len(found)} tasks have this row: {names}", hint="add --task NAME")
    return found[0]


def list_rows(outputs: Path, *, task: str | None = None) -> list[Listed]:
    """List every row of the newest build of a task with what became of it.

    Args:
        outputs: Where builds are.
        task: Name or folder of the task; may be left out where there is only one.

    Returns:
        The rows in the order they first appear.

    Raises:
        ArtifactMissing: No such task, or nothing is stored.
        FactoryError: There are several tasks, and none was named.
    """
    roots = roots_of(outputs, task)
    if len(roots) > 1:
        names = ", ".join(root.name for root in roots)
        raise FactoryError(f"{outputs}: has {len(roots)} tasks: {names}", hint="add --task NAME")
    shelf = Shelf(roots[0])
    listed: dict[str, Listed] = {}
    for step in shelf.steps(shelf.builds[0]):
        if step.has_rows:
            for line in step.kept.lines():
                listed[line["id"]] = Listed(line["id"], "kept", line["label"], line["text"])
            for line in step.rejected.lines():
                if line["id"] not in step.kept:
                    state = f"{step.name}: {line['reason']}"
                    listed[line["id"]] = Listed(line["id"], state, line["label"], line["text"])
    for step in shelf.steps(shelf.builds[0]):
        rows = shelf.learned_from(step)
        for line in rows.kept.lines() if rows is not None else ():
            listed[line["id"]] = Listed(line["id"], "trained on", line["label"], line["text"])
    return list(listed.values())


def roots_of(outputs: Path, task: str | None) -> list[Path]:
    """Return the outputs of the task that is named or whose folder is given, or of all tasks."""
    roots = tasks_in(outputs)
    if not roots:
        hint = "build a task first (`factory build DIR`), or say with --out where builds are"
        raise ArtifactMissing(f"{outputs}: nothing is stored there", hint=hint)
    if task is None:
        return roots
    name = load_spec(Path(task)).name if (Path(task) / SPEC_FILE).is_file() else task
    chosen = [root for root in roots if root.name == name]
    if not chosen:
        known = ", ".join(root.name for root in roots)
        raise ArtifactMissing(f"{name}: not a task of {outputs}, which has {known}", hint="build it, or give --out")
    return chosen


def _unknown(query: str, shelves: Sequence[Shelf]) -> tuple[str, str]:
    """Say that there is no such row, and which one may be meant."""
    names = ", ".join(shelf.root.name for shelf in shelves)
    pairs = (pair for shelf in shelves for table in shelf.tables() for pair in zip(table.texts, table.ids, strict=True))
    texts = dict(islice(pairs, MOST_COMPARED))
    near = get_close_matches(query, texts, n=1, cutoff=0.5)
    nearest = f"the nearest text is {shorten(near[0])!r}, row {texts[near[0]]}; " if near else ""
    hint = f"{nearest}`factory why --list --task {shelves[0].root.name}` lists all rows with their ids"
    return f"{shorten(query)!r}: no row of {names} has this id or text", hint


def shorten(text: str) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARS else line[: SHOWN_CHARS - 3] + "..."
