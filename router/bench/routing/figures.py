"""What came of a trace under a policy, whether on modelled servers or on real ones."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

TITLES = {
    "ttft_mean_ms": "TTFT mean",
    "ttft_p50_ms": "p50",
    "ttft_p99_ms": "p99",
    "latency_mean_ms": "latency",
    "hit_rate": "hits",
    "balance": "busiest",
}


@dataclass(frozen=True)
class Figures:
    """Times as the client sees them, and hits as the servers count them.

    Attributes:
        ttft_mean_ms: Mean milliseconds to the first token.
        ttft_p50_ms: Their median.
        ttft_p99_ms: Their 99th percentile.
        latency_mean_ms: Mean milliseconds to the last token.
        hit_rate: Share of the prompts' tokens that were in the cache.
    """

    ttft_mean_ms: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    latency_mean_ms: float
    hit_rate: float

    @classmethod
    def of(cls, ttfts: Sequence[float], latencies: Sequence[float], hit_rate: float, **more: float) -> Self:
        """Of times in seconds, one of each kind a request; `more` is what a subclass has besides."""
        cuts = statistics.quantiles(ttfts, n=100, method="inclusive")
        return cls(
            ttft_mean_ms=1000 * statistics.fmean(ttfts),
            ttft_p50_ms=1000 * cuts[49],
            ttft_p99_ms=1000 * cuts[98],
            latency_mean_ms=1000 * statistics.fmean(latencies),
            hit_rate=hit_rate,
            **more,
        )

    @classmethod
    def mean(cls, several: Sequence[Self]) -> Self:
        """The mean of each figure over several traces."""
        return cls(**{name: statistics.fmean(getattr(one, name) for one in several) for name in cls.names()})

    @classmethod
    def names(cls) -> list[str]:
        """The figures, in their order."""
        return [each.name for each in fields(cls)]

    @classmethod
    def head(cls, trace: str) -> str:
        """The head of a trace's table."""
        return f"{trace:<20}" + "".join(f"{TITLES[name]:>11}" for name in cls.names())

    def row(self, policy: str) -> str:
        """A policy's row in that table."""
        return f"{policy:<20}" + "".join(_cell(name, getattr(self, name)) for name in self.names())


def _cell(name: str, value: float) -> str:
    match name:
        case "hit_rate":
            return f"{value:>11.1%}"
        case "balance":
            return f"{value:>10.2f}x"
    return f"{value:>11.1f}"
