"""A limit on concurrent requests with a queue before it: first in, first out, but no client takes all of it."""

import asyncio
from collections import Counter

from router.errors import Overloaded, TimedOutInQueue, TooManyRequests
from router.server.admission.shares import ClientShares


class QueuePosition:
    """A request's position in the queue.

    Attributes:
        client: Whose request it is.
        weight: As how many requests it counts.
        size: Bytes of its body.
        admitted: Done when the request is admitted.
    """

    def __init__(self, client: str, weight: int, size: int) -> None:
        self.client = client
        self.weight = weight
        self.size = size
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(self) -> bool:
        """Whether the request is admitted, or gone."""
        return self.admitted.done()


class ConcurrencyGate:
    """Admits requests that count as `limit` at most; others wait, each for at most `timeout` seconds.

    A request that counts as more than `limit` is admitted when nothing else runs. While several clients come, each has
    a share of the limit and of the queue (`ClientShares`); a request beyond it does not hold up those behind it.

    Args:
        limit: Requests at once.
        queue: Requests that may wait.
        timeout: Seconds that one may wait.
        max_queued_bytes: Bytes of the bodies of waiting requests; None for no limit.

    Attributes:
        running: The weight of all admitted requests.
        queued_bytes: Bytes of the bodies of waiting requests.
        refused: Requests that could not wait or waited too long, by `full`, `bytes` and `timeout`.
    """

    def __init__(self, limit: int, queue: int, timeout: float, max_queued_bytes: int | None = None) -> None:
        self._limit = limit
        self._queue = queue
        self._timeout = timeout
        self._max_queued_bytes = max_queued_bytes
        self._running_shares = ClientShares(limit)
        self._waiting_shares = ClientShares(queue)
        self._returning: dict[QueuePosition, None] = {}  # admitted before, so ahead of those that wait; oldest first
        self._waiting: dict[QueuePosition, None] = {}
        self.running = 0
        self.queued_bytes = 0
        self.refused: Counter[str] = Counter()

    @property
    def max_weight(self) -> int:
        """As how many a request should count at most: for more, the gate would keep all others out for long."""
        return max(1, self._limit // 2)

    @property
    def waiting(self) -> int:
        """Number of queued requests."""
        return len(self._waiting) + len(self._returning)

    def check(self, size: int = 0, client: str = "") -> None:
        """Refuse a request with a body of `size` bytes when it could not even wait.

        Raises:
            TooManyRequests: The queue is full, or the client has its share of it.
            Overloaded: The queue holds as many bytes as it may.
        """
        self._running_shares.record_request(client)
        self._waiting_shares.record_request(client)
        if self._has_room(client, 1):
            return
        if self.waiting >= self._queue or not self._waiting_shares.allows(client, 1):
            self.refused["full"] += 1
            raise TooManyRequests(
                f"{self.running} requests run and {self.waiting} wait: that is the limit; try again later.",
                retry_after=1.0,
            )
        if self._max_queued_bytes is not None and self.queued_bytes + size > self._max_queued_bytes:
            self.refused["bytes"] += 1
            raise Overloaded(
                f"the requests that wait have {self.queued_bytes} bytes, so {size} more cannot wait; try again later.",
                retry_after=1.0,
            )

    def enter(self, size: int = 0, client: str = "") -> QueuePosition | None:
        """Admit a client's request with a body of `size` bytes, or queue it.

        Returns:
            None when the request is admitted: `leave` must follow. Else its position in the queue: `wait` must follow.

        Raises:
            TooManyRequests, Overloaded: As `check`.
        """
        self.check(size, client)
        return self._admit_or_queue(QueuePosition(client, 1, size), self._waiting)

    def reenter(self, weight: int, client: str = "") -> QueuePosition | None:
        """As `enter` for a request that was admitted and has left for a while: it is not refused, and goes first."""
        return self._admit_or_queue(QueuePosition(client, weight, 0), self._returning)

    async def wait(self, position: QueuePosition) -> None:
        """Wait until the request is admitted; when this raises, `cancel` must follow, else `leave`.

        Raises:
            TimedOutInQueue: It was not admitted in time.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await position.admitted
        except TimeoutError:
            self.refused["timeout"] += 1
            raise TimedOutInQueue(
                f"the request waited {self._timeout:g} s for its turn; try again later.", retry_after=1.0
            ) from None

    def leave(self, weight: int = 1, client: str = "") -> None:
        """An admitted request has ended: admit the next ones."""
        self.running -= weight
        self._running_shares.hold(client, -weight)
        self._admit_next()

    def cancel(self, position: QueuePosition) -> None:
        """Take a request out of the queue."""
        for queue in (self._waiting, self._returning):
            if position in queue:
                self._take_out(position, queue)
                self._admit_next()
                return
        if not position.admitted.cancelled():
            self.leave(position.weight, position.client)  # it was admitted at the same moment

    def _fits(self, weight: int) -> bool:
        return self.running + weight <= self._limit or (self.running == 0 and self._limit > 0)

    def _has_room(self, client: str, weight: int) -> bool:
        """Whether a new request is admitted at once: there is room, and nobody waits for it."""
        queued = (*self._returning, *self._waiting)
        ahead = any(self._running_shares.allows(position.client, position.weight) for position in queued)
        return not ahead and self._fits(weight) and self._running_shares.allows(client, weight)

    def _admit_or_queue(self, position: QueuePosition, queue: dict[QueuePosition, None]) -> QueuePosition | None:
        queue[position] = None
        self.queued_bytes += position.size
        self._waiting_shares.hold(position.client, 1)
        self._admit_next()
        return None if position.done() else position

    def _admit_next(self) -> None:
        """Admit who waits longest, and so on, until there is no room for the next one."""
        for queue in (self._returning, self._waiting):
            for position in [*queue]:
                if position.done():
                    self._take_out(position, queue)
                elif self._running_shares.allows(position.client, position.weight):
                    if not self._fits(position.weight):
                        return
                    self._take_out(position, queue)
                    self.running += position.weight
                    self._running_shares.hold(position.client, position.weight)
                    position.admitted.set_result(None)

    def _take_out(self, position: QueuePosition, queue: dict[QueuePosition, None]) -> None:
        del queue[position]
        self.queued_bytes -= position.size
        self._waiting_shares.hold(position.client, -1)
