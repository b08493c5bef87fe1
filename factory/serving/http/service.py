"""What all routes share: the version that answers, the batches, and what is written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import StringConstraints

from factory.release.predict import Answer, Predictor, WrongInput
from factory.serving.http.batching import Batcher, Overloaded
from factory.serving.http.guard import Trace
from factory.serving.http.journal import TextLog
from factory.serving.http.live import Answerer, Live, Opened
from factory.serving.http.metrics import Metrics
from factory.serving.http.problems import Problem, wrong_row

MAX_TEXTS = 1000
MAX_CHARACTERS = 100_000
"""Of one text; an encoder reads the first hundred words or so, and n-grams all of it."""
Text = Annotated[str, StringConstraints(max_length=MAX_CHARACTERS)]
"""With a constraint pydantic looks into the text, and refuses half characters (lone surrogates) too."""


@dataclass(frozen=True)
class Service:
    """One running server."""

    live: Live
    batcher: Batcher
    metrics: Metrics
    text_log: TextLog | None

    async def answer(self, texts: Sequence[Any], trace: Trace) -> tuple[Opened, list[Answer]]:
        """Answer what a client asked, and count it.

        Args:
            texts: At least one; of a table, rows.
            trace: Of the request.

        Returns:
            The version that answered, and its answers in order.

        Raises:
            Problem: Too many texts wait already (503), or a row cannot be answered (422).
        """
        opened = self.live.current
        trace.n_texts, trace.version = len(texts), opened.version
        _require_rows(opened.student, texts)  # before they share a run with what others asked
        answers = await self.ask(opened.answerer, texts)
        self.metrics.answers(opened.version, answers)
        if self.text_log is not None and not self.text_log.write(trace.request_id, texts, answers, opened.version):
            self.metrics.unlogged(len(texts))
        return opened, answers

    async def ask(self, answerer: Answerer, texts: Sequence[str]) -> list[Answer]:
        """Ask a model without counting, for texts that no client sent.

        Args:
            answerer: Whom to ask.
            texts: At least one.

        Returns:
            Answers in order.

        Raises:
            Problem: Too many texts wait already (503).
        """
        try:
            return await self.batcher.ask(answerer, texts)
        except Overloaded:
            raise Problem(503, "overloaded", "too many texts wait already; try again in a moment") from None


def _require_rows(student: Predictor, rows: Sequence[Any]) -> None:
    """Refuse rows of a table that cannot be answered; texts all can."""
    try:
        student.check_rows(rows)
    except WrongInput as error:
        raise wrong_row(error) from None
