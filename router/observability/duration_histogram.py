"""A histogram of durations in plain numbers, for what every request counts."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString

DURATION_BUCKETS = (
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 45.0, 60.0, 90.0,
    120.0, 180.0, 240.0,
)  # fmt: skip


@dataclass(slots=True)
class DurationHistogram:
    """A histogram of durations in seconds.

    Attributes:
        counts: Observations in each bucket; the last bucket has those above the highest bound.
        total: The sum of all observations.
    """

    counts: list[int]
    total: float = 0.0

    @classmethod
    def empty(cls, bounds: Sequence[float]) -> "DurationHistogram":
        """One without observations, for these upper bounds."""
        return cls([0] * (len(bounds) + 1))

    def observe(self, bounds: Sequence[float], seconds: float) -> None:
        """Count one duration; an upper bound belongs to its bucket."""
        self.counts[bisect_left(bounds, seconds)] += 1
        self.total += seconds

    def add(self, other: "DurationHistogram") -> None:
        """Add all observations of another histogram with the same bounds."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str], bounds: Sequence[float]) -> None:
        """Make it the family's samples with these labels."""
        buckets, cumulative = [], 0
        for bound, count in zip((*bounds, float("inf")), self.counts, strict=True):
            cumulative += count
            le = floatToGoString(bound)  # type: ignore[no-untyped-call]
            buckets.append((le, float(cumulative)))
        family.add_metric(labels, buckets, self.total)
