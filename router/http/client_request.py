"""A client's request with its id and what logs, metrics and traces record about it."""

import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from router.http.asgi import SSE_HEADERS, AsgiRequest, Headers, Message, Receive, Scope, Send
from router.http.body_budget import BodyBudget
from router.http.ids import new_id
from router.http.keep_alive import KeepAlive

if TYPE_CHECKING:
    from router.observability.tracing.request_span import RequestSpan

ID_HEADERS = (b"x-request-id", b"x-correlation-id", b"x-trace-id", b"request-id")
MAX_ID_LENGTH = 256  # bytes of a request id that a client chose
# Who the client is, in requests between processes of one router: `client_key`, `namespace` and `rights`.
CLIENT_HEADER, NAMESPACE_HEADER, RIGHTS_HEADER = b"x-moa-client", b"x-moa-namespace", b"x-moa-rights"


class ClientRequest(AsgiRequest):
    """One request of a client.

    Attributes:
        id: The request id that the client chose, or a new one; sent back and logged.
        started_at: When it arrived, on the monotonic clock.
        status: The response's HTTP status; 499 when the client left before it started.
        extra_headers: Headers added to the response, whatever it is.
        model: The requested model, where there is one.
        streaming: Whether the response is a stream.
        workers: The addresses of the last attempt's workers, prefill first.
        attempts: How often it was sent to a pair.
        first_chunk_at: When the first chunk of the response's body arrived, on the monotonic clock.
        stream_error: The kind of an error that was told in a stream which had begun; empty without one.
        internal: Whether it comes from another process of this router.
        rights: What its client may do: `data`, `runs`, `admin`.
        key_is_foreign: Whether an `authorization` that it has is no key of this router's, and so is for the workers.
        drained: Whether draining the router waits for it.
        span: Its span; None without tracing.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        max_body: int,
        id_headers: tuple[bytes, ...] = ID_HEADERS,
        budget: BodyBudget | None = None,
    ) -> None:
        super().__init__(scope, receive, send, max_body=max_body, budget=budget)
        self.id = self._find_request_id(id_headers) or new_id()
        self.started_at = time.monotonic()
        self.status = 499
        self.extra_headers: Headers = [(b"x-request-id", self.id.encode("latin-1"))]
        self.model: str | None = None
        self.streaming = False
        self.workers: tuple[str, ...] = ()
        self.attempts = 0
        self.first_chunk_at: float | None = None
        self.stream_error = ""
        self.internal = False
        self.rights: frozenset[str] = frozenset()
        self.key_is_foreign = False
        self.drained = False
        self.span: RequestSpan | None = None
        self._prefetched_body: bytes | None = None
        self._keep_alive: KeepAlive | None = None

    def _find_request_id(self, id_headers: tuple[bytes, ...]) -> str | None:
        """The request id that the client chose, from the first of the headers that has one."""
        ids = {name: value for name, value in self.headers if name in id_headers and 0 < len(value) <= MAX_ID_LENGTH}
        for name in id_headers if ids else ():
            if name in ids:
                return ids[name].decode("latin-1")
        return None

    def trust_sender(self) -> None:
        """It comes from another process of this router, which has checked who its client is."""
        self.internal = True
        self.namespace = self.header(NAMESPACE_HEADER) or ""
        self.rights = frozenset((self.header(RIGHTS_HEADER) or "").split(",")) - {""}

    @property
    def client_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers by which another process of this router knows its client."""
        return (
            (CLIENT_HEADER.decode(), self.client_key),
            (NAMESPACE_HEADER.decode(), self.namespace),
            (RIGHTS_HEADER.decode(), ",".join(sorted(self.rights))),
        )

    @property
    def client_key(self) -> str:
        """The name of its API key if that was checked, else its IP address.

        What a client says of itself without proof does not count: it would have new limits with each name it makes up.
        Another process of this router forwards the key of its client.
        """
        forwarded_key = self.header(CLIENT_HEADER) if self.internal else None
        if forwarded_key is not None:
            return forwarded_key
        return f"key:{self.namespace}" if self.namespace else super().client_key

    async def prefetch_body(self) -> bytes:
        """Read the body now; the next call of `body` returns it again."""
        self._prefetched_body = await super().body()
        return self._prefetched_body

    async def body(self) -> bytes:
        """As of `AsgiRequest`; the body is not kept, since it may be long."""
        prefetched, self._prefetched_body = self._prefetched_body, None
        return await super().body() if prefetched is None else prefetched

    async def send_stream(self, chunks: AsyncIterator[bytes], headers: Headers = SSE_HEADERS) -> None:
        """As of `AsgiRequest`: its callers have the first chunk."""
        self.streaming, self.first_chunk_at = True, time.monotonic()
        await super().send_stream(chunks, headers)

    def keep_stream_alive(self, interval: float) -> None:
        """Send a comment whenever a stream of events says nothing for so many seconds; `end_keep_alive` must follow."""
        self._send = self._keep_alive = KeepAlive(self._send, interval)

    def end_keep_alive(self) -> None:
        """The response has ended, however."""
        if self._keep_alive is not None:
            self._keep_alive.close()

    def observe_response(self, observer: Callable[[Message], None]) -> None:
        """Call `observer` with each ASGI message of the response before it is sent."""
        send = self._send
        self._connection = None  # it would send without ASGI messages

        async def observe_and_send(message: Message) -> None:
            observer(message)
            await send(message)

        self._send = observe_and_send

    def _start_response(self, status: int, headers: Headers) -> Headers:
        """As of `AsgiRequest`, with the extra headers."""
        self.status = status
        return super()._start_response(status, [*headers, *self.extra_headers])
