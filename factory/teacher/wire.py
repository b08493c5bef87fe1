"""The OpenAI chat-completions format, which llama.cpp, vLLM, Ollama and LM Studio speak too."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, NonNegativeInt, ValidationError

from factory.teacher.protocol import Abstain, Reply, Request, TokenLogprob

WRAPPED = "wrapped_answer"
"""Name of a schema that stands in an object under `answer`, where an endpoint takes nothing but objects."""
WRAPPER_TOKENS = 8
"""Added to the bound on generated tokens where the answer is wrapped; never fewer than the wrapper has."""
NO_LOGPROBS = "no-logprobs"
"""Reason of the abstention where a server refuses a request because it asks for log-probabilities."""
RAW_LIMIT = 2000
"""Characters of a strange reply that are kept for the person who looks into it."""


_OPENING = re.compile(r'\s*\{\s*"answer"\s*:\s*')


class _Alternative(BaseModel):
    token: str
    logprob: float


class _Token(_Alternative):
    top_logprobs: list[_Alternative] = []


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    index: int = 0
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class Usage(BaseModel, frozen=True):
    """Tokens of one call, or of several."""

    prompt_tokens: NonNegativeInt = 0
    completion_tokens: NonNegativeInt = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Return both together."""
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


class _Completion(BaseModel):
    choices: list[_Choice]


def encode(
    request: Request, *, model: str, limit_name: str = "max_tokens", only_objects: bool = False
) -> dict[str, Any]:
    """Write a request as the body of a chat completion.

    Args:
        request: What to ask.
        model: Name of the model at the endpoint.
        limit_name: What the endpoint calls the bound on generated tokens.
        only_objects: Whether the endpoint refuses schemas that do not describe an object; `decode` unwraps the answer.

    Returns:
        JSON-ready data. Key order is kept, in the schema too: grammars write properties in that order.
    """
    payload: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        limit_name: request.max_tokens,
        "temperature": request.sampling_temperature,
        "top_p": request.top_p,
        "seed": request.sample,
    }
    if request.schema is not None:
        schema = {"name": "answer", "strict": True, "schema": dict(request.schema)}
        if only_objects and request.schema.get("type") != "object":
            schema = {"name": WRAPPED, "strict": True, "schema": _wrap(request.schema)}
            payload[limit_name] += WRAPPER_TOKENS
        payload["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.top_logprobs:
        payload |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    return payload


def usage_of(raw: Mapping[str, Any]) -> Usage | None:
    """Return what the server says a reply cost, or None when it does not say or says what cannot be."""
    try:
        return Usage.model_validate(raw["usage"])
    except (KeyError, ValidationError):
        return None


def decode(raw: Mapping[str, Any], payload: Mapping[str, Any], *, from_cache: bool = False) -> Reply | Abstain:
    """Read a chat completion; whatever is wrong with it concerns this one request only.

    Args:
        raw: What the server sent.
        payload: What it was sent for.
        from_cache: Whether it was stored before.

    Returns:
        The reply, of a wrapped answer the part inside; or why there is none.
    """
    answer = _decode(raw, from_cache=from_cache)
    schema = payload.get("response_format", {}).get("json_schema", {})
    return _unwrap(answer) if isinstance(answer, Reply) and schema.get("name") == WRAPPED else answer


def _wrap(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"answer": dict(schema)},
        "required": ["answer"],
        "additionalProperties": False,
    }


def _unwrap(reply: Reply) -> Reply:
    """Return the part of a reply under `answer`, with the tokens that belong to it; a strange reply stays whole."""
    start = _OPENING.match(reply.text)
    if start is None:
        return reply
    text = reply.text[start.end() :].rstrip().removesuffix("}").rstrip()
    first, last = start.end(), start.end() + len(text)
    position = 0
    tokens = []
    for token in reply.logprobs:
        # A token may reach over a border, such as ` "` before the answer's first letter or `"}` after its last.
        n_before, n_after = max(0, first - position), max(0, position + len(token.token) - last)
        if n_before + n_after < len(token.token):
            tokens.append(_cut(token, n_before, n_after))
        position += len(token.token)
    return replace(reply, text=text, logprobs=tuple(tokens))


def _cut(token: TokenLogprob, n_before: int, n_after: int) -> TokenLogprob:
    """Cut characters off both ends of a token, and of the alternatives that begin as it does."""
    if not n_before and not n_after:
        return token
    head, tail = token.token[:n_before], token.token[len(token.token) - n_after :]
    inside = token.token[n_before : len(token.token) - n_after]
    top = {name.removeprefix(head).removesuffix(tail): logprob for name, logprob in token.top if name.startswith(head)}
    return TokenLogprob(inside, token.logprob, tuple(top.items()))


def _decode(raw: Mapping[str, Any], *, from_cache: bool) -> Reply | Abstain:
    try:
        completion = _Completion.model_validate(raw)
    except ValidationError:
        return Abstain("malformed", excerpt(raw))
    if not completion.choices:
        return Abstain("empty", excerpt(raw))
    choice = min(completion.choices, key=lambda one: one.index)
    text = choice.message.content or ""
    if choice.message.refusal:
        return Abstain("refusal", choice.message.refusal)
    if choice.finish_reason == "content_filter":
        return Abstain("content-filter", text or excerpt(raw))
    if choice.finish_reason == "error":  # some gateways say so when the model breaks off
        return Abstain("malformed", excerpt(raw))
    if not text.strip():
        return Abstain("empty", excerpt(raw))
    usage = usage_of(raw) or Usage()
    tokens = (choice.logprobs and choice.logprobs.content) or []
    return Reply(
        text=text,
        finish_reason=choice.finish_reason or "stop",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        logprobs=tuple(
            TokenLogprob(token.token, token.logprob, tuple((top.token, top.logprob) for top in token.top_logprobs))
            for token in tokens
        ),
        from_cache=from_cache,
    )


def completion_of(reply: Reply) -> dict[str, Any]:
    """Write a reply as the chat completion a server would have sent; `decode` reads it back."""
    content = [
        {
            "token": token.token,
            "logprob": token.logprob,
            "top_logprobs": [{"token": name, "logprob": logprob} for name, logprob in token.top],
        }
        for token in reply.logprobs
    ]
    return {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply.text},
                "finish_reason": reply.finish_reason,
                "logprobs": {"content": content} if content else None,
            }
        ],
        "usage": {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens},
    }


def excerpt(raw: object) -> str:
    """Return the start of something strange, for a message."""
    text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, default=str)
    return text if len(text) <= RAW_LIMIT else text[:RAW_LIMIT] + "..."
