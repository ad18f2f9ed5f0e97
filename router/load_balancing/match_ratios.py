"""How much of each prompt some worker was thought to have cached."""

from bisect import bisect_left

BOUNDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class MatchRatios:
    """Shares of prompts, 0 to 1, in buckets.

    Attributes:
        counts: Prompts in each bucket of `BOUNDS`; an upper bound belongs to its bucket.
        total: The sum of all shares.
    """

    def __init__(self) -> None:
        self.counts = [0] * len(BOUNDS)
        self.total = 0.0

    def observe(self, ratio: float) -> None:
        """Count a prompt."""
        self.counts[bisect_left(BOUNDS, ratio)] += 1
        self.total += ratio

    def buckets(self) -> list[tuple[str, float]]:
        """Each upper bound with the number of prompts up to it."""
        cumulative, buckets = 0, []
        for bound, count in zip(BOUNDS, self.counts, strict=True):
            cumulative += count
            buckets.append((str(bound), float(cumulative)))
        return [*buckets, ("+Inf", float(cumulative))]
