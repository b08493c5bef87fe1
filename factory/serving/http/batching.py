"""Concurrent requests share runs of the model: what arrives while it is busy goes into the next batch.

An idle model is asked at once, so a lone client waits for nobody. Only when the last batch held several requests does
the next wait a moment for company: after a batch, its clients all come back within a millisecond or two.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from factory.release.predict import Answer
from factory.serving.http.live import Answerer

MAX_BATCH = 64
"""Texts in one run: more gain nothing on a few cores, and everybody else waits for them."""
MAX_WAIT_S = 0.0015


class Overloaded(Exception):
    """Too many texts wait already."""


@dataclass(eq=False)
class _Asked:
    """One request: its texts are handed out in parts, so that a long one lets short ones pass."""

    answerer: Answerer
    texts: Sequence[str]
    done: asyncio.Future[list[Answer]]
    n_taken: int = 0
    answers: dict[int, Sequence[Answer]] = field(default_factory=dict)
    """By the position of the first: with several threads, parts may end in any order."""

    def give(self, start: int, answers: Sequence[Answer]) -> None:
        """Keep the answers of one part; the last one to come ends the request."""
        self.answers[start] = answers
        if sum(map(len, self.answers.values())) == len(self.texts) and not self.done.done():
            self.done.set_result([answer for _, part in sorted(self.answers.items()) for answer in part])


class Batcher:
    """Collects texts of several requests and asks the model in one thread.

    Where answers may take seconds, as a teacher's do, requests share no runs but have several threads: nobody waits
    for what another asked.
    """

    def __init__(
        self,
        *,
        waiting_texts: int,
        n_threads: int = 1,
        shares: bool = True,
        on_batch: Callable[[int], None] = lambda n_texts: None,
    ) -> None:
        self._limit = waiting_texts
        self._on_batch = on_batch
        self._shares = shares
        self._threads = ThreadPoolExecutor(n_threads, thread_name_prefix="model")
        self._free = n_threads
        self._queue: deque[_Asked] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._has_company = False
        self.n_waiting = 0
        """Texts that no run has taken yet."""

    async def ask(self, answerer: Answerer, texts: Sequence[str]) -> list[Answer]:
        """Return an answer for each text, all of one model.

        Args:
            answerer: Whom to ask.
            texts: At least one.

        Returns:
            Answers in order.

        Raises:
            Overloaded: Too many texts wait already.
        """
        if self.n_waiting + len(texts) > self._limit:
            raise Overloaded
        asked = _Asked(answerer, texts, asyncio.get_running_loop().create_future())
        self._queue.append(asked)
        self.n_waiting += len(texts)
        self._wake()
        try:
            return await asked.done
        finally:
            if asked in self._queue:  # the client gave up, or its time was over
                self._queue.remove(asked)
                self.n_waiting -= len(texts) - asked.n_taken

    def close(self) -> None:
        """End the threads, without waiting for a teacher that nobody waits for any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _wake(self) -> None:
        if self._has_company and self.n_waiting < MAX_BATCH:
            if self._timer is None and self._free and self._queue:
                self._timer = asyncio.get_running_loop().call_later(MAX_WAIT_S, self._run)
            return
        self._run()

    def _run(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free and self._queue:
            self._run_batch()

    def _run_batch(self) -> None:
        parts = self._take()
        texts = [text for asked, start, stop in parts for text in asked.texts[start:stop]]
        self._free -= 1
        self.n_waiting -= len(texts)
        self._has_company = len(parts) > 1
        self._on_batch(len(texts))
        running = asyncio.get_running_loop().run_in_executor(self._threads, parts[0][0].answerer.predict, texts)
        running.add_done_callback(lambda done: self._hand_out(parts, done))

    def _take(self) -> list[tuple[_Asked, int, int]]:
        """Take texts for one model, in turn: a request with more left goes to the end of the queue."""
        parts: list[tuple[_Asked, int, int]] = []
        room, answerer = MAX_BATCH, self._queue[0].answerer
        while room and self._queue and self._queue[0].answerer is answerer:
            asked = self._queue.popleft()
            start, asked.n_taken = asked.n_taken, min(len(asked.texts), asked.n_taken + room)
            parts.append((asked, start, asked.n_taken))
            room -= asked.n_taken - start
            if asked.n_taken < len(asked.texts):
                self._queue.append(asked)
            if not self._shares:
                break
        return parts

    def _hand_out(self, parts: list[tuple[_Asked, int, int]], done: "asyncio.Future[Sequence[Answer]]") -> None:
        self._free += 1
        error = done.exception()
        answers = [] if error else list(done.result())
        for asked, start, stop in parts:
            if error is None:
                asked.give(start, answers[: stop - start])
                del answers[: stop - start]
            elif not asked.done.done():
                asked.done.set_exception(error)
        self._wake()
