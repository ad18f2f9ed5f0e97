"""An admitted request's weight in the limits, and giving it back for a while."""

from collections.abc import Sequence

from router.server.admission.gate import ConcurrencyGate
from router.server.admission.token_bucket import TokenBucket


class AdmissionTicket:
    """The `Admission` of a request that has entered: it counts as one until it says otherwise.

    While it waits it holds nothing, so that no two requests wait for what the other holds.

    Args:
        gate: The limit on concurrent requests, or None.
        bucket: The limit on requests per second, or None.
        client: Whose request it is.
    """

    def __init__(self, gate: ConcurrencyGate | None, bucket: TokenBucket | None, client: str = "") -> None:
        self._gate = gate
        self._bucket = bucket
        self._client = client
        self._weight = 1
        self._counts = True

    @property
    def max_weight(self) -> int | None:
        """As of `Admission`."""
        return None if self._gate is None else self._gate.max_weight

    async def reweigh(self, weight: int) -> None:
        """As of `Admission`."""
        if self.would_change(weight):
            self.pause()
            await self.resume(weight)

    def would_change(self, weight: int) -> bool:
        """Whether it counts, and as another number."""
        return weight != self._weight and self._counts

    def pause(self) -> None:
        """As of `Admission`; the tokens go back too, since nothing was sent for them."""
        if self._counts:
            self._counts = False
            self._charge(-self._weight)
            if self._gate is not None:
                self._gate.leave(self._weight, self._client)

    async def resume(self, weight: int | None = None) -> None:
        """As of `Admission`, as so many requests from now on; None for as many as before.

        Tokens that are missing are owed rather than waited for: later requests wait for them.
        """
        if self._counts:
            return
        self._weight = self._weight if weight is None else weight
        gate = self._gate
        position = None if gate is None else gate.reenter(self._weight, self._client)
        if gate is not None and position is not None:
            try:
                await gate.wait(position)
            except BaseException:
                gate.cancel(position)
                raise
        self._counts = True
        self._charge(self._weight)

    def close(self) -> None:
        """The request has ended."""
        if self._counts and self._gate is not None:
            self._gate.leave(self._weight, self._client)
        self._counts = False

    def _charge(self, tokens: float) -> None:
        if self._bucket is not None:
            self._bucket.charge(tokens)


class AdmissionTickets:
    """The `Admission` of a request that counts for several limits, each with a ticket of its own.

    A request that waits for one limit counts only for limits before it, for which nobody waits who counts for one of
    those after it: so no two requests wait for each other.
    """

    def __init__(self, tickets: Sequence[AdmissionTicket]) -> None:
        self._tickets = tuple(tickets)

    @property
    def max_weight(self) -> int | None:
        """As of `Admission`."""
        return min((ticket.max_weight for ticket in self._tickets if ticket.max_weight is not None), default=None)

    async def reweigh(self, weight: int) -> None:
        """As of `Admission`."""
        if any(ticket.would_change(weight) for ticket in self._tickets):
            self.pause()
            for ticket in self._tickets:
                await ticket.resume(weight)

    def pause(self) -> None:
        """As of `Admission`."""
        for ticket in self._tickets:
            ticket.pause()

    async def resume(self) -> None:
        """As of `Admission`."""
        for ticket in self._tickets:
            await ticket.resume()

    def close(self) -> None:
        """The request has ended."""
        for ticket in self._tickets:
            ticket.close()
