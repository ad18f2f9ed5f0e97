"""A client's request with what is noted about it: its id, its answer's status, who served it."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from router.http.asgi import AsgiRequest, Headers, Message, Receive, Scope, Send
from router.http.ids import fresh_id

if TYPE_CHECKING:
    from router.observability.tracing.request_span import RequestSpan

ID_HEADERS = (b"x-request-id", b"x-correlation-id", b"x-trace-id", b"request-id")
MAX_ID_LENGTH = 256  # characters of a client's own id
CLIENT_HEADER = b"x-moa-client"  # who asks, in what one process of a router asks another


class ClientRequest(AsgiRequest):
    """One request of a client.

    Attributes:
        id: The client's own id of the request, or a new one; it stands in the answer and in the log.
        started_at: When it came, on the monotonic clock.
        status: Of the answer; 499 when the client left before it.
        extra_headers: Headers of every answer to it.
        model: The model asked for, where there is one.
        streaming: Whether the answer was a stream.
        workers: The addresses of the last attempt's workers, prefill first.
        attempts: How often it was sent to a pair.
        first_chunk_at: When the first piece of the answer's body was there.
        internal: Another process of this router asks.
        span: What is traced of it; None without tracing.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, max_body: int, id_headers: tuple[bytes, ...] = ID_HEADERS
    ) -> None:
        super().__init__(scope, receive, send, max_body=max_body)
        self.id = self._given_id(id_headers) or fresh_id()
        self.started_at = time.monotonic()
        self.status = 499
        self.extra_headers: Headers = [(b"x-request-id", self.id.encode("latin-1"))]
        self.model: str | None = None
        self.streaming = False
        self.workers: tuple[str, ...] = ()
        self.attempts = 0
        self.first_chunk_at: float | None = None
        self.internal = False
        self.span: RequestSpan | None = None
        self._whole: bytes | None = None

    def _given_id(self, names: tuple[bytes, ...]) -> str | None:
        given = {key: value for key, value in self.headers if key in names and 0 < len(value) <= MAX_ID_LENGTH}
        for name in names if given else ():
            if name in given:
                return given[name].decode("latin-1")
        return None

    @property
    def client(self) -> str:
        """As of a request; another process of this router tells whom it asks for."""
        asks = self.header(CLIENT_HEADER) if self.internal else None
        return super().client if asks is None else asks

    async def prefetch_body(self) -> bytes:
        """Read the body now, for `body` to return it later too."""
        self._whole = await super().body()
        return self._whole

    async def body(self) -> bytes:
        """As of a request; not kept, since bodies may be long."""
        whole, self._whole = self._whole, None
        return await super().body() if whole is None else whole

    def observe_response(self, observer: Callable[[Message], None]) -> None:
        """Let `seen` see each message of the answer before it goes out."""
        send = self._send
        self._connection = None  # which would send without a message

        async def shown(message: Message) -> None:
            observer(message)
            await send(message)

        self._send = shown

    def _begin(self, status: int, headers: Headers) -> Headers:
        """As of a request, with its id among the headers."""
        self.status = status
        return super()._begin(status, [*headers, *self.extra_headers])
