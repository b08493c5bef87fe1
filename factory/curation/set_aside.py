"""Keep some rows out of training, because something will be measured or chosen on them."""

from factory.records import Rejection, Rows, split
from factory.spec import Model
from factory.store import Stage

REASON = "set-aside"


class SetAsideParams(Model):
    """Setting aside has no parameters."""


def set_aside(params: SetAsideParams, *, rows: Rows, aside: Rows) -> Rows:
    """Reject the rows whose text is among those to set aside.

    Args:
        params: None.
        rows: Any rows.
        aside: Rows to keep out, whatever their labels.

    Returns:
        The rows that may be trained on.
    """
    taken = set(aside.kept["id"])
    rejections = {position: Rejection(REASON) for position, row_id in enumerate(rows.kept["id"]) if row_id in taken}
    return split(rows.kept, rejections, by=SET_ASIDE.name)


SET_ASIDE: Stage[Rows] = Stage("set-aside", 1, SetAsideParams, set_aside, Rows)
