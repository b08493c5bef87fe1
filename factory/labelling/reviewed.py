"""What people said about rows: `reviewed.jsonl` in the task folder, one decision a line, oldest first.

    {"text": "where is my parcel", "label": "order_status"}
    {"action": "relabel", "id": "1f0c...", "text": "...", "label": "refund", "by": "Ada", "at": "2026-01-31T09:00:00Z"}

The first form is for people who write the file by hand. Nothing is ever taken out of the file: the last decision about
a row counts, and `undo` takes back the one whose `key` it names. So the file is journal and data at once; its content
is the version of the data that a build is made from, with the name of everybody who had a say.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from factory.data import (
    DataFile,
    Findings,
    Survey,
    WrongRow,
    label_of,
    numbered_lines,
    parse_line,
    refuse_surrogates,
    text_of,
    unreadable,
)
from factory.errors import SpecError
from factory.records import Origin, Rejection, Rows, TextRow, row_id, split, text_dataset
from factory.spec import Model
from factory.spec_errors import not_among, shown
from factory.store import Stage

MAX_NAME = 200
"""Characters of a name, a key, a strategy."""


class Action(StrEnum):
    """What a person did with a row."""

    LABEL = "label"
    """Gave it a label, without one to compare with."""
    ACCEPT = "accept"
    RELABEL = "relabel"
    EDIT = "edit"
    """Changed the text; `was` is the text before."""
    REJECT = "reject"
    """It shall never be trained on."""
    UNDO = "undo"


@dataclass(frozen=True)
class Decision:
    """What one person said about one row."""

    id: str
    """Of the row that was shown."""
    action: Action
    text: str
    """As it shall be; of a rejected row, as it was."""
    label: str | None = None
    by: str = ""
    at: str = ""
    """UTC, ISO 8601."""
    key: str = ""
    """Tells decisions apart: one that is sent twice counts once."""
    of: str = ""
    """Key of what an `undo` takes back."""
    was: str | None = None
    """Text of an edited row before."""
    strategy: str = ""
    """Which strategy of the teacher wrote the text; empty for real ones."""

    def as_line(self) -> str:
        """Return it as a line of the file, without its end; empty fields are left out."""
        known = {name: value for name, value in vars(self).items() if value not in ("", None)}
        return json.dumps(known, ensure_ascii=False)


@dataclass(frozen=True)
class Settled:
    """What holds after all decisions."""

    standing: Mapping[str, Decision]
    """By id of the row that was shown, in the order rows were first decided on."""
    n_undone: int
    n_overruled: int
    """Decisions that another person's took the place of."""

    @property
    def by_text(self) -> dict[str, Decision]:
        """What holds for each text by its own id; of two rows that were made to say the same, the later counts."""
        return {row_id(decision.text): decision for decision in self.standing.values()}


def parse_decision(row: dict[str, Any], labels: Sequence[str]) -> Decision:
    """Read one decision.

    Args:
        row: A line of the file.
        labels: The labels a row may have.

    Returns:
        The decision.

    Raises:
        WrongRow: It is none; says why.
    """
    given = row.get("action", Action.LABEL)
    if given not in [*Action]:
        raise WrongRow(f"`action` {shown(given)} is {not_among(given if isinstance(given, str) else '', [*Action])}")
    action, text = Action(given), text_of(row)
    label = None
    if action not in (Action.REJECT, Action.UNDO):
        label = label_of(row)
        if label not in labels:
            raise WrongRow(f"label {shown(label)} is {not_among(label, labels)}")
    names = {name: parse_name(row, name) for name in ("id", "by", "at", "key", "of", "strategy")}
    was = text_of({"text": row["was"]}) if row.get("was") is not None else None
    if action is Action.EDIT and was is None:
        raise WrongRow("an `edit` needs `was`, the text before")
    if action is Action.UNDO and not names["of"]:
        raise WrongRow("an `undo` needs `of`, the key of what it takes back")
    shown_id = row_id(text if was is None else was)
    if names["id"] not in ("", shown_id):
        raise WrongRow(f"`id` is {shown(names['id'])}, but that of the text is {shown(shown_id)}")
    return Decision(**{**names, "id": shown_id}, action=action, text=text, label=label, was=was)


def line_of(decision: Decision, labels: Sequence[str]) -> bytes:
    """Write a decision as a line that whoever reads the file will accept.

    Args:
        decision: What was said.
        labels: The labels a row may have.

    Returns:
        The line in UTF-8, without its end.

    Raises:
        WrongRow: It would spoil the file; says why.
    """
    parse_decision(vars(decision), labels)  # before it is encoded: names the field with half of a surrogate pair
    line = decision.as_line().encode()
    parse_decision(parse_line(line), labels)
    return line


def settle(decisions: Iterable[Decision]) -> Settled:
    """Find out what holds: the last decision about each row that was not taken back.

    Args:
        decisions: In the order they were made; of several with one key the first counts.

    Returns:
        What holds.
    """
    stacks: dict[str, list[Decision]] = {}
    seen: set[str] = set()
    n_undone = n_overruled = 0
    for one in decisions:
        if one.key and one.key in seen:
            continue
        seen.add(one.key)
        stack = stacks.setdefault(one.id, [])
        if one.action is Action.UNDO:
            left = [earlier for earlier in stack if earlier.key != one.of]
            n_undone += len(stack) - len(left)
            stack[:] = left
        else:
            n_overruled += bool(stack) and stack[-1].by != one.by
            stack.append(one)
    standing = {row: stack[-1] for row, stack in stacks.items() if stack}
    return Settled(standing, n_undone, n_overruled)


def read_decisions(path: Path, labels: Sequence[str]) -> list[Decision]:
    """Read all decisions of a file.

    Args:
        path: The file.
        labels: The labels a row may have.

    Returns:
        The decisions, oldest first.

    Raises:
        SpecError: The file cannot be read, or a line is no decision.
    """
    findings = Findings(path)
    found = [decision for _, decision in _scan(path, labels, findings)]
    problems = findings.problems()
    if problems:
        raise SpecError(problems)
    return found


def survey_reviewed(path: Path, labels: Sequence[str] | None) -> Survey:
    """Look through a file of decisions, for `factory check`."""
    findings = Findings(path)
    decisions = [decision for _, decision in _scan(path, labels or (), findings)]
    n_by_label = Counter(one.label for one in settle(decisions).by_text.values() if one.label is not None)
    problems = findings.problems() if labels is not None else []  # labels that are wrong were complained about
    return Survey(tuple(problems), len(decisions), n_by_label, 0)


def _scan(path: Path, labels: Sequence[str], findings: Findings) -> Iterator[tuple[int, Decision]]:
    findings.known = labels
    known = frozenset(labels)
    try:
        with path.open("rb") as file:
            for number, raw in numbered_lines(file):
                try:
                    row = parse_line(raw)
                    label = row.get("label")
                    if isinstance(label, str) and label not in known and row.get("action") not in ("reject", "undo"):
                        findings.add_unknown(number, label)
                        continue
                    yield number, parse_decision(row, labels)
                except WrongRow as error:
                    findings.add(number, str(error))
    except OSError as error:
        findings.listed.append(unreadable(path, error))


class ReadReviewedParams(Model):
    """Which of the reviewed rows to read."""

    labels: tuple[str, ...]
    """The labels a row may have, in spec order."""
    written: bool
    """Those whose text a teacher wrote, else those whose text is real."""


def read_reviewed(params: ReadReviewedParams, *, file: DataFile) -> Rows:
    """Read what people said about rows.

    Args:
        params: Which rows.
        file: The decisions.

    Returns:
        Kept: rows with the label a person gave them. Rejected: `rejected`, by a person, and `edited`, the text before.
        The report counts decisions by action and by person.
    """
    settled = settle(read_decisions(file.path, params.labels))
    chosen = [one for one in settled.by_text.values() if bool(one.strategy) is params.written]
    rows = [TextRow(one.text, one.label, Origin.GOLD, one.strategy) for one in chosen]
    rejections = {at: Rejection("rejected") for at, one in enumerate(chosen) if one.label is None}
    texts = {one.text for one in chosen}
    for one in chosen:
        if one.was is not None and one.was not in texts:
            texts.add(one.was)
            rejections[len(rows)] = Rejection("edited")
            rows.append(TextRow(one.was, None, Origin.GOLD, one.strategy))
    report = {
        "actions": dict(sorted(Counter(one.action.value for one in chosen).items())),
        "people": dict(sorted(Counter(one.by or "unnamed" for one in chosen).items())),
        "overruled": settled.n_overruled,
        "undone": settled.n_undone,
    }
    return split(text_dataset(rows), rejections, by=READ_REVIEWED.name, report=report)


READ_REVIEWED: Stage[Rows] = Stage("reviewed", 1, ReadReviewedParams, read_reviewed, Rows)


def parse_name(row: Mapping[str, Any], key: str) -> str:
    """Read a name, a key or a strategy.

    Args:
        row: What holds it.
        key: Where.

    Returns:
        The text; empty where there is none.

    Raises:
        WrongRow: It is no text, too long, has several lines or half of a surrogate pair.
    """
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_NAME or any(ord(mark) < 32 for mark in value):
        raise WrongRow(f"`{key}` must be text of at most {MAX_NAME} characters on one line, got {shown(value)}")
    refuse_surrogates(value, key)
    return value
