"""Limits the number of concurrent runs: over all clients, and of each client."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from router.errors import TooManyRuns
from router.moa.settings import RunSettings


class RunLimits:
    """Counts concurrent runs."""

    def __init__(self, settings: RunSettings) -> None:
        self._total = settings.total
        self._per_client = settings.per_client
        self._running: Counter[str] = Counter()  # by client

    @property
    def running(self) -> int:
        """Concurrent runs of all clients."""
        return self._running.total()

    @contextmanager
    def admit(self, client: str, runs: int = 1) -> Iterator[None]:
        """Count runs of a client while the block lasts; raises `TooManyRuns`."""
        of_client = self._running[client]
        if of_client + runs > self._per_client:
            message = f"you have {of_client} runs under way of {self._per_client}; wait for one."
            raise TooManyRuns(message, retry_after=1.0)
        if self.running + runs > self._total:
            message = f"{self.running} runs are under way, and {self._total} is the most; try again later."
            raise TooManyRuns(message, retry_after=1.0)
        self._running[client] += runs
        try:
            yield
        finally:
            self._running[client] -= runs
            if not self._running[client]:
                del self._running[client]
