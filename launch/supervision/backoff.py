"""The delay before a restart, and when to give up."""

MIN_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 60.0
HEALTHY_SECONDS = 300.0
"""A service that was ready for longer starts again from the shortest delay."""
MAX_FAILED_STARTS = 10
"""Starts in a row that may end before the service is ready; with the delays between them, seven minutes and more."""


class Backoff:
    """Exponential backoff of one service: 1, 2, 4, ... 60 seconds."""

    def __init__(self) -> None:
        self._next_delay = MIN_BACKOFF_SECONDS
        self._failed_starts = 0

    def next_delay(self, ready_seconds: float | None) -> float | None:
        """Seconds to wait before the next start, or None to give up.

        Args:
            ready_seconds: How long the service was ready in the life that has just ended; None if it never was.
        """
        self._failed_starts = self._failed_starts + 1 if ready_seconds is None else 0
        if self._failed_starts >= MAX_FAILED_STARTS:
            return None
        if ready_seconds is not None and ready_seconds > HEALTHY_SECONDS:
            self._next_delay = MIN_BACKOFF_SECONDS
        delay = self._next_delay
        self._next_delay = min(2 * delay, MAX_BACKOFF_SECONDS)
        return delay
