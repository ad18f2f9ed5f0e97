"""Admits or refuses requests, as the flags for limits say."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from router.access.client import Client
from router.config.flags import flag
from router.errors import Overloaded, TooManyRequests
from router.http.admission import NO_LIMITS
from router.http.body_budget import BodyBudget
from router.http.client_request import ClientRequest
from router.http.disconnect import while_connected
from router.server.admission.client_limits import ClientLimits
from router.server.admission.gate import ConcurrencyGate, QueuePosition
from router.server.admission.ticket import AdmissionTicket, AdmissionTickets
from router.server.admission.token_bucket import TokenBucket


@dataclass(frozen=True)
class AdmissionSettings:
    """The flags for admission limits."""

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
        help_text="requests a second; a tree counts as its agents, in the limit above too",
    )
    queue_bytes: int = flag(
        "--queue-max-bytes", default=256 << 20, minimum=0, help_text="bytes of the bodies of requests that wait"
    )
    body_bytes: int = flag(
        "--max-body-bytes-in-flight",
        default=1 << 30,
        minimum=1,
        help_text="bytes of all bodies in memory; half of it for the long bodies of one client",
    )


class AdmissionLimits:
    """The admission limits of one process.

    Args:
        settings: The flags.
        clients: The clients that have API keys; those with limits of their own are held to them too.

    Attributes:
        bodies: Counts the bytes of all bodies in memory.
        gate: The limit on concurrent requests, or None.
        decisions: Number of requests `allowed` and `rejected`.
        enabled: Whether there is a limit on requests.
    """

    def __init__(self, settings: AdmissionSettings, clients: Iterable[Client] = ()) -> None:
        self.bodies = BodyBudget(settings.body_bytes)
        bounded = settings.max_concurrent >= 0
        self.gate = (
            ConcurrencyGate(
                settings.max_concurrent, settings.queue_size, settings.queue_timeout_secs, settings.queue_bytes
            )
            if bounded
            else None
        )
        burst = settings.max_concurrent if settings.max_concurrent > 0 else settings.rate
        self._bucket = TokenBucket(settings.rate, burst or 1) if settings.rate is not None else None
        self.decisions: Counter[str] = Counter()
        self._of_client = {
            each.name: ClientLimits(each, settings.queue_timeout_secs) for each in clients if each.limited
        }
        self.enabled = self.gate is not None or self._bucket is not None or bool(self._of_client)

    async def enter(self, request: ClientRequest) -> None:
        """Return when the request is admitted; then `leave` must follow.

        Limits are checked before and after the body is read, so a slow upload counts for nothing, and a request that is
        refused need not send its body. The request's `admission` is its ticket from here on.

        Raises:
            TooManyRequests: A limit is reached.
            TooLarge: The body is too long.
            Overloaded: There is no room for the body.
            TimedOutInQueue: It waited too long in the queue.
            ClientGone: The client left.
        """
        client, of_client = request.client_key, self._of_client.get(request.namespace)
        tickets: list[AdmissionTicket] = []
        try:
            if of_client is not None:
                of_client.check()
            self._check(request.announced_length, client)
            body = await request.prefetch_body()
            if of_client is not None:
                tickets.append(of_client.enter())
            position = self._admit(len(body), client)
            if not request.internal:  # another process has counted it
                self.decisions["allowed"] += 1
            if position is not None:
                await self._wait(position, request)
        except BaseException as error:
            if isinstance(error, TooManyRequests | Overloaded):
                self.decisions["rejected"] += 1
            for ticket in tickets:
                ticket.pause()  # it gives its token back too
            raise
        tickets.append(AdmissionTicket(self.gate, self._bucket, client))
        request.admission = tickets[0] if len(tickets) == 1 else AdmissionTickets(tickets)

    def leave(self, request: ClientRequest) -> None:
        """An admitted request has ended."""
        ticket, request.admission = request.admission, NO_LIMITS
        if isinstance(ticket, AdmissionTicket | AdmissionTickets):
            ticket.close()

    def _check(self, size: int, client: str) -> None:
        if self._bucket is not None:
            _refuse_for(self._bucket.wait())
        if self.gate is not None:
            self.gate.check(size, client)

    def _admit(self, size: int, client: str) -> QueuePosition | None:
        if self._bucket is not None:
            _refuse_for(self._bucket.take())
        return self.gate.enter(size, client) if self.gate is not None else None

    async def _wait(self, position: QueuePosition, request: ClientRequest) -> None:
        assert self.gate is not None
        try:
            await while_connected(request, self.gate.wait(position))
        except BaseException:
            self.gate.cancel(position)
            raise


def _refuse_for(seconds: float) -> None:
    """Raise `TooManyRequests` unless `seconds` until the next token are 0."""
    if seconds:
        raise TooManyRequests(f"more requests come than allowed; try again in {seconds:.2g} s.", retry_after=seconds)
