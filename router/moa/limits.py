"""How many runs at once: of all clients, and of each."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from router.errors import TooManyRuns


class Limits:
    """Counts runs under way.

    Args:
        total: Most of all clients.
        per_client: Most of one.
    """

    def __init__(self, total: int = 256, per_client: int = 64) -> None:
        self._total = total
        self._per_client = per_client
        self._running: Counter[str] = Counter()

    @property
    def running(self) -> int:
        """Runs under way."""
        return self._running.total()

    @contextmanager
    def admit(self, client: str, runs: int = 1) -> Iterator[None]:
        """Count runs of a client while the block lasts; raises `TooManyRuns`."""
        if self._running[client] + runs > self._per_client:
            raise TooManyRuns(f"you have {self._running[client]} runs under way of {self._per_client}; wait for one.")
        if self.running + runs > self._total:
            raise TooManyRuns(f"{self.running} runs are under way, and {self._total} is the most; try again later.")
        self._running[client] += runs
        try:
            yield
        finally:
            self._running[client] -= runs
            if not self._running[client]:
                del self._running[client]
