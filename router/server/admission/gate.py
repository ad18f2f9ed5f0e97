"""A limit on what happens at once, with a queue before it."""

import asyncio
from collections import deque

from router.errors import TimedOutInQueue, TooManyRequests

Turn = asyncio.Future[None]


class ConcurrencyGate:
    """At most `limit` inside; at most `queue` wait, first come first served.

    Whoever is inside, or has got the turn, must `leave`.

    Attributes:
        inside: How many are.
    """

    def __init__(self, limit: int, queue: int, timeout: float) -> None:
        self._limit = limit
        self._queue = queue
        self._timeout = timeout
        self._waiting: deque[Turn] = deque()
        self.inside = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def check(self) -> None:
        """Raise `TooManyRequests` when the queue is full."""
        if self.inside >= self._limit and len(self._waiting) >= self._queue:
            raise TooManyRequests(
                f"{self.inside} requests run and {len(self._waiting)} wait: that is the limit; try again later.",
                retry_after=1.0,
            )

    def enter(self) -> Turn | None:
        """None when inside at once, else what to pass to `wait`; raises `TooManyRequests` when the queue is full."""
        self.check()
        if self.inside < self._limit:
            self.inside += 1
            return None
        turn: Turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return turn

    async def wait(self, turn: Turn) -> None:
        """Until inside; raises `TimedOutInQueue`. Whoever stops waiting, for any reason, must `give_up`."""
        try:
            async with asyncio.timeout(self._timeout):
                await turn
        except TimeoutError:
            raise TimedOutInQueue(
                f"the request waited {self._timeout:g} s for its turn; try again later.", retry_after=1.0
            ) from None

    def leave(self) -> None:
        """Let the next one in."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.inside -= 1

    def give_up(self, turn: Turn) -> None:
        """Wait no more."""
        if turn.done() and not turn.cancelled():
            self.leave()  # the turn came in the same moment
        elif turn in self._waiting:
            self._waiting.remove(turn)
