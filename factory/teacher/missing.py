"""What a stage says when some of its requests were not answered and may be another time."""

from collections.abc import Sequence

from factory.records import Rows
from factory.teacher.protocol import Abstain


def note_missing(rows: Rows, answers: Sequence[object]) -> Rows:
    """Mark rows as incomplete where answers are missing that may still come: the store will run the stage again.

    Args:
        rows: The result of a stage.
        answers: What its requests came to; anything but an abstention is an answer.

    Returns:
        The rows; if answers are missing, with `stopped` in the report: `budget`, or else `unavailable`.
    """
    reasons = {answer.reason for answer in answers if isinstance(answer, Abstain) and answer.may_pass}
    if not reasons:
        return rows
    stopped = "budget" if "budget" in reasons else "unavailable"
    return Rows(rows.kept, rows.rejected, {**rows.report, "stopped": stopped}, is_complete=False)
