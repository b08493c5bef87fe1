"""What lies on the reviewer's desk: rows in every order, and what was said about them so far."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from factory.data import WrongRow
from factory.errors import FactoryError
from factory.labelling.decision_journal import DecisionJournal
from factory.labelling.review_rows import EXPLAINED, Order, ReviewRow, orders
from factory.labelling.reviewed import Action, Decision, Settled, line_of
from factory.records import row_id
from factory.spec import Spec
from factory.spec_errors import not_among, shown
from factory.texts import fold

MOST_ROWS = 200
"""Rows in one answer."""
LIKELIEST = 9
"""Labels of which a row tells the probability: as many as there are digits to press."""


class Refused(FactoryError):
    """A decision that cannot be taken; the message is shown to the person."""


@dataclass(frozen=True)
class Asked:
    """A decision as it comes from the page."""

    key: str
    id: str
    action: Action
    label: str | None = None
    text: str | None = None
    """Of an edited row: the new text."""
    of: str = ""
    """Of an undo: the key of the decision to take back."""


class Desk:
    """Rows and decisions of one task; any thread may ask."""

    def __init__(
        self, spec: Spec, rows: Sequence[ReviewRow], journal: DecisionJournal, *, by: str, measured: frozenset[str]
    ) -> None:
        self.spec = spec
        self.by = by
        self._rows = tuple(rows)
        self._at = {row.id: at for at, row in enumerate(rows)}
        self._orders = orders(rows)
        self._places = {order: {at: place for place, at in enumerate(found)} for order, found in self._orders.items()}
        self._texts = {fold(row.text): row.id for row in rows}
        self._journal = journal
        self._measured = measured
        self._lock = Lock()

    def task(self) -> dict[str, Any]:
        """Describe the task and how far the review is."""
        labels = [{"name": label.name, "description": label.description} for label in self.spec.labels]
        return {
            "name": self.spec.name,
            "description": self.spec.description,
            "labels": labels,
            "orders": [{"name": order.value, "explained": EXPLAINED[order]} for order in Order],
            "by": self.by,
            **self.progress(),
        }

    def progress(self) -> dict[str, Any]:
        """Count rows and decisions."""
        with self._lock:
            return self._progress(self._journal.settled())

    def window(self, order: Order, *, after: int, n: int, is_open: bool, backwards: bool = False) -> dict[str, Any]:
        """Return some rows in an order.

        Args:
            order: Which.
            after: Place in the order before the first one to return, from 0; -1 begins with the first.
            n: Rows at most, up to `MOST_ROWS`.
            is_open: Leave out rows that were decided on.
            backwards: Return those before the place instead, nearest first.

        Returns:
            The rows, each with its place, and how far the review is.
        """
        found = self._orders[order]
        step = -1 if backwards else 1
        with self._lock:
            settled = self._journal.settled()
        rows: list[dict[str, Any]] = []
        place = after + step
        while 0 <= place < len(found) and len(rows) < min(n, MOST_ROWS):
            row = self._rows[found[place]]
            decision = settled.standing.get(row.id)
            if decision is None or not is_open:
                rows.append(self._shown(row, place, decision))
            place += step
        return {"rows": rows, **self._progress(settled)}

    def place(self, order: Order, row: str) -> int | None:
        """Return the place of a row in an order; None where there is no such row."""
        at = self._at.get(row)
        return None if at is None else self._places[order][at]

    def decide(self, asked: Sequence[Asked]) -> dict[str, Any]:
        """Take decisions, in order; those that come again, because an answer was lost, count once.

        Args:
            asked: What the page says.

        Returns:
            `refused`, the reasons by key of the decision; all others are on the disk. And how far the review is.

        Raises:
            ArtifactError: Nothing could be written.
        """
        with self._lock:
            known = self._journal.keys()
            settled = self._journal.settled()
            texts = {fold(decision.text): decision.id for decision in settled.standing.values()}
            refused: dict[str, str] = {}
            taken: list[Decision] = []
            for one in asked:
                if one.key in known or one.key in {earlier.key for earlier in taken}:
                    continue
                try:
                    decision = self._decision(one, settled, texts)
                    line_of(
                        decision, self.spec.label_names
                    )  # one that nobody could read again must not stop the others
                except (Refused, WrongRow) as error:
                    refused[one.key] = str(error)
                else:
                    taken.append(decision)
                    texts[fold(decision.text)] = decision.id
            self._journal.append(taken)
            return {"refused": refused, **self._progress(self._journal.settled())}

    def _decision(self, asked: Asked, settled: Settled, texts: Mapping[str, str]) -> Decision:
        at = self._at.get(asked.id)
        if at is None:
            raise Refused(f"no row has the id {shown(asked.id)}: the page is of another build, load it again")
        row = self._rows[at]
        text, label, was = row.text, asked.label, None
        if asked.action in (Action.REJECT, Action.UNDO):
            label = None
        elif label not in self.spec.label_names:
            raise Refused(f"label {shown(label)} is {not_among(label or '', self.spec.label_names)}")
        if asked.action is Action.EDIT:
            text, was = self._edited(row, asked.text or "", texts), row.text
        return Decision(
            id=row.id,
            action=asked.action,
            text=text,
            label=label,
            by=self.by,
            at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            key=asked.key,
            of=asked.of if asked.action is Action.UNDO else "",
            was=was,
            strategy=row.strategy,
        )

    def _edited(self, row: ReviewRow, text: str, texts: Mapping[str, str]) -> str:
        """Return a new text, or say why a row may not have it."""
        if not text.strip():
            raise Refused("the text is empty; reject the row instead")
        if "\0" in text:
            raise Refused("the text holds a NUL character")
        folded = fold(text)
        if folded in self._measured:
            raise Refused("this text is one of those the model is measured on; nothing may be trained on it")
        other = texts.get(folded) or self._texts.get(folded)
        if other not in (None, row.id):
            raise Refused(f"row {other} says this already; reject this one instead")
        if row_id(text) == row.id:
            raise Refused("the text is as it was; give it a label or accept it")
        return text

    def _progress(self, settled: Settled) -> dict[str, Any]:
        counts = Counter(one.action.value for row, one in settled.standing.items() if row in self._at)
        return {"n_rows": len(self._rows), "n_decided": counts.total(), "actions": dict(counts)}

    def _shown(self, row: ReviewRow, place: int, decision: Decision | None) -> dict[str, Any]:
        likely = sorted(row.probabilities.items(), key=lambda pair: -pair[1])[:LIKELIEST]
        shown_row: dict[str, Any] = {
            "id": row.id,
            "place": place,
            "text": row.text,
            "label": row.label,
            "votes": dict(row.votes),
            "probabilities": [[label, round(probability, 4)] for label, probability in likely],
            "strategy": row.strategy,
            "state": row.state,
            "decision": None,
        }
        if decision is not None:
            said = {"key": decision.key, "action": decision.action.value, "label": decision.label}
            shown_row["decision"] = {**said, "text": decision.text, "by": decision.by, "at": decision.at}
        return shown_row
