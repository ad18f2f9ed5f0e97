"""A limit on concurrent requests, with a first-in, first-out queue before it."""

import asyncio
from collections import deque

from router.errors import TimedOutInQueue, TooManyRequests

QueuePlace = asyncio.Future[None]


class ConcurrencyGate:
    """Admits at most `limit` requests at once; at most `queue` more wait, each for at most `timeout` seconds.

    Attributes:
        running: Number of admitted requests.
    """

    def __init__(self, limit: int, queue: int, timeout: float) -> None:
        self._limit = limit
        self._queue = queue
        self._timeout = timeout
        self._waiting: deque[QueuePlace] = deque()
        self.running = 0

    @property
    def waiting(self) -> int:
        """Number of queued requests."""
        return len(self._waiting)

    def check(self) -> None:
        """Raise `TooManyRequests` when the queue is full."""
        if self.running >= self._limit and len(self._waiting) >= self._queue:
            raise TooManyRequests(
                f"{self.running} requests run and {len(self._waiting)} wait: that is the limit; try again later.",
                retry_after=1.0,
            )

    def enter(self) -> QueuePlace | None:
        """Admit a request, or queue it.

        Returns:
            None when the request is admitted: `leave` must follow. Else its place in the queue: `wait` must follow.

        Raises:
            TooManyRequests: The queue is full.
        """
        self.check()
        if self.running < self._limit:
            self.running += 1
            return None
        place: QueuePlace = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        return place

    async def wait(self, place: QueuePlace) -> None:
        """Wait until the request is admitted; when this raises, `cancel` must follow, else `leave`.

        Raises:
            TimedOutInQueue: It was not admitted in time.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await place
        except TimeoutError:
            raise TimedOutInQueue(
                f"the request waited {self._timeout:g} s for its turn; try again later.", retry_after=1.0
            ) from None

    def leave(self) -> None:
        """An admitted request has ended: admit the next one."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.running -= 1

    def cancel(self, place: QueuePlace) -> None:
        """Take a request out of the queue."""
        if place.done() and not place.cancelled():
            self.leave()  # it was admitted at the same moment
        elif place in self._waiting:
            self._waiting.remove(place)
