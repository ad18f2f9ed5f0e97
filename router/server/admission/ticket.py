"""An admitted request's place in the limits: its weight, and giving it back for a while."""

from router.server.admission.gate import ConcurrencyGate
from router.server.admission.token_bucket import TokenBucket


class AdmissionTicket:
    """The `Admission` of a request that has entered: it counts as one until it says otherwise.

    While it waits it holds nothing, so that no two requests wait for places that the other holds.

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

    async def reweigh(self, weight: int) -> None:
        """As of `Admission`."""
        if weight != self._weight and self._counts:
            self.pause()
            self._weight = weight
            await self.resume()

    def pause(self) -> None:
        """As of `Admission`; the tokens go back too, since nothing was sent for them."""
        if self._counts:
            self._counts = False
            self._charge(-self._weight)
            if self._gate is not None:
                self._gate.leave(self._weight, self._client)

    async def resume(self) -> None:
        """As of `Admission`. Tokens that are missing are owed rather than waited for: later requests wait for them."""
        if self._counts:
            return
        gate = self._gate
        place = None if gate is None else gate.reenter(self._weight, self._client)
        if gate is not None and place is not None:
            try:
                await gate.wait(place)
            except BaseException:
                gate.cancel(place)
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
