"""`factory cache stats` and `factory cache prune`: what is in the reply store, and what nobody needs any more."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import ArtifactMissing
from factory.teacher import REPLIES_FILE
from factory.teacher.replies import Exchange, Replies
from factory.teacher.wire import Usage, usage_of
from flows.builds import Build, builds_of, tasks_in
from flows.evidence import Step

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

DAY_S = 86_400


@dataclass
class Share:
    """Replies of one model at one endpoint."""

    endpoint: str
    model: str
    replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """The teacher took, one call after the other."""


@dataclass(frozen=True)
class Stats:
    """What is in the reply store and in the ledger beside it."""

    path: str
    n_bytes: int
    replies: int
    damaged_lines: int
    shares: tuple[Share, ...]
    failures: dict[str, int]
    """Requests without a usable answer, by reason."""
    damaged_failures: int
    """Lines of the ledger that cannot be read."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


@dataclass(frozen=True)
class Pruning:
    """What would go and what stays."""

    n_replies: int
    n_bytes: int
    going: tuple[str, ...]
    """Keys."""
    going_bytes: int
    shares: tuple[Share, ...]
    """Of those that would go."""
    kept: dict[str, int]
    """What stays, by the reason why."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


def read_stats(outputs: Path) -> Stats:
    """Count what is stored.

    Args:
        outputs: Folder of the reply store.

    Returns:
        The counts.

    Raises:
        ArtifactMissing: There is no reply store.
    """
    replies = _open(outputs)
    try:
        shares = _shares(replies.exchanges())
        failures = Counter(failure.reason for failure in replies.ledger.failures())
        return Stats(
            path=str(replies.path),
            n_bytes=replies.path.stat().st_size,
            replies=sum(share.replies for share in shares),
            damaged_lines=replies.n_damaged,
            shares=shares,
            failures=dict(failures.most_common()),
            damaged_failures=replies.ledger.n_damaged,
        )
    finally:
        replies.close()


def plan_pruning(outputs: Path, *, older_than_days: float | None = None) -> Pruning:
    """Find the replies that no newest build used.

    Args:
        outputs: Folder of the reply store and of the builds that share it.
        older_than_days: Younger replies stay, whoever used them.

    Returns:
        What would go; nothing is deleted.

    Raises:
        ArtifactMissing: There is no reply store.
    """
    needed = _Needed(outputs)
    young = None if older_than_days is None else _utc(time.time() - older_than_days * DAY_S)
    going: list[str] = []
    kept: Counter[str] = Counter()
    replies = _open(outputs)

    def goes(exchange: Exchange) -> bool:
        why = needed.because(exchange)
        if not why and young is not None and exchange.written_at >= young:
            why = f"not older than {older_than_days:g} days"
        if why:
            kept[why] += 1
        else:
            going.append(exchange.key)
        return not why

    try:
        shares = _shares(exchange for exchange in replies.exchanges() if goes(exchange))
        return Pruning(
            n_replies=len(going) + kept.total(),
            n_bytes=replies.path.stat().st_size,
            going=tuple(going),
            going_bytes=replies.n_bytes(going),
            shares=shares,
            kept=dict(kept),
        )
    finally:
        replies.close()


def prune_replies(outputs: Path, pruning: Pruning) -> None:
    """Delete what a pruning says; replies that came since stay."""
    replies = _open(outputs)
    try:
        replies.drop(pruning.going)
    finally:
        replies.close()


class _Needed:
    """What the builds of all tasks need: those that ended last, and those that have not ended."""

    def __init__(self, outputs: Path) -> None:
        self._keys: set[str] = set()
        self._teachers: set[str] = set()
        """Of tasks of which nobody knows what their last build used."""
        self._since: list[str] = []
        """When builds began that have not ended: their replies are in no stored stage yet."""
        for root in tasks_in(outputs):
            self._take(builds_of(root))

    def because(self, exchange: Exchange) -> str:
        """Say why a reply must stay; nothing when it need not."""
        if exchange.key in self._keys:
            return "used by the newest build of a task"
        if any(exchange.written_at >= began for began in self._since):
            return "came after a build began that has not ended"
        if exchange.endpoint in self._teachers:
            return "of the teacher of a task whose last build is not known"
        return ""

    def _take(self, builds: list[Build]) -> None:
        noted = [build for build in builds if build.started_at]
        if not noted:
            self._teachers |= {step.teacher for step in _steps(builds)} - {""}
            return
        if not noted[0].is_finished:
            self._since.append(noted[0].started_at)
        finished = [build for build in noted if build.is_finished]
        for step in _steps([noted[0], *finished[:1]]):
            if step.has_rows:
                self._keys |= step.reply_keys


def print_stats(stats: Stats) -> None:
    """Print counts for people."""
    console = _console()
    damaged = f", {stats.damaged_lines:,} damaged lines" if stats.damaged_lines else ", no damaged line"
    console.print(f"{stats.path}: {_size(stats.n_bytes)}, {stats.replies:,} replies{damaged}", soft_wrap=True)
    console.print(_table(stats.shares))
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in stats.failures.items()) or "none"
    unread = f" ({stats.damaged_failures:,} damaged lines of the ledger apart)" if stats.damaged_failures else ""
    console.print(f"failures: {reasons}{unread}", soft_wrap=True)


def print_pruning(pruning: Pruning, *, deleted: bool) -> None:
    """Print for people what goes or went."""
    console = _console()
    what = "are deleted" if deleted else "would go"
    line = f"{len(pruning.going):,} of {pruning.n_replies:,} replies {what}, {_size(pruning.going_bytes)}"
    console.print(f"{line} of {_size(pruning.n_bytes)}", soft_wrap=True)
    if pruning.going:
        console.print(_table(pruning.shares))
    for why, n in pruning.kept.items():
        console.print(f"kept: {n:,} {why}", soft_wrap=True)
    if pruning.going and not deleted:
        console.print("nothing was deleted; add --yes to delete them", soft_wrap=True)


def _open(outputs: Path) -> Replies:
    path = outputs / REPLIES_FILE
    if not path.is_file():
        raise ArtifactMissing(f"{path}: no such file", hint="no teacher was asked yet, or builds are elsewhere: --out")
    return Replies(path)


def _steps(builds: Iterable[Build]) -> list[Step]:
    return [Step(folder) for build in builds for folder in build.folders]


def _shares(exchanges: Iterable[Exchange]) -> tuple[Share, ...]:
    """Add up replies by endpoint and model, most replies first."""
    shares: dict[tuple[str, str], Share] = {}
    for exchange in exchanges:
        at = (exchange.endpoint, str(exchange.payload.get("model", "")))
        share = shares.setdefault(at, Share(*at))
        usage = usage_of(exchange.reply) or Usage()
        share.replies += 1
        share.prompt_tokens += usage.prompt_tokens
        share.completion_tokens += usage.completion_tokens
        share.seconds = round(share.seconds + exchange.seconds, 3)
    return tuple(sorted(shares.values(), key=lambda share: -share.replies))


def _console() -> "Console":
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    # A pipe has no width; the table should not be folded.
    return console if console.is_terminal else Console(highlight=False, markup=False, width=200)


def _table(shares: Iterable[Share]) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("replies", "read", "written", "seconds"):
        table.add_column(heading, justify="right")
    table.add_column("model and endpoint", overflow="fold")
    for one in shares:
        numbers = (f"{one.replies:,}", f"{one.prompt_tokens:,}", f"{one.completion_tokens:,}", f"{one.seconds:,.0f}")
        table.add_row(*numbers, f"{one.model} at {one.endpoint}")
    return table


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:,.1f} kB"


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
