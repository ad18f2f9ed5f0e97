"""The limits of one router, as its flags say."""

from collections import Counter
from dataclasses import dataclass

from router.config.flags import flag
from router.errors import TooManyRequests
from router.http.client_request import ClientRequest
from router.http.disconnect import while_connected
from router.server.admission.gate import ConcurrencyGate, Turn
from router.server.admission.token_bucket import TokenBucket


@dataclass(frozen=True)
class AdmissionSettings:
    """How many requests are let in."""

    max_concurrent: int = flag(
        "--max-concurrent-requests", default=-1, minimum=-1, help_text="requests at once; -1 is no limit"
    )
    queue_size: int = flag("--queue-size", default=100, minimum=0, help_text="requests that may wait for their turn")
    queue_timeout_secs: float = flag(
        "--queue-timeout-secs", default=60, value_type=float, exclusive_minimum=0, help_text="seconds that one may wait"
    )
    rate: float | None = flag(
        "--rate-limit-tokens-per-second",
        default=None,
        value_type=float,
        exclusive_minimum=0,
        help_text="requests a second",
    )


class AdmissionLimits:
    """Lets requests in, or refuses them; without limits it costs nothing.

    Attributes:
        decisions: Requests, by `allowed` and `rejected`.
        on: Whether there is any limit.
    """

    def __init__(self, settings: AdmissionSettings) -> None:
        bounded = settings.max_concurrent >= 0
        self.gate = (
            ConcurrencyGate(settings.max_concurrent, settings.queue_size, settings.queue_timeout_secs)
            if bounded
            else None
        )
        burst = settings.max_concurrent if settings.max_concurrent > 0 else settings.rate
        self._bucket = TokenBucket(settings.rate, burst or 1) if settings.rate is not None else None
        self.decisions: Counter[str] = Counter()
        self.on = self.gate is not None or self._bucket is not None

    async def enter(self, request: ClientRequest) -> None:
        """Return when the request is let in; then `leave` must follow.

        Its body is read before: while that comes, slowly or not at all, it has no place that others wait for. Who
        would not be let in is told so before that too.

        Raises:
            TooManyRequests: The limits are reached.
            TimedOutInQueue: Its turn did not come in time.
            ClientGone: Nobody waits any more.
        """
        try:
            self._check()
            await request.prefetch_body()
            turn = self._take()
        except TooManyRequests:
            self.decisions["rejected"] += 1
            raise
        self.decisions["allowed"] += 1
        if turn is not None:
            await self._wait(turn, request)

    def leave(self) -> None:
        """A request that was let in is over."""
        if self.gate is not None:
            self.gate.leave()

    def _check(self) -> None:
        if self._bucket is not None:
            _refuse(self._bucket.wait())
        if self.gate is not None:
            self.gate.check()

    def _take(self) -> Turn | None:
        if self._bucket is not None:
            _refuse(self._bucket.take())
        return self.gate.enter() if self.gate is not None else None

    async def _wait(self, turn: Turn, request: ClientRequest) -> None:
        assert self.gate is not None
        try:
            await while_connected(request, self.gate.wait(turn))
        except BaseException:
            self.gate.give_up(turn)
            raise


def _refuse(wait: float) -> None:
    """Raise `TooManyRequests` when there is a wait."""
    if wait:
        raise TooManyRequests(f"more requests come than allowed; try again in {wait:.2g} s.", retry_after=wait)
