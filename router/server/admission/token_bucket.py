"""A token bucket: a limit on requests per second."""

import time
from collections.abc import Callable


class TokenBucket:
    """Gets `rate` tokens a second, and holds at most `size` of them; full at the start."""

    def __init__(self, rate: float, size: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._size = max(size, 1.0)
        self._clock = clock
        self._tokens = self._size
        self._updated_at = clock()

    def wait(self) -> float:
        """Seconds until a token is available; 0 when one is."""
        now = self._clock()
        self._tokens = min(self._size, self._tokens + (now - self._updated_at) * self._rate)
        self._updated_at = now
        return max(0.0, (1 - self._tokens) / self._rate)

    def take(self) -> float:
        """Take a token and return 0; when there is none, return the seconds until one is available."""
        wait = self.wait()
        if not wait:
            self._tokens -= 1
        return wait

    def charge(self, tokens: float) -> None:
        """Take tokens without asking: what is missing is owed, and later requests wait for it. Negative gives back."""
        self.wait()
        self._tokens = min(self._size, self._tokens - tokens)
