"""The result of one measurement."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One target under one load, once.

    Attributes:
        p50: Median time from a request to the end of its response, microseconds.
        p99: The 99th percentile of it.
        requests: Complete responses.
        tokens: Streamed tokens.
        gap: The 99th percentile of the time between two arrivals of tokens on a stream, microseconds; None without.
        seconds: Length of the measurement.
        errors: Responses with a status other than 200, and lost connections.
        cpu: CPU time of the router per request, or per token of streams, microseconds; None for the fake servers.
    """

    p50: float
    p99: float
    requests: int
    seconds: float
    tokens: int = 0
    errors: int = 0
    cpu: float | None = None
    gap: float | None = None

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def token_rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed; NaN when there are none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
