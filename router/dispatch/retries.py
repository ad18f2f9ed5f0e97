"""How often a request is tried, and how long is waited in between."""

import random
from dataclasses import dataclass

from router.config.flags import flag


@dataclass(frozen=True)
class RetrySettings:
    """Exponential backoff with jitter."""

    max_retries: int = flag(
        "--retry-max-retries", default=5, minimum=1, help_text="attempts of one request, the first included"
    )
    initial_backoff_ms: float = flag(
        "--retry-initial-backoff-ms",
        default=50,
        value_type=float,
        minimum=0,
        help_text="milliseconds before the second attempt",
    )
    max_backoff_ms: float = flag(
        "--retry-max-backoff-ms",
        default=30000,
        value_type=float,
        minimum=0,
        help_text="most milliseconds before an attempt",
    )
    backoff_multiplier: float = flag(
        "--retry-backoff-multiplier", default=1.5, minimum=1, help_text="times the wait before the one before"
    )
    jitter_factor: float = flag(
        "--retry-jitter-factor",
        default=0.2,
        minimum=0,
        maximum=1,
        help_text="share by which a wait is longer or shorter",
    )
    disable_retries: bool = flag("--disable-retries", default=False, help_text="one attempt only")

    @property
    def attempts(self) -> int:
        """Attempts of one request."""
        return 1 if self.disable_retries else self.max_retries

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after the attempt of this number, from 1 on."""
        try:
            wait = self.initial_backoff_ms * self.backoff_multiplier ** (attempt - 1)
        except OverflowError:
            wait = self.max_backoff_ms
        jitter = 1 + random.uniform(-self.jitter_factor, self.jitter_factor)
        return min(wait, self.max_backoff_ms) * jitter / 1000
