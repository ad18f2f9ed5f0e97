"""The interface through which the rest of the router traces its requests to workers; needs no OpenTelemetry.

`LegTrace` and `ExchangeTrace` as they stand here do nothing; `leg_spans.py` makes spans of them.
"""

from types import TracebackType
from typing import Protocol, Self

Headers = tuple[tuple[str, str], ...]


class TracedWorker(Protocol):
    """The attributes of a worker that its spans have."""

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


class LegTrace:
    """A request to one worker; a context manager whose block lasts as long as the request.

    Attributes:
        headers: Trace headers that the request must carry, so that the worker's spans join the trace.
    """

    def __init__(self, headers: Headers = ()) -> None:
        self.headers = headers

    def response_started(self, status: int) -> None:
        """The response's status and headers have arrived."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class ExchangeTrace:
    """The two requests of an exchange.

    Attributes:
        headers: Trace headers that each must carry, prefill's first.
    """

    def __init__(self, headers: tuple[Headers, Headers] = ((), ())) -> None:
        self.headers = headers

    def decode_response_started(self, status: int) -> None:
        """Decode's status and headers have arrived; `status` is 0 when prefill failed first."""

    def prefill_ended(self, status: int, error: BaseException | None) -> None:
        """Prefill's response is complete, or failed with `error`; `status` is 0 when it did not start."""

    def exchange_ended(self, error: BaseException | None, *, finished: bool, prefill_failed: bool) -> None:
        """The exchange is over on both servers.

        Args:
            error: What ended it early, or None.
            finished: Whether the whole response arrived and neither server waits for the other.
            prefill_failed: Whether `error` is the prefill server's failure.
        """


class LegTracer(Protocol):
    """Traces requests to workers as children of one span."""

    def start_leg(self, worker: TracedWorker, path: str, model: str | None = None, method: str = "POST") -> LegTrace:
        """A request to one worker starts; `model` is the one that it names, None for the worker's only one."""

    def start_exchange(self, pair: TracedPair, path: str) -> ExchangeTrace:
        """The two requests of an exchange start."""

    def propagate_only(self) -> "LegTracer":
        """A tracer that makes no spans: the workers' spans become children of this tracer's span."""


UNTRACED_LEG, UNTRACED_EXCHANGE = LegTrace(), ExchangeTrace()
