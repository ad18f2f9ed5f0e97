"""What the rest of the router sees of tracing: a sender, and the requests to workers in its name.

`Leg` and `Legs` as they stand here are no spans and do nothing. They need no OpenTelemetry.
"""

from types import TracebackType
from typing import Protocol, Self

Headers = tuple[tuple[str, str], ...]


class TracedWorker(Protocol):
    """What a span tells of a worker."""

    @property
    def url(self) -> str:
        """Its address, `http://host:port`."""

    @property
    def host(self) -> str:
        """The host of its address."""

    @property
    def port(self) -> int:
        """The port of its address."""

    @property
    def role(self) -> str:
        """`prefill`, `decode` or `plain`."""

    @property
    def model(self) -> str | None:
        """The model it serves; None where that is not known yet."""


class TracedPair(Protocol):
    """The two workers of an exchange."""

    @property
    def prefill(self) -> TracedWorker:
        """Its prefill server."""

    @property
    def decode(self) -> TracedWorker:
        """Its decode server."""


class Leg:
    """A request to one worker, for as long as the block lasts.

    Attributes:
        headers: What the request must carry for the worker's spans to join.
    """

    def __init__(self, headers: Headers = ()) -> None:
        self.headers = headers

    def answered(self, status: int) -> None:
        """The head of its answer is there."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Legs:
    """The two requests of an exchange.

    Attributes:
        headers: What each must carry, prefill's first.
    """

    def __init__(self, headers: tuple[Headers, Headers] = ((), ())) -> None:
        self.headers = headers

    def decode_answered(self, status: int) -> None:
        """The head of decode's answer is there; 0 when prefill failed first."""

    def prefill_ended(self, status: int, problem: BaseException | None) -> None:
        """Prefill has answered, or failed; `status` is 0 when it did not begin to answer."""

    def ended(self, error: BaseException | None, *, finished: bool, prefill_failed: bool) -> None:
        """The exchange is over on both servers.

        Args:
            error: What ended it early, if anything did.
            finished: Whether the whole answer came and no server waits for the other.
            prefill_failed: Whether `error` is the prefill server's failure.
        """


class Sender(Protocol):
    """A span in whose name requests are sent."""

    def leg(self, worker: TracedWorker, path: str) -> Leg:
        """A request to one worker begins."""

    def legs(self, pair: TracedPair, path: str) -> Legs:
        """An exchange begins."""

    def quietly(self) -> "Sender":
        """The same for requests that are no spans of their own: the workers' spans then join the sender's."""


NO_LEG, NO_LEGS = Leg(), Legs()
