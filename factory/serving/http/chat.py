"""A stand-in for the LLM: /v1/chat/completions as OpenAI's client asks, /v1/classify as vLLM's, /v1/models.

The last user message is the text; the answer is its label. Instructions belong into the system message, which a small
model has no need of: a prompt that wraps the text would be classified together with it.
"""

import math
import time
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from factory.release.predict import Answer
from factory.serving.http.guard import TRACE
from factory.serving.http.live import Opened
from factory.serving.http.problems import Problem, documented
from factory.serving.http.response_format import content_of
from factory.serving.http.service import MAX_TEXTS, Service, Text

BESIDE = ("abstained", "confidence", "tier", "unanswered")
"""What an answer of a cascade, or of a model that refuses, may say besides its label; passed on where it does."""
MAX_CHOICES = 16


class Body(BaseModel):
    """What an OpenAI client sends; settings that a classifier has no use for (temperature, seed...) are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Part(Body):
    """A part of a message; anything but text is refused."""

    type: str
    text: Text | None = None


class Message(Body):
    """One message."""

    role: str
    content: Text | list[Part] | None = None


class StreamOptions(Body):
    """What a stream ends with."""

    include_usage: bool | None = None


class ChatBody(Body):
    """A chat; `model` may be any name."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None


class ClassifyBody(Body):
    """Texts to label; `model` may be any name."""

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
    model: str = ""


def chat(service: Service) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/v1", responses=documented())

    @router.post("/chat/completions")
    async def complete(request: Request, body: ChatBody) -> Response:
        """Answer a chat with the label of its last user message, as an LLM told to classify would."""
        text = _last_text(body)
        # Before the model is asked: a format that cannot be filled is refused for every text, not for some.
        shape = content_of(body.response_format, service.live.current.student.labels)
        opened, (answer,) = await service.answer([text], request.scope[TRACE])
        reply = _Reply(body, opened, answer, shape(answer["label"]))
        if body.stream:
            return StreamingResponse(iter([b"".join(reply.events())]), media_type="text/event-stream")
        return Response(to_json(reply.whole()), media_type="application/json")

    @router.post("/classify")
    async def classify(request: Request, body: ClassifyBody) -> Response:
        """Label one text or several, in the shape of vLLM's /classify, with label and probability by name."""
        texts = [body.input] if isinstance(body.input, str) else body.input
        opened, answers = await service.answer(texts, request.scope[TRACE])
        data = [
            {
                "index": index,
                "label": answer["label"],
                "probability": answer["probability"],
                "probs": [answer["probabilities"][label] for label in opened.student.labels],
                "num_classes": len(opened.student.labels),
                **{key: value for key, value in answer.items() if key in BESIDE},
            }
            for index, answer in enumerate(answers)
        ]
        n_words = sum(map(_count_words, texts))
        head = {"id": f"classify-{uuid.uuid4().hex}", "object": "list", "created": int(time.time())}
        usage = {"prompt_tokens": n_words, "completion_tokens": 0, "total_tokens": n_words}
        said = {**head, "model": _model_id(opened), "labels": opened.student.labels, "data": data, "usage": usage}
        return Response(to_json(said), media_type="application/json")

    router.include_router(models(service, prefix=""))
    return router


def models(service: Service, prefix: str = "/v1") -> APIRouter:
    """Make the routes that name the model."""
    router = APIRouter(prefix=prefix, responses=documented())

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """List the one model there is."""
        return {"object": "list", "data": [_model(service.live.current)]}

    @router.get("/models/{model}", responses=documented(404))
    async def model(model: str) -> dict[str, Any]:
        """Describe the model."""
        opened = service.live.current
        if model not in (opened.name, _model_id(opened)):
            raise Problem(404, "model_not_found", f"this server has one model: {opened.name}", param="model")
        return _model(opened)

    return router


class _Reply:
    """One chat completion, whole or as a stream."""

    def __init__(self, body: ChatBody, opened: Opened, answer: Answer, content: str) -> None:
        self._body = body
        self._answer = answer
        self._content = content
        self._logprobs = _logprobs(answer, body.top_logprobs or 0) if body.logprobs else None
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": _model_id(opened),
            "system_fingerprint": opened.located.content_hash[:16],
        }
        self._extra = {"name": opened.name, "version": opened.version, **answer}
        n_prompt = sum(_count_words(_text_of(message) or "") for message in body.messages)
        n_answer = _count_words(content) * self._n
        self._usage = {"prompt_tokens": n_prompt, "completion_tokens": n_answer, "total_tokens": n_prompt + n_answer}

    @property
    def _n(self) -> int:
        return self._body.n or 1

    def whole(self) -> dict[str, Any]:
        """Return the completion; every choice is the same, because the model has no dice."""
        message = {"role": "assistant", "content": self._content, "refusal": None}
        choice = {"message": message, "logprobs": self._logprobs, "finish_reason": "stop"}
        choices = [{"index": index, **choice} for index in range(self._n)]
        return {
            **self._head,
            "object": "chat.completion",
            "choices": choices,
            "usage": self._usage,
            "classification": self._extra,
        }

    def events(self) -> Iterator[bytes]:
        """Yield the completion as server-sent events."""
        for index in range(self._n):
            delta = {"role": "assistant", "content": self._content}
            yield self._event([{"index": index, "delta": delta, "logprobs": self._logprobs, "finish_reason": None}])
            yield self._event([{"index": index, "delta": {}, "logprobs": None, "finish_reason": "stop"}])
        if self._body.stream_options is not None and self._body.stream_options.include_usage:
            yield self._event([], usage=self._usage)
        yield b"data: [DONE]\n\n"

    def _event(self, choices: list[dict[str, Any]], **more: object) -> bytes:
        chunk = {
            **self._head,
            "object": "chat.completion.chunk",
            "choices": choices,
            "classification": self._extra,
            **more,
        }
        return b"data: " + to_json(chunk) + b"\n\n"


def _last_text(body: ChatBody) -> str:
    if body.tools or body.functions:
        raise Problem(400, "unsupported", "this model labels texts and calls no tools", param="tools")
    for message in reversed(body.messages):
        if message.role == "user":
            text = _text_of(message)
            if text is None:
                raise Problem(400, "unsupported", "expected text as content, got something else", param="messages")
            return text
    raise Problem(400, "no_text", "expected a message with role user: it is the text to label", param="messages")


def _text_of(message: Message) -> str | None:
    """Return the text of a message; None when it has a part that is no text."""
    if not isinstance(message.content, list):
        return message.content
    if any(part.type != "text" or part.text is None for part in message.content):
        return None
    return "\n".join(part.text or "" for part in message.content)


def _logprobs(answer: Answer, n_top: int) -> dict[str, Any]:
    """Give the label as one token: its probability is the model's, not that of spelling it."""
    best = sorted(answer["probabilities"].items(), key=lambda item: -item[1])[:n_top]
    top = [_token(label, probability) for label, probability in best]
    return {"content": [{**_token(answer["label"], answer["probability"]), "top_logprobs": top}], "refusal": None}


def _token(label: str, probability: float) -> dict[str, Any]:
    # OpenAI writes -9999 for what is out of sight.
    logprob = math.log(probability) if probability > 0 else -9999.0
    return {"token": label, "logprob": logprob, "bytes": list(label.encode())}


def _count_words(text: str) -> int:
    return len(text.split())


def _model_id(opened: Opened) -> str:
    return f"{opened.name}:{opened.version}"


def _model(opened: Opened) -> dict[str, Any]:
    created = int(opened.since)
    return {"id": opened.name, "object": "model", "created": created, "owned_by": "factory", "version": opened.version}
