"""One set of rows out of many: rounds of generation, silver rows from the pool, seed examples."""

from factory.records import Rows, all_kept
from factory.spec import Model
from factory.store import Stage


class GatherParams(Model):
    """Gathering has nothing to set."""


def gather(params: GatherParams, **parts: Rows) -> Rows:
    """Put the kept rows of all parts one after the other, in the order the parts are given.

    Args:
        params: Nothing to set.
        parts: At least one set of rows; what they rejected stays with them.

    Returns:
        All kept rows. `is_complete` is false when one part ended early.
    """
    from datasets import concatenate_datasets

    rows = all_kept(
        concatenate_datasets([part.kept for part in parts.values()]),
        report={"parts": {name: len(part.kept) for name, part in parts.items()}},
    )
    return Rows(rows.kept, rows.rejected, rows.report, is_complete=all(part.is_complete for part in parts.values()))


GATHER: Stage[Rows] = Stage("gather", 2, GatherParams, gather, Rows)
