"""What work is likely to cost, before any of it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from factory.spec import Prices
from factory.teacher.protocol import Request

CHARS_PER_TOKEN = 4.0
"""Of English prose, for the tokenizers of current LLMs; code and other languages have fewer."""
TEMPLATE_TOKENS = 12
"""What a chat template adds to a short conversation."""


@dataclass(frozen=True)
class Forecast:
    """Calls and tokens; all are expectations, not bounds."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Self) -> "Forecast":
        return Forecast(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )

    def times(self, n: int) -> "Forecast":
        """Return the cost of doing it n times."""
        return Forecast(self.calls * n, self.prompt_tokens * n, self.completion_tokens * n)

    def usd(self, prices: Prices | None) -> float:
        """Return the money; 0 without prices."""
        if prices is None:
            return 0.0
        input_usd = self.prompt_tokens * prices.input_usd_per_million
        return (input_usd + self.completion_tokens * prices.output_usd_per_million) / 1e6


def forecast(requests: Sequence[Request], *, completion_tokens: float) -> Forecast:
    """Estimate the cost of requests.

    Args:
        requests: What would be asked.
        completion_tokens: Tokens an average reply has.

    Returns:
        Their cost when none is in the reply cache.
    """
    chars = sum(len(message.content) for request in requests for message in request.messages)
    prompt_tokens = round(chars / CHARS_PER_TOKEN) + TEMPLATE_TOKENS * len(requests)
    return Forecast(len(requests), prompt_tokens, round(completion_tokens * len(requests)))
