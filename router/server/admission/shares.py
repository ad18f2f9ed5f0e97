"""What each client holds of a limit, so that one of them does not keep all others out."""

import time
from collections import OrderedDict
from collections.abc import Callable

from router.http.client_counts import ClientCounts

RESERVE = 1 / 8
RECENT_SECONDS = 10.0  # for which a client that has no request counts as one of those who share


class ClientShares:
    """Counts what each client holds of a limit.

    While several clients come, each leaves `RESERVE` of the limit free for the others, and what these hold besides, up
    to half of the limit. A client that is alone may hold all.
    """

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._held = ClientCounts()
        self._seen: OrderedDict[str, float] = OrderedDict()  # when each client came last, the oldest first

    def record_request(self, client: str) -> None:
        """Record that the client sent a request now."""
        now = self._clock()
        self._seen[client] = now
        self._seen.move_to_end(client)
        while next(iter(self._seen.values())) < now - RECENT_SECONDS:
            self._seen.popitem(last=False)

    def allows(self, client: str, weight: int) -> bool:
        """Whether a client may hold so much more. Who holds nothing always may."""
        held = self._held.of(client)
        if not held:
            return True
        if len(self._seen) <= 1 and len(self._held) <= 1:
            return True
        reserve = max(int(self._limit * RESERVE), 1) + self._held.total - held
        return held + weight <= self._limit - min(reserve, self._limit // 2)

    def hold(self, client: str, weight: int) -> None:
        """A client holds more, or less where `weight` is negative."""
        self._held.add(client, weight)
