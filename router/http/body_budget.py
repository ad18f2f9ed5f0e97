"""A budget for the bytes of request bodies that are in memory at once."""

from router.errors import Overloaded, TooLarge
from router.http.client_counts import ClientCounts

LONG_BODY_BYTES = 1 << 20  # from here on a body counts for its client's share too
CLIENT_SHARE = 0.5  # of the budget, for the long bodies of one client


class BodyBudget:
    """Counts the bytes of bodies from their first chunk until their requests are answered.

    A length that is announced takes nothing yet, so that a client cannot take the budget without sending anything.

    Args:
        total: Bytes of all bodies at once.

    Attributes:
        total: Bytes of all bodies at once.
        bytes_in_use: Bytes of the bodies that are in memory now.
        refusals: Number of requests refused.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.bytes_in_use = 0
        self.refusals = 0
        self._long_bodies = ClientCounts()  # their bytes
        self._client_share = max(int(total * CLIENT_SHARE), LONG_BODY_BYTES)

    def check(self, size: int, client: str) -> None:
        """Refuse a body of an announced size before it is read.

        Raises:
            TooLarge: It is longer than the whole budget, or than a client's share of it.
            Overloaded: There is no room for it now.
        """
        if size > (self.total if size < LONG_BODY_BYTES else self._client_share):
            self.refusals += 1
            raise TooLarge(f"the body has {size} bytes, more than the router keeps for a client; send a shorter one.")
        if self.bytes_in_use + size > self.total:
            self._refuse(f"the bodies of other requests take {self.bytes_in_use} of {self.total} bytes")
        if size >= LONG_BODY_BYTES and self._long_bodies.of(client) + size > self._client_share:
            self._refuse(f"your other requests' bodies take {self._long_bodies.of(client)} bytes")

    def take(self, size: int, more: int, client: str) -> None:
        """Count `more` bytes of a body of which `size` bytes are counted already; raises `Overloaded`."""
        if self.bytes_in_use + more > self.total:
            self._refuse(f"the bodies of all requests take {self.bytes_in_use} of {self.total} bytes")
        if size + more >= LONG_BODY_BYTES:
            grown = size + more - _long(size)
            if self._long_bodies.of(client) + grown > self._client_share:
                self._refuse(f"your requests' bodies take {self._long_bodies.of(client)} bytes")
            self._long_bodies.add(client, grown)
        self.bytes_in_use += more

    def release(self, size: int, client: str) -> None:
        """A request whose body took `size` bytes is answered."""
        self.bytes_in_use -= size
        if size >= LONG_BODY_BYTES:
            self._long_bodies.add(client, -size)

    def _refuse(self, reason: str) -> None:
        self.refusals += 1
        raise Overloaded(f"{reason}; try again later.", retry_after=1.0)


def _long(size: int) -> int:
    """The bytes of a body that count for its client's share."""
    return size if size >= LONG_BODY_BYTES else 0
