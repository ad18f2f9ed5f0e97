"""One measurement."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One target under one load.

    Attributes:
        p50: Median time from a request to the end of its answer, microseconds.
        p99: The 99th percentile of it.
        requests: Whole answers.
        tokens: Tokens of streams.
        seconds: How long it took.
        errors: Answers with another status than 200 and lost connections.
        cpu: Processor time of the router a request, or a token where there are any, microseconds;
            None for the fake servers.
    """

    p50: float
    p99: float
    requests: int
    seconds: float
    tokens: int = 0
    errors: int = 0
    cpu: float | None = None

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def token_rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; NaN of nothing."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
