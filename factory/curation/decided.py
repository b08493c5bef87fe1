"""Drop rows that a person has decided on: what they said of a text stands for it, or it is not trained on at all."""

from factory.curation.texts import fold
from factory.records import Rejection, Rows, split
from factory.spec import Model
from factory.store import Stage

REVIEWED = "reviewed"


class DecidedParams(Model):
    """Nothing to set."""


def drop_decided(params: DecidedParams, *, rows: Rows, **reviewed: Rows) -> Rows:
    """Reject the rows whose text a person has seen.

    Args:
        params: None.
        rows: Rows that no person labelled.
        **reviewed: What people said, by any name: `kept` has the rows with their labels, `rejected` the texts that
            nothing shall learn from, with the reason.

    Returns:
        Rejected: `reviewed`, because the row with a person's label is trained on in its place; `rejected` and `edited`
        as people said. Texts are the same if they are after folding.
    """
    reasons = {fold(text): REVIEWED for part in reviewed.values() for text in part.kept["text"]}
    for part in reviewed.values():
        for text, reason in zip(part.rejected["text"], part.rejected["reason"], strict=True):
            reasons.setdefault(fold(text), reason)
    rejections = {
        position: Rejection(reasons[folded])
        for position, text in enumerate(rows.kept["text"])
        if (folded := fold(text)) in reasons
    }
    return split(rows.kept, rejections, by=DECIDED.name)


DECIDED: Stage[Rows] = Stage("decided", 1, DecidedParams, drop_decided, Rows)
