"""`openai`: any OpenAI-compatible server: OpenAI itself, vLLM, Ollama, llama.cpp, LM Studio."""

import os
from typing import Any

from factory.errors import TeacherRefused
from factory.spec import TeacherSpec
from factory.teacher.batch import GATHERING, BatchEndpoint
from factory.teacher.batch_service import BatchRules
from factory.teacher.budget import Spending
from factory.teacher.chat import Address, ChatConnection, public_url
from factory.teacher.endpoint import Endpoint
from factory.teacher.engine import Engine, EngineTeacher
from factory.teacher.limits import Limits
from factory.teacher.protocol import Request
from factory.teacher.replies import Replies
from factory.teacher.wire import encode

TIMEOUT_S = 120.0


class OpenAITeacher(EngineTeacher):
    """A model behind an OpenAI-compatible server; the key is read from the environment when the first call is made."""

    def __init__(
        self,
        spec: TeacherSpec,
        *,
        replies: Replies | None = None,
        limits: Limits | None = None,
        rules: BatchRules | None = None,
    ) -> None:
        limits = limits or Limits(
            concurrency=spec.n_in_flight,
            requests_per_minute=spec.requests_per_minute,
            tokens_per_minute=spec.tokens_per_minute,
            timeout_s=spec.timeout_s or TIMEOUT_S,
            deadline_s=spec.deadline_s,
            hedge_after_s=spec.hedge_after_s,
        )
        endpoint: Endpoint = (chat := _OpenAIEndpoint(spec, limits))
        if spec.mode == "batch":
            if replies is None:
                raise ValueError("mode batch needs a reply store: a batch outlives the run that sent it")
            endpoint = BatchEndpoint(chat, replies, limits=limits, rules=rules or BatchRules())
            limits = GATHERING
        spending = Spending(spec.budget, spec.known_prices)
        super().__init__(Engine(endpoint, replies=replies, spending=spending, limits=limits))


class _OpenAIEndpoint:
    def __init__(self, spec: TeacherSpec, limits: Limits) -> None:
        self._base_url = spec.url
        self._is_openai = spec.is_openai
        self._model = spec.model or ""
        self._key_env = spec.api_key_env
        self._limits = limits
        self.identity = f"openai:{public_url(self._base_url)}:{self._model}"

    def encode(self, request: Request) -> dict[str, Any]:
        # OpenAI's newer models refuse `max_tokens`, most other servers know nothing else; and OpenAI takes schemas of
        # objects only, while elsewhere a wrapped label would cost twice the tokens.
        return encode(
            request,
            model=self._model,
            limit_name="max_completion_tokens" if self._is_openai else "max_tokens",
            only_objects=self._is_openai,
        )

    async def connect(self) -> ChatConnection:
        api_key = os.environ.get(self._key_env, "").strip()
        if not api_key and self._is_openai:
            raise TeacherRefused(
                f"{public_url(self._base_url)}: needs an API key, and {self._key_env} is not set",
                hint=f"set {self._key_env}, or use the embedded teacher, which needs no account",
            )
        if not (api_key.isascii() and api_key.isprintable()):
            raise TeacherRefused(
                f"the key in {self._key_env} has a line break or another character that no HTTP header can hold",
                hint=f"set {self._key_env} to the key alone, as one line",
            )
        return ChatConnection(
            Address(
                base_url=self._base_url,
                api_key=api_key,
                key_env=self._key_env,
                model=self._model,
                timeout_s=self._limits.timeout_s,
                concurrency=self._limits.concurrency,
            )
        )
