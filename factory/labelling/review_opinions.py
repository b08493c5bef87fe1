"""What a file says that people filled in elsewhere, and what becomes of it.

Every format is read into opinions: what one person said of one row. Where two people disagree about a row it stays
open, because the file does not say who is right; where they agree both count.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from factory.data import WrongRow, text_of
from factory.errors import Problem, SpecError
from factory.labelling.review_rows import ReviewRow
from factory.labelling.reviewed import Action, Decision, line_of
from factory.records import row_id
from factory.spec_errors import not_among, shown
from factory.texts import fold

MOST_PROBLEMS = 100


@dataclass(frozen=True)
class Opinion:
    """What one person said of one row."""

    line: int | None
    """Of the file; in files without lines the number of the row, from 1, is in `where`."""
    id: str
    text: str | None = None
    """The text as the file has it."""
    label: str | None = None
    reject: bool = False
    edit: str | None = None
    """A new text."""
    by: str = ""
    where: str = ""

    @property
    def is_open(self) -> bool:
        """Whether nothing was said."""
        return self.label is None and not self.reject and self.edit is None


@dataclass(frozen=True)
class Known:
    """What a file of opinions is held against."""

    labels: Sequence[str]
    rows: Mapping[str, ReviewRow]
    """Rows of the newest build by id; of other rows the text in the file counts, if the id is its own."""
    measured: frozenset[str] = frozenset()
    """Texts, folded, that nothing may be trained on."""


@dataclass(frozen=True)
class Returned:
    """What a file brought back."""

    decisions: tuple[Decision, ...]
    n_open: int
    """Rows about which nothing was said."""
    disputed: tuple[str, ...] = ()
    """Ids of rows on which two people disagree; they stay open."""


def decide(
    path: Path, opinions: Iterable[Opinion], known: Known, *, by: str = "", problems: Sequence[Problem] = ()
) -> Returned:
    """Turn opinions into decisions, all of them or, if one is wrong, none.

    Args:
        path: The file they came from.
        opinions: What it says.
        known: Labels and rows.
        by: Whose they are, where the file does not say.
        problems: What was wrong with the file already.

    Returns:
        The decisions, in the order of the file.

    Raises:
        SpecError: Something is wrong; holds a problem for each wrong row.
    """
    found = [*problems]
    said: dict[str, list[tuple[Opinion, Decision]]] = {}
    silent: set[str] = set()
    version = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    for one in opinions:
        try:
            if one.is_open:
                silent.add(one.id)
                continue
            decision = _decision(one, known, by, version)
            line_of(decision, known.labels)  # nothing is taken over that could not be read again
            others = said.setdefault(one.id, [])
            _refuse_second(one, decision, others)
            others.append((one, decision))
        except WrongRow as error:
            found.append(Problem(path, one.line, one.where, str(error)))
    found += [Problem(path, one.line, one.where, why) for one, why in _edited_twice(said.values(), known)]
    if found:
        n_more = len(found) - MOST_PROBLEMS
        found.sort(key=lambda problem: problem.line or 0)
        more = [Problem(path, None, "", f"... and {n_more:,} more")] if n_more > 0 else []
        raise SpecError([*found[:MOST_PROBLEMS], *more])
    disputed = tuple(row for row, all_ in said.items() if len({_meaning(decision) for _, decision in all_}) > 1)
    decisions = tuple(decision for row, all_ in said.items() if row not in disputed for _, decision in all_)
    return Returned(decisions, len(silent - said.keys()), disputed)


def _meaning(decision: Decision) -> tuple[str | None, str]:
    return decision.label, decision.text


def _refuse_second(one: Opinion, decision: Decision, others: Sequence[tuple[Opinion, Decision]]) -> None:
    for earlier, before in others:
        if before.by == decision.by:
            first = f"line {earlier.line}" if earlier.line is not None else earlier.where
            raise WrongRow(f"row {one.id} is given twice, first in {first}")


def _decision(one: Opinion, known: Known, by: str, version: str) -> Decision:
    if one.reject and (one.label is not None or one.edit is not None):
        raise WrongRow("a row is rejected, or it has a label or a new text: not both")
    row = known.rows.get(one.id)
    text = row.text if row is not None else _text_of(one)
    label = one.label if one.label is not None or row is None or one.reject else row.label
    if not one.reject and (label is None or label not in known.labels):
        if label is None:
            raise WrongRow("a new text needs a label")
        raise WrongRow(f"label {shown(label)} is {not_among(label, known.labels)}")
    was, action = None, Action.REJECT if one.reject else Action.LABEL
    if row is not None and row.label is not None and not one.reject:
        action = Action.ACCEPT if label == row.label else Action.RELABEL
    if one.edit is not None and one.edit != text:
        text, was, action = text_of({"text": one.edit}), text, Action.EDIT
    if not one.reject and fold(text) in known.measured:
        raise WrongRow("the text is one of those the model is measured on")
    who = one.by or by
    # The same file brings the same decisions only once, even when others were made after it was read.
    parts = "\0".join((version, one.id, action, label or "", text, who))
    return Decision(
        id=one.id,
        action=action,
        text=text,
        label=None if one.reject else label,
        by=who,
        at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        key=f"file-{hashlib.sha256(parts.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}",
        was=was,
        strategy=row.strategy if row is not None else "",
    )


def _text_of(one: Opinion) -> str:
    """Return the text of a row that no build here has, if the id proves it to be the right one."""
    text = one.text
    if text is not None and row_id(text) != one.id and text.startswith("'"):
        text = text[1:]  # put there for spreadsheets
    if text is None or row_id(text) != one.id:
        raise WrongRow(f"no exported row has the id {shown(one.id)}, and it is not that of the text in this line")
    return text


def _edited_twice(said: Iterable[Sequence[tuple[Opinion, Decision]]], known: Known) -> list[tuple[Opinion, str]]:
    """Find edits that make a row say what another one says."""
    taken = {fold(row.text): row.id for row in known.rows.values()}
    problems = []
    for one, decision in (pair for all_ in said for pair in all_):
        if decision.action is Action.EDIT:
            other = taken.setdefault(fold(decision.text), decision.id)
            if other != decision.id:
                problems.append((one, f"the new text is that of row {other}; reject one of them instead"))
    return problems
