"""Limits the number of concurrent runs: over all clients, and of each client."""

from collections.abc import Iterator
from contextlib import contextmanager

from router.errors import TooManyRuns
from router.http.client_counts import ClientCounts
from router.moa.settings import RunSettings


class RunSlot:
    """The share of the concurrent runs that a client's runs take."""

    def __init__(self, limits: "RunLimits", client: str, runs: int) -> None:
        self._limits = limits
        self._client = client
        self._runs = runs
        self._waits = False

    def wait(self, *, awaited: bool) -> None:
        """Count as waiting for other clients' requests rather than as running, so that these find room.

        Args:
            awaited: Whether another request waits for this one: then it is not refused, since refusing it would fail
                that one too.

        Raises:
            TooManyRuns: Enough requests wait already.
        """
        if not self._waits:
            self._limits._start_waiting(self._client, self._runs, awaited=awaited)
            self._waits = True

    def go_on(self) -> None:
        """Count as running again. It is never refused: others may wait for it in turn."""
        if self._waits:
            self._limits._stop_waiting(self._client, self._runs)
            self._waits = False

    def leave(self) -> None:
        """The runs have ended."""
        self.go_on()
        self._limits._running.add(self._client, -self._runs)


class RunLimits:
    """Counts concurrent runs, and the requests that wait for others of their run.

    Attributes:
        settings: The limits.
    """

    def __init__(self, settings: RunSettings) -> None:
        self.settings = settings
        self._running = ClientCounts()
        self._waiting = ClientCounts()

    @property
    def running(self) -> int:
        """Concurrent runs of all clients."""
        return self._running.total

    @property
    def waiting(self) -> int:
        """Requests of all clients that wait for others of their run."""
        return self._waiting.total

    @contextmanager
    def admit(self, client: str, runs: int = 1) -> Iterator[RunSlot]:
        """Count runs of a client while the block lasts; raises `TooManyRuns`."""
        of_client, limits = self._running.of(client), self.settings
        if of_client + runs > limits.per_client:
            message = f"you have {of_client} runs under way of {limits.per_client}; wait for one."
            raise TooManyRuns(message, retry_after=1.0)
        if self.running + runs > limits.total:
            message = f"{self.running} runs are under way, and {limits.total} is the most; try again later."
            raise TooManyRuns(message, retry_after=1.0)
        self._running.add(client, runs)
        slot = RunSlot(self, client, runs)
        try:
            yield slot
        finally:
            slot.leave()

    def _start_waiting(self, client: str, runs: int, *, awaited: bool) -> None:
        of_client, limits = self._waiting.of(client), self.settings
        if not awaited and of_client + runs > limits.waiting_per_client:
            message = f"{of_client} of your requests wait for other agents, which is the most; send those agents first."
            raise TooManyRuns(message, retry_after=1.0)
        if not awaited and self.waiting + runs > limits.waiting:
            message = f"{self.waiting} requests wait for other agents, which is the most; try again later."
            raise TooManyRuns(message, retry_after=1.0)
        self._running.add(client, -runs)
        self._waiting.add(client, runs)

    def _stop_waiting(self, client: str, runs: int) -> None:
        self._waiting.add(client, -runs)
        self._running.add(client, runs)
