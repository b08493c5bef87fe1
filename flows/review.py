"""`factory review`: what nobody agreed on goes out as a file and comes back as gold rows.

Labels of people are data of the task, so they are kept beside its spec, in `reviewed.jsonl`: they can be read,
corrected and committed like any data file, the next build sees them by their content, and deleting outputs loses none.
"""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from factory.data import read_rows
from factory.errors import ArtifactMissing, FactoryError
from factory.labelling.aggregate import AGGREGATE
from factory.labelling.review import (
    Labelled,
    OpenItem,
    merge,
    open_items,
    read_labelled,
    require_suffix,
    write_items,
)
from factory.records import Origin, Rows
from factory.spec import REVIEWED_FILE, SPEC_FILE, load_spec
from factory.store import Artifact
from flows.builds import builds_of
from flows.shelf import roots_of

TASKS = Path("tasks")


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    file: Path
    n_new: int
    n_open: int
    """Rows without a label, which were left alone."""
    n_rows: int
    """Rows the file has now."""


def find_open_items(name: str, outputs: Path) -> list[OpenItem]:
    """Find what the newest build of a task left to people.

    Args:
        name: Name or folder of a task.
        outputs: Where builds are.

    Returns:
        The items, none if all rows found agreement.

    Raises:
        ArtifactMissing: No such task, or its builds aggregate no votes.
    """
    root = roots_of(outputs, name)[0]
    for build in builds_of(root):
        for folder in build.folders:
            if folder.parent.name == AGGREGATE.name:
                artifact = Artifact(folder, Rows, was_cached=True)
                labels = [label["name"] for label in artifact.manifest["key"]["params"]["labels"]]
                return open_items(artifact.load(), labels)
    hint = "give the spec a pool and labelling.voters, then build; see docs/how-to/label-a-pool.md"
    raise ArtifactMissing(f"{root.name}: no build let anybody vote on pool rows", hint=hint)


def export_review(name: str, file: Path, outputs: Path) -> int:
    """Write what the newest build left to people.

    Args:
        name: Name or folder of a task.
        file: CSV or JSONL to write.
        outputs: Where builds are.

    Returns:
        How many rows were written.

    Raises:
        FactoryError: The file exists already: it may hold somebody's work.
    """
    require_suffix(file)
    items = find_open_items(name, outputs)
    try:
        with file.open("x", encoding="utf-8", newline="") as out:
            out.write(write_items(items, file.suffix))
    except FileExistsError as error:
        hint = "choose another name; labels that were filled in would be lost"
        raise FactoryError(f"{file}: exists already", hint=hint) from error
    return len(items)


def import_review(name: str, file: Path, outputs: Path) -> Imported:
    """Add labels that people gave to the task's reviewed rows, all of them or, if one is wrong, none.

    Args:
        name: Name of a task in `tasks/`, or its folder.
        file: A file that was exported and filled in.
        outputs: Where builds are.

    Returns:
        What changed.

    Raises:
        FactoryError: There is no such task folder, or a file is wrong; nothing was written.
    """
    folder = _task_folder(name)
    spec = load_spec(folder)
    if spec.data.reviewed is not None and not (folder / spec.data.reviewed).resolve().is_relative_to(folder.resolve()):
        raise FactoryError(f"{folder / SPEC_FILE}: data.reviewed leads out of the task folder")
    target = folder / (spec.data.reviewed or REVIEWED_FILE)
    try:
        known = {item.id: item.text for item in find_open_items(spec.name, outputs)}
    except ArtifactMissing:
        known = {}  # built elsewhere: the texts in the file will do
    returned = read_labelled(file, spec.label_names, known)
    before = []
    if target.exists():
        rows = read_rows(target, labels=spec.label_names, origin=Origin.GOLD)
        before = [Labelled(row["text"], row["label"]) for row in rows]
    if returned.rows:
        _replace(target, merge(before, returned.rows))
    n_rows = len({one.text for one in (*before, *returned.rows)})
    return Imported(target, len(returned.rows), returned.n_open, n_rows)


def _task_folder(name: str) -> Path:
    for folder in (Path(name), TASKS / name):
        if (folder / SPEC_FILE).is_file():
            return folder
    raise FactoryError(f"{name}: no task folder has this name", hint="give the folder that holds spec.yaml")


def _replace(path: Path, content: str) -> None:
    """Write a file whole or not at all."""
    work = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with work.open("x", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)
