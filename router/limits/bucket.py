"""A token bucket."""

import time
from collections.abc import Callable


class Bucket:
    """`rate` tokens a second, at most `size` saved up; full at the start."""

    def __init__(self, rate: float, size: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._size = max(size, 1.0)
        self._clock = clock
        self._tokens = self._size
        self._then = clock()

    def take(self) -> float:
        """Take a token and return 0; without one, return the seconds until there will be."""
        now = self._clock()
        self._tokens = min(self._size, self._tokens + (now - self._then) * self._rate)
        self._then = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0
