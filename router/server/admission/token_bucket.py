"""A token bucket."""

import time
from collections.abc import Callable


class TokenBucket:
    """`rate` tokens a second, at most `size` saved up; full at the start."""

    def __init__(self, rate: float, size: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._size = max(size, 1.0)
        self._clock = clock
        self._tokens = self._size
        self._then = clock()

    def wait(self) -> float:
        """Seconds until there is a token; 0 when there is one."""
        now = self._clock()
        self._tokens = min(self._size, self._tokens + (now - self._then) * self._rate)
        self._then = now
        return max(0.0, (1 - self._tokens) / self._rate)

    def take(self) -> float:
        """Take a token and return 0; without one, return the seconds until there will be."""
        wait = self.wait()
        if not wait:
            self._tokens -= 1
        return wait
