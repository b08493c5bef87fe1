"""/v1/predict and /v1/explain."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import to_json

from factory.release.predict import Answer
from factory.serving.explain import cut, explanation, without_each
from factory.serving.http.guard import TRACE, Trace
from factory.serving.http.live import Opened
from factory.serving.http.problems import documented
from factory.serving.http.service import MAX_TEXTS, Service, Text

MAX_EXPLAINED = 10_000
"""Characters of a text to explain, which the model reads up to 65 times."""


class Body(BaseModel):
    """Base of what clients send: unknown keys are refused, and nothing is taken for another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PredictBody(Body):
    """Texts to label."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
    probabilities: bool = False
    """Also those of all other labels."""


class Labelled(BaseModel):
    """The answer to one text."""

    label: str
    probability: float
    probabilities: dict[str, float] | None = None
    abstained: bool | None = None
    """Of a release with a rule for it: the text seems to belong to no label, and `label` is but the nearest. Of a
    cascade whose teacher verifies its answers: it is not sure enough of this one."""
    confidence: float | None = None
    """Of a cascade whose teacher verifies its answers: the calibrated probability that this one is right."""
    tier: str | None = None
    """Of a cascade: who answered."""
    unanswered: bool | None = None
    """Of a cascade: the teacher should have answered and did not; this is what a student said, unsure as it was."""


class Predicted(BaseModel):
    """Answers in the order of the texts, all of one version."""

    name: str
    version: int
    answers: list[Labelled]


class ExplainBody(Body):
    """The text whose label is explained."""

    text: Annotated[str, StringConstraints(max_length=MAX_EXPLAINED)]


class Weighed(BaseModel):
    """A word, or neighbouring words of a long text."""

    text: str
    start: int
    end: int
    weight: float
    """The probability of the label falls by this much without it; below 0: it spoke for another label."""


class Explained(BaseModel):
    """The label and what each word added to its probability."""

    name: str
    version: int
    label: str
    probability: float
    method: str
    words: list[Weighed]


def predicting(service: Service) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/v1", responses=documented())

    @router.post("/predict", response_model=Predicted, response_model_exclude_none=True)
    async def predict(request: Request, body: PredictBody) -> Response:
        """Label texts with the champion."""
        opened, answers = await service.answer(body.texts, request.scope[TRACE])
        return answered(opened, answers, probabilities=body.probabilities)

    @router.post("/explain", response_model=Explained)
    async def explain(request: Request, body: ExplainBody) -> Response:
        """Weigh the words of a text by leaving each out in turn (at most 64 runs: long texts in groups of words)."""
        opened = service.live.current
        trace: Trace = request.scope[TRACE]
        trace.n_texts, trace.version = 1, opened.version
        pieces = cut(body.text)
        # Of a cascade the student alone: an LLM would be asked up to 65 times.
        answer, *left = await service.ask(opened.student, [body.text, *without_each(body.text, pieces)])
        found = explanation(body.text, pieces, answer, left)
        return _json({"name": opened.name, "version": opened.version, **found})

    return router


def answered(opened: Opened, answers: Sequence[Answer], *, probabilities: bool) -> Response:
    """Write down what one version answers, with the probabilities of all labels only where they were asked for."""
    left_out = set() if probabilities else {"probabilities"}
    shown = [{key: value for key, value in answer.items() if key not in left_out} for answer in answers]
    return _json({"name": opened.name, "version": opened.version, "answers": shown})


def _json(value: object) -> Response:
    return Response(to_json(value), media_type="application/json")
