"""Counters of what speculative prefill did for one prompt."""

from dataclasses import asdict, dataclass
from typing import Any

from router.speculative_prefill.transport import TransportMode


@dataclass
class SpeculationStats:
    """What speculative prefill did for one prompt. `speculated`, `wasted` and `tail` count tokens.

    Attributes:
        segments: Segments that were prefilled.
        failed: Segments that a server refused or lost.
        moves: How often the prompt left its pair: unhealthy, removed, or far busier than others.
        speculated: Tokens prefilled ahead.
        wasted: Of those, tokens that the final prompt does not have.
        tail: Tokens left to prefill when the prompt was complete; None before that.
        beside: Most requests that decoded on the prefill server's GPU when a segment was considered.
        mode: How segments reached the servers; None when there were none.
    """

    segments: int = 0
    failed: int = 0
    moves: int = 0
    speculated: int = 0
    wasted: int = 0
    tail: int | None = None
    beside: int = 0
    mode: TransportMode | None = None

    @property
    def used(self) -> int:
        """Tokens prefilled ahead that the final prompt has; 0 until it is sent."""
        return 0 if self.tail is None else self.speculated - self.wasted

    def to_json(self) -> dict[str, Any]:
        """The counters for a trace."""
        return {**asdict(self), "used": self.used}
