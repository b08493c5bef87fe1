"""The hard budget: what a build may ask of the teacher, counted as if nothing were cached.

Before each attempt an upper bound of its cost is reserved, after it the real cost replaces the bound. An attempt is
made only if everything spent, everything reserved and its own bound together stay within the budget, so no number of
calls in flight can exceed it. Replies from the cache are counted like any other: a build that is resumed stops where it
would have stopped. An attempt that the server refused (busy, down) is not counted, but for a request that is declined
for good, which costs a call and no token. An attempt that may have been served though no answer arrived (timed out, cut
off, answered with garbage, hedged) costs its bound, in later runs too (`journal`).
"""

import json
import math
import threading

from factory.spec import Budget, Prices
from factory.teacher.protocol import Request
from factory.teacher.wire import WRAPPER_TOKENS, Usage

TEMPLATE_TOKENS = 32
"""More than a chat template adds to a conversation, default system prompt included, and to each message."""


def upper_bound(request: Request) -> Usage:
    """Return the most tokens a request can cost.

    A byte-level tokenizer never makes more tokens than there are UTF-8 bytes. Servers may count the schema too.
    """
    texts = [message.content for message in request.messages]
    completion_tokens = request.max_tokens
    if request.schema is not None:
        texts.append(json.dumps(request.schema))
        completion_tokens += WRAPPER_TOKENS  # a few endpoints need the wrapper
    n_bytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    prompt_tokens = n_bytes + TEMPLATE_TOKENS * (1 + len(request.messages))
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)


def stretched(bound: Usage, by: tuple[float, float]) -> Usage:
    """Return a bound of a server that counts more than can be: so many times the prompt, and the completion."""
    if by == (1.0, 1.0):
        return bound
    return Usage(
        prompt_tokens=math.ceil(bound.prompt_tokens * by[0]),
        completion_tokens=math.ceil(bound.completion_tokens * by[1]),
    )


class Spending:
    """What was spent and reserved so far, against a budget; safe to share between threads.

    The same reply used twice costs once, as it would in a build from scratch: see `charged`.
    """

    def __init__(self, budget: Budget | None = None, prices: Prices | None = None) -> None:
        self.budget = budget or Budget()
        self.prices = prices
        self.charged: set[str] = set()
        """Keys of the replies that have been paid for in this build."""
        self.replayed: set[str] = set()
        """Keys of requests of which it is counted what earlier runs lost on them."""
        self._calls = 0
        self._prompt_tokens = 0
        self._completion_tokens = 0
        self._lock = threading.Lock()

    @property
    def is_bounded(self) -> bool:
        """Whether there is anything that must not be exceeded."""
        return self.budget != Budget()

    @property
    def calls(self) -> int:
        """Calls spent and reserved."""
        return self._calls

    @property
    def tokens(self) -> int:
        """Tokens spent and reserved, prompts and completions together."""
        return self._prompt_tokens + self._completion_tokens

    @property
    def usage(self) -> Usage:
        """Tokens spent and reserved, apart."""
        return Usage(prompt_tokens=self._prompt_tokens, completion_tokens=self._completion_tokens)

    @property
    def usd(self) -> float:
        """Money spent and reserved; 0 without prices."""
        return self.cost_usd(self._prompt_tokens, self._completion_tokens)

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what some tokens cost; 0 without prices."""
        if self.prices is None:
            return 0.0
        input_usd = prompt_tokens * self.prices.input_usd_per_million
        output_usd = completion_tokens * self.prices.output_usd_per_million
        return (input_usd + output_usd) / 1e6

    def try_reserve(self, bound: Usage) -> bool:
        """Set a call's upper bound aside if it fits beside all that is spent and reserved."""
        with self._lock:
            self._add(1, bound, sign=1)
            if self._is_within():
                return True
            self._add(1, bound, sign=-1)
            return False

    def settle(self, bound: Usage, usage: Usage | None) -> None:
        """Replace a reserved bound by the real usage; when the server does not say, the bound stands."""
        if usage is not None:
            with self._lock:
                self._add(0, bound, sign=-1)
                self._add(0, usage, sign=1)

    def release(self, bound: Usage) -> None:
        """Give a reservation back: the attempt was not made, or cost nothing."""
        with self._lock:
            self._add(1, bound, sign=-1)

    def charge(self, *, calls: int, usage: Usage) -> None:
        """Count what was spent elsewhere, such as by a stage whose stored result is used again."""
        with self._lock:
            self._add(calls, usage, sign=1)

    def _add(self, calls: int, usage: Usage, *, sign: int) -> None:
        self._calls += sign * calls
        self._prompt_tokens += sign * usage.prompt_tokens
        self._completion_tokens += sign * usage.completion_tokens

    def _is_within(self) -> bool:
        budget = self.budget
        return (
            (budget.calls is None or self.calls <= budget.calls)
            and (budget.tokens is None or self.tokens <= budget.tokens)
            and (budget.usd is None or self.usd <= budget.usd)
        )
