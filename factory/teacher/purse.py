"""The money of one run: nothing is sent before its bound is set aside, and what may have been served is counted.

An attempt is reserved, sent, and then one of three: `pay` when its answer or its final refusal is there, `lost` when it
may have been served though no answer arrived, and otherwise crossed out, its reservation kept for the next attempt.
"""

import asyncio
from collections.abc import Mapping

from factory.teacher.budget import Spending
from factory.teacher.calls import Call, Work
from factory.teacher.journal import Journal, Lost
from factory.teacher.wire import Usage


class Purse:
    """Spending, with a journal of what is on the wire; it belongs to one event loop."""

    def __init__(
        self, spending: Spending, journal: Journal | None, before: Mapping[str, Lost], *, is_resumed: bool
    ) -> None:
        self.changed = asyncio.Event()
        """Set when a reservation ends: who waits for room looks again."""
        self.is_closed = False
        """The run is ending: nothing more is reserved."""
        self._spending = spending
        self._journal = journal
        self._before = before
        """What runs before this one lost, by key."""
        self._is_resumed = is_resumed
        self._n_reserved = 0
        self._is_exhausted = False

    async def reserve(self, work: Work) -> bool:
        """Set the bound of one attempt aside.

        It is refused only when waiting for those in flight cannot make room. So the verdict follows from what earlier
        requests cost, not from which of them happened to be quicker, and is the same when all is stored.

        Args:
            work: Whose attempt; it must hold no slot, for which those in flight may wait.

        Returns:
            Whether there is room.
        """
        while not self._is_exhausted and not self.is_closed:
            if self.reserve_at_once(work):
                return True
            if not self._n_reserved:
                self._is_exhausted = True  # for the rest of this run: short prompts must not overtake long ones
                break
            self.changed.clear()
            await self.changed.wait()
        return False

    def reserve_at_once(self, work: Work) -> bool:
        """Set the bound of one attempt aside if there is room now."""
        if not self._spending.try_reserve(work.call.bound):
            return False
        work.n_reserved += 1
        self._n_reserved += 1
        return True

    def sent(self, work: Work) -> None:
        """Say that an attempt is about to go over the wire."""
        if self._journal is not None and not self._is_resumed:
            self._journal.opened(work.call.key, work.call.bound)

    def crossed_out(self, work: Work) -> None:
        """Say that an attempt was not served, or that its reply is stored."""
        if self._journal is not None and not self._is_resumed:
            self._journal.crossed_out(work.call.key, work.call.bound)

    def lost(self, work: Work) -> None:
        """Charge an attempt that may have been served."""
        if self._journal is not None and self._is_resumed:
            self._journal.opened(work.call.key, work.call.bound)
        work.cost += work.call.bound
        self._ended(work)

    def cut_off(self, work: Work) -> None:
        """Charge an attempt that we stopped waiting for, unless the next run finds it."""
        if not self._is_resumed:
            self.lost(work)

    def pay(self, work: Work, usage: Usage | None) -> None:
        """Turn a reservation into what the server counted; when it does not say, the bound stands."""
        self._spending.charged.add(work.call.key)
        self._spending.settle(work.call.bound, usage)
        work.cost += work.call.bound if usage is None else usage
        self._ended(work)

    def give_back(self, work: Work, *, keep: int = 0) -> None:
        """Release reservations of attempts that cost nothing."""
        while work.n_reserved > keep:
            self._spending.release(work.call.bound)
            self._ended(work)

    def replay(self, call: Call) -> None:
        """Count what earlier runs lost on a request, once in a build."""
        lost, spending = self._before.get(call.key), self._spending
        if lost is not None and call.key not in spending.charged and call.key not in spending.replayed:
            spending.replayed.add(call.key)
            spending.charge(calls=lost.calls, usage=lost.usage)

    def _ended(self, work: Work) -> None:
        work.n_reserved -= 1
        self._n_reserved -= 1
        self.changed.set()
