"""How hard an endpoint may be pressed."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Calls in flight, time-outs and retries."""

    concurrency: int = 8
    timeout_s: float = 120.0
    """For one attempt."""
    max_attempts: int = 6
    first_delay_s: float = 0.5
    """The longest wait after the first failure; doubled after each further one."""
    max_delay_s: float = 30.0
    max_retry_after_s: float = 120.0
    """When a server asks to wait longer than this, the run ends at once and says so."""
    first_call_alone: bool = True
    """A wrong key or model then costs one call, not `concurrency` many."""

    def backoff_s(self, attempt: int, jitter: random.Random) -> float:
        """Return seconds to wait before an attempt, 0 for the first.

        Full jitter, as in Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.

        Args:
            attempt: 0 for the first.
            jitter: Where the randomness comes from.

        Returns:
            Between 0 and the longest wait that the attempt allows.
        """
        if attempt == 0:
            return 0.0
        return jitter.uniform(0.0, min(self.max_delay_s, self.first_delay_s * 2.0 ** (attempt - 1)))
