"""The limits of one client, which stand beside those of the whole router."""

from router.access.client import Client
from router.errors import TooManyRequests
from router.server.admission.gate import ConcurrencyGate
from router.server.admission.ticket import AdmissionTicket
from router.server.admission.token_bucket import TokenBucket


class ClientLimits:
    """Counts the requests of one client. They do not queue for its limits: what is too much is refused.

    Args:
        client: The client.
        timeout: Seconds for which a request that counts again, or as more, may wait for the client's others.
    """

    def __init__(self, client: Client, timeout: float) -> None:
        self._name = client.name
        most, rate = client.max_concurrent_requests, client.requests_per_second
        self._gate = None if most is None else ConcurrencyGate(most, 0, timeout)
        self._bucket = None if rate is None else TokenBucket(rate, most or rate)

    def check(self) -> None:
        """Raise `TooManyRequests` if another request would be too much."""
        if self._bucket is not None and (seconds := self._bucket.wait()):
            raise TooManyRequests(
                f"the key {self._name!r} sends more requests a second than it may; try again in {seconds:.2g} s.",
                retry_after=seconds,
            )
        if self._gate is not None:
            try:
                self._gate.check()
            except TooManyRequests:
                raise TooManyRequests(
                    f"the key {self._name!r} has as many requests at once as it may; wait for one of them.",
                    retry_after=1.0,
                ) from None

    def enter(self) -> AdmissionTicket:
        """Count a request; raises `TooManyRequests`."""
        self.check()
        if self._bucket is not None:
            self._bucket.take()
        if self._gate is not None:
            position = self._gate.enter()
            assert position is None, "nothing waits in a queue of no length"
        return AdmissionTicket(self._gate, self._bucket)
