"""Retries: which failures are retried, how often, and after which backoff."""

import random
from dataclasses import dataclass

from router.config.flags import flag
from router.errors import RouterError, UpstreamFailed, UpstreamTimeout

RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class RetrySettings:
    """Number of attempts, and an exponential backoff with jitter between them."""

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
        help_text="longest wait before an attempt in milliseconds",
    )
    backoff_multiplier: float = flag(
        "--retry-backoff-multiplier",
        default=1.5,
        minimum=1,
        help_text="factor from each wait to the next",
    )
    jitter_factor: float = flag(
        "--retry-jitter-factor",
        default=0.2,
        minimum=0,
        maximum=1,
        help_text="random share by which a wait is longer or shorter",
    )
    disable_retries: bool = flag("--disable-retries", default=False, help_text="one attempt only")

    @property
    def max_attempts(self) -> int:
        """Largest number of attempts of one request, the first included."""
        return 1 if self.disable_retries else self.max_retries

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt`; the first one is 1."""
        try:
            delay_ms = self.initial_backoff_ms * self.backoff_multiplier ** (attempt - 1)
        except OverflowError:
            delay_ms = self.max_backoff_ms
        jitter = 1 + random.uniform(-self.jitter_factor, self.jitter_factor)
        return min(delay_ms, self.max_backoff_ms) * jitter / 1000


def is_retryable(error: RouterError) -> bool:
    """Whether another attempt may succeed: a connection failed, timed out, or had a retryable status."""
    if isinstance(error, UpstreamFailed) and error.upstream_status is not None:
        return error.upstream_status in RETRYABLE_STATUSES
    return isinstance(error, UpstreamFailed | UpstreamTimeout)
