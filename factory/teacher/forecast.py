"""What work is likely to cost, before any of it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Self

from factory.spec import Prices
from factory.teacher.protocol import Request

CHARS_PER_TOKEN = 4.0
"""Of English prose, for the tokenizers of current LLMs; code and other languages have fewer."""
TEMPLATE_TOKENS = 12
"""What a chat template adds to a short conversation."""
LAST_TEMPLATE_TOKENS = 6
"""The part of it that comes after the last message."""


@dataclass(frozen=True)
class Forecast:
    """Calls and tokens; all are expectations, not bounds."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    new_prompt_tokens: int = 0
    """Prompt tokens beyond what a request begins with as the one before it: all that a local server must compute."""

    def __add__(self, other: Self) -> "Forecast":
        return Forecast(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.new_prompt_tokens + other.new_prompt_tokens,
        )

    def usd(self, prices: Prices | None) -> float:
        """Return the money; 0 without prices."""
        if prices is None:
            return 0.0
        input_usd = self.prompt_tokens * prices.input_usd_per_million
        return (input_usd + self.completion_tokens * prices.output_usd_per_million) / 1e6


def n_shared(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def forecast(requests: Sequence[Request], *, completion_tokens: float) -> Forecast:
    """Estimate the cost of requests.

    Args:
        requests: What would be asked.
        completion_tokens: Tokens an average reply has.

    Returns:
        Their cost when none is in the reply cache.
    """
    prompts = ["\n".join(message.content for message in request.messages) for request in requests]
    prompt_tokens = round(sum(map(len, prompts)) / CHARS_PER_TOKEN) + TEMPLATE_TOKENS * len(requests)
    n_new = sum(len(prompt) - n_shared(before, prompt) for before, prompt in pairwise(["", *prompts]))
    return Forecast(
        len(requests),
        prompt_tokens,
        round(completion_tokens * len(requests)),
        round(n_new / CHARS_PER_TOKEN) + LAST_TEMPLATE_TOKENS * len(requests),
    )
