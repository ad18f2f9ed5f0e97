"""The delay before a restart."""

MIN_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 60.0
HEALTHY_SECONDS = 300.0
"""A service that was ready for longer starts again from the shortest delay."""


class Backoff:
    """Exponential backoff of one service: 1, 2, 4, ... 60 seconds."""

    def __init__(self) -> None:
        self._next_delay = MIN_BACKOFF_SECONDS

    def next_delay(self, ready_seconds: float | None) -> float:
        """Seconds to wait before the next restart; `ready_seconds` have passed since the service was ready, if ever."""
        if ready_seconds is not None and ready_seconds > HEALTHY_SECONDS:
            self._next_delay = MIN_BACKOFF_SECONDS
        delay = self._next_delay
        self._next_delay = min(2 * delay, MAX_BACKOFF_SECONDS)
        return delay
