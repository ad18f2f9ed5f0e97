"""What the rest of the router sees of tracing: a sender, and the requests to workers in its name.

`Leg` and `Legs` as they stand here are no spans and do nothing. They need no OpenTelemetry.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from router.exchange import Exchange
    from router.http.client import Response
    from router.workers import Pair, Worker

Headers = tuple[tuple[str, str], ...]


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

    def follow(self, heads: Sequence["asyncio.Task[Response]"], prefill: "asyncio.Task[bytes]") -> None:
        """They are under way: both answers' heads, and prefill's whole answer."""

    def ended(self, exchange: "Exchange", error: BaseException | None) -> None:
        """The exchange is over on both servers, by an error or without."""


class Sender(Protocol):
    """A span in whose name requests are sent."""

    def leg(self, worker: "Worker", path: str) -> Leg:
        """A request to one worker begins."""

    def legs(self, pair: "Pair", path: str) -> Legs:
        """An exchange begins."""

    def quietly(self) -> "Sender":
        """The same for requests that are no spans of their own: the workers' spans then join the sender's."""


NO_LEG, NO_LEGS = Leg(), Legs()
