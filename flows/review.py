"""`factory review`: rows of a build go to people, on a page or as a file, and come back as what they said.

What people said is data of the task, so it is kept beside its spec, in `reviewed.jsonl`: it can be read, corrected and
committed like any data file, the next build sees it by its content, and deleting outputs loses none of it.
"""

import getpass
import hashlib
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from factory.data import WrongRow
from factory.errors import ArtifactMissing, FactoryError
from factory.labelling.decision_journal import DecisionJournal
from factory.labelling.review import Format, formats_of, read_returned, write_rows
from factory.labelling.review_json import label_studio_config
from factory.labelling.review_opinions import Known
from factory.labelling.review_rows import Order, ReviewRow, orders
from factory.labelling.reviewed import Settled, parse_name
from factory.reviewing.desk import Desk
from factory.spec import Spec
from factory.spec_data import REVIEWED_FILE
from factory.spec_file import SPEC_FILE
from flows.review_rows import load_text_spec, measured_texts, reviewable_rows, without_measured

TASKS = Path("tasks")


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    file: Path
    n_new: int
    n_open: int
    """Rows about which nothing was said."""
    disputed: tuple[str, ...]
    """Ids of rows on which two people disagree; they were left alone."""
    n_rows: int
    """Rows that people have decided on in all."""


@dataclass(frozen=True)
class Reviewed:
    """A task under review."""

    folder: Path
    spec: Spec
    journal: DecisionJournal

    @property
    def version(self) -> str:
        """Tell what people said so far, as a build would read it, from what they say later."""
        path = self.journal.path
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "none"

    def said(self) -> tuple[Settled, dict[str, int]]:
        """Return what holds, and how many decisions of each person do."""
        settled = self.journal.settled()
        people = Counter(one.by or "unnamed" for one in settled.standing.values())
        return settled, dict(people.most_common())


def open_review(name: str) -> Reviewed:
    """Open what people said about a task.

    Args:
        name: Name of a task in `tasks/`, or its folder.

    Returns:
        The task and its decisions.

    Raises:
        FactoryError: There is no such task folder, it is one of a table, or its file of decisions is wrong.
    """
    folder = _task_folder(name)
    spec = load_text_spec(folder)
    if spec.data.reviewed is None and "reviewed" in spec.data.model_fields_set:
        hint = "remove the line, or name a file: what people say would not be used"
        raise FactoryError(f"{folder / SPEC_FILE}: data.reviewed is null", hint=hint)
    path = folder / (spec.data.reviewed or REVIEWED_FILE)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise FactoryError(f"{folder / SPEC_FILE}: data.reviewed leads out of the task folder")
    if path.suffix != ".jsonl":
        hint = f"give a name such as {REVIEWED_FILE}; `factory review NAME import FILE` takes over what a CSV says"
        raise FactoryError(f"{folder / SPEC_FILE}: data.reviewed is {path.name!r}, expected a .jsonl file", hint=hint)
    return Reviewed(folder, spec, DecisionJournal(path, spec.label_names))


def make_desk(task: Reviewed, outputs: Path, *, by: str) -> Desk:
    """Collect what a person may review.

    Args:
        task: The task.
        outputs: Where builds are.
        by: Who reviews.

    Returns:
        The rows of the newest build, ready to be shown.

    Raises:
        FactoryError: There is nothing to review.
    """
    measured = measured_texts(task.folder, task.spec)
    rows = without_measured(reviewable_rows(task.spec.name, outputs), measured)
    task.journal.settled()  # a wrong line is said now, not on the page
    return Desk(task.spec, rows, task.journal, by=by, measured=measured)


def export_review(
    name: str,
    file: Path,
    outputs: Path,
    *,
    wanted: Format | None = None,
    order: Order = Order.BEST,
    limit: int | None = None,
) -> int:
    """Write the rows that nobody has decided on.

    Args:
        name: Name of a task in `tasks/`, or its folder.
        file: What to write.
        outputs: Where builds are.
        wanted: Format; default: by the name of the file.
        order: Which rows come first.
        limit: Rows at most.

    Returns:
        How many rows were written. For Label Studio the labelling interface is written to `interface_file`.

    Raises:
        FactoryError: The file exists already: it may hold somebody's work; or its name does not tell the format.
    """
    formats = (wanted,) if wanted is not None else formats_of(file)
    if len(formats) > 1:
        names = " or ".join(f"--format {one}" for one in formats)
        raise FactoryError(f"{file}: two tools read this kind of file", hint=f"add {names}")
    task = open_review(name)
    decided = task.journal.settled().standing
    rows = without_measured(reviewable_rows(task.spec.name, outputs), measured_texts(task.folder, task.spec))
    chosen = [row for row in _ordered(rows, order) if row.id not in decided][:limit]
    if formats[0] is Format.LABEL_STUDIO:
        _refuse_existing(file)  # or the interface would be left alone
        _write_new(interface_file(file), label_studio_config(task.spec.label_names))
    _write_new(file, write_rows(chosen, formats[0]))
    return len(chosen)


def interface_file(file: Path) -> Path:
    """Return where the labelling interface is written that tasks for Label Studio need."""
    return file.with_suffix(".labels.xml")


def import_review(name: str, file: Path, outputs: Path, *, by: str = "", told: Format | None = None) -> Imported:
    """Take over what people said in a file, all of it or, if one row is wrong, nothing.

    Args:
        name: Name of a task in `tasks/`, or its folder.
        file: A file that was exported and filled in.
        outputs: Where builds are.
        by: Who filled it in, where the file does not say.
        told: Format; default: by name and content.

    Returns:
        What changed.

    Raises:
        FactoryError: There is no such task folder, or a file is wrong; nothing was written.
    """
    task = open_review(name)
    try:
        rows = {row.id: row for row in reviewable_rows(task.spec.name, outputs)}
    except ArtifactMissing:
        rows = {}  # built elsewhere: the texts in the file will do
    known = Known(task.spec.label_names, rows, measured_texts(task.folder, task.spec))
    returned = read_returned(file, known, by=by, told=told)
    before = task.journal.keys()
    new = [one for one in returned.decisions if one.key not in before]
    task.journal.append(new)
    n_rows = len(task.journal.settled().standing)
    return Imported(task.journal.path, len(new), returned.n_open, returned.disputed, n_rows)


def who_reviews(folder: Path, told: str | None = None) -> str:
    """Return the name a person goes by.

    Args:
        folder: Where git is asked.
        told: The name, if the person gave one; else it is git's, else that of the account.

    Returns:
        The name.

    Raises:
        FactoryError: Decisions under this name could not be read again.
    """
    name = told or _own_name(folder)
    try:
        return parse_name({"name": name}, "name")
    except WrongRow as error:
        raise FactoryError(f"who reviews: {error}", hint="give another with --name") from error


def _own_name(folder: Path) -> str:
    try:
        asked = subprocess.run(
            ["git", "config", "user.name"],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=5,
            check=False,
        )
        name = asked.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        name = ""
    if name:
        return name[:200]
    try:
        return getpass.getuser()
    except OSError:
        return "unnamed"


def _ordered(rows: list[ReviewRow], order: Order) -> list[ReviewRow]:
    return [rows[at] for at in orders(rows)[order]]


def _task_folder(name: str) -> Path:
    for folder in (Path(name), TASKS / name):
        if (folder / SPEC_FILE).is_file():
            return folder
    raise FactoryError(f"{name}: no task folder has this name", hint="give the folder that holds spec.yaml")


def _write_new(path: Path, content: str) -> None:
    try:
        with path.open("x", encoding="utf-8", newline="") as out:
            out.write(content)
    except FileExistsError:
        _refuse_existing(path)
        raise


def _refuse_existing(path: Path) -> None:
    if path.exists():
        hint = "choose another name; labels that were filled in would be lost"
        raise FactoryError(f"{path}: exists already", hint=hint)
