"""Which headers of a client's request its workers get: ids, trace context, routing key, and a key meant for them."""

from dataclasses import dataclass
from typing import Protocol

from router.observability.tracing.leg_tracer import Headers
from router.workers.worker import Worker

_TRACE_CONTEXT = frozenset((b"traceparent", b"tracestate"))
_FORWARDED = _TRACE_CONTEXT | frozenset(
    (b"x-request-id", b"x-correlation-id", b"x-trace-id", b"request-id", b"x-smg-routing-key")
)
_ID_PREFIX = b"x-request-id-"
_PREFIX_LENGTH = len(_ID_PREFIX)


class RequestWithHeaders(Protocol):
    """The attributes of a client's request that decide what is forwarded."""

    headers: list[tuple[bytes, bytes]]
    key_is_foreign: bool

    def header(self, name: bytes) -> str | None:
        """A header's value by lower-case name; of several, the first."""

    @property
    def span(self) -> object | None:
        """Its span, whose own trace context the workers get; None without tracing."""


@dataclass(frozen=True, slots=True)
class ClientHeaders:
    """The headers of one request that go to its workers.

    Attributes:
        headers: Those that every worker gets.
        key: The client's `authorization`, for workers without an API key of their own; empty where there is none.
    """

    headers: Headers = ()
    key: Headers = ()

    def for_worker(self, worker: Worker) -> Headers:
        """The headers that a worker gets."""
        return self.headers + self.key_for(worker)

    def key_for(self, worker: Worker) -> Headers:
        """The header with the key alone, for what the router itself sends about the request, such as an abort."""
        return self.key if worker.api_key is None else ()


NO_CLIENT_HEADERS = ClientHeaders()


def client_headers(request: RequestWithHeaders) -> ClientHeaders:
    """What the workers get of a request's headers.

    A key of this router is never sent on. With tracing the router's trace context replaces the client's.
    """
    # A slice costs half of `startswith`, and this is done for every header of every request.
    headers = [each for each in request.headers if each[0] in _FORWARDED or each[0][:_PREFIX_LENGTH] == _ID_PREFIX]
    if headers and request.span is not None:
        headers = [each for each in headers if each[0] not in _TRACE_CONTEXT]
    key = request.header(b"authorization") if request.key_is_foreign else None
    if not headers and key is None:
        return NO_CLIENT_HEADERS
    return ClientHeaders(
        tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]),
        () if key is None else (("authorization", key),),
    )
