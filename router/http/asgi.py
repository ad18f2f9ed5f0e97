"""One HTTP request over ASGI: reads its body and sends its response."""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Protocol
from urllib.parse import parse_qs

import orjson

from router.errors import TooLarge, UnsupportedMedia
from router.http.admission import NO_LIMITS, Admission
from router.http.body import parse_object
from router.http.body_budget import BodyBudget

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON_HEADERS: Headers = [(b"content-type", b"application/json")]
SSE_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]

CONNECTION_EXTENSION = "router.connection"  # the extension of the scope that is a `ClientConnection`


class ClientConnection(Protocol):
    """A client's connection that can give a request and take a response whole, faster than through ASGI messages."""

    def take_body(self, scope: Scope) -> bytes | None:
        """The body of the request of a scope if all of it was received; None where only ASGI messages can tell."""

    def try_send_response(self, scope: Scope, status: int, headers: Headers, body: bytes) -> bool:
        """Send the whole response to the request of a scope; False, with nothing sent, where only ASGI messages can.

        The headers have no content-length; the connection adds it.
        """


class ClientGone(Exception):
    """The client closed its connection before its request was answered."""


class AsgiRequest:
    """One HTTP request.

    Args:
        scope: The ASGI scope.
        receive: Receives the client's ASGI messages.
        send: Sends ASGI messages to the client.
        max_body: The maximal length of the body in bytes.
        budget: Counts the bytes of all bodies in memory; None counts nothing.

    Attributes:
        header_values: Its headers by lower-case name; of several of one name the first.
        admission: The request's weight among those that are served at once.
        namespace: Whose runs it sees: the name of its client; empty where there are no API keys.
        response_started: Whether the response's headers were sent.
        response_complete: Whether the whole response was sent.
        timed_out: Whether its handler is cancelled because its time was over.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, max_body: int, budget: BodyBudget | None = None
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Headers = scope["headers"]
        self.header_values = dict(reversed(self.headers))
        self._client_address = scope.get("client")
        self._receive = receive
        self._send = send
        self._scope = scope
        self._connection: ClientConnection | None = scope.get("extensions", {}).get(CONNECTION_EXTENSION)
        self._max_body = max_body
        self._budget = budget
        self._received_bytes = 0  # of the body
        self._counted_bytes = 0  # of them, in the budget
        self._body_owner = ""  # whose share of the budget they count for
        self.admission: Admission = NO_LIMITS
        self.namespace = ""
        self.response_started = False
        self.response_complete = False
        self.timed_out = False

    def header(self, name: bytes) -> str | None:
        """A header's value by lower-case name; of several, the first."""
        value = self.header_values.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def scheme(self) -> str:
        """`http`, or `https` where its connection is encrypted."""
        return str(self._scope.get("scheme", "http"))

    @property
    def query_string(self) -> bytes:
        """The query of its URL, as it was sent."""
        query: bytes = self._scope.get("query_string", b"")
        return query

    def query(self, name: str) -> str | None:
        """A field of the query; None where it is not given."""
        values = parse_qs(self.query_string.decode("latin-1"), keep_blank_values=True).get(name)
        return None if values is None else values[-1]

    @property
    def client_key(self) -> str:
        """Identifies the client for its limits: its IP address."""
        return str(self._client_address[0]) if self._client_address else "unknown"

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            UnsupportedMedia: It is compressed.
            TooLarge: It is over the limit; when its length is announced, before any of it is read.
            Overloaded: There is no room for it now.
            ClientGone: The client left before its end.
        """
        self._refuse_encoded()
        client = self._body_owner = self.client_key if self._budget is not None else ""
        self._check_announced_length(client)
        if self._connection is not None and (whole := self._connection.take_body(self._scope)) is not None:
            self._count_body(len(whole), client)
            return whole
        chunks: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            self._count_body(len(chunk), client)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _count_body(self, more: int, client: str) -> None:
        """So many more bytes of the body were received."""
        self._received_bytes += more
        if self._received_bytes > self._max_body:
            raise self._too_large()
        if self._budget is not None:
            self._budget.take(self._counted_bytes, more, client)
            self._counted_bytes = self._received_bytes

    @property
    def announced_length(self) -> int:
        """The length that the request's head gives for the body; 0 when it gives none."""
        length = self.header_values.get(b"content-length", b"")
        return int(length) if length.isdigit() else 0

    def _check_announced_length(self, client: str) -> None:
        length = self.announced_length
        if length > self._max_body:
            raise self._too_large()
        if self._budget is not None:
            self._budget.check(length, client)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is over {self._max_body} bytes; send a shorter one.")

    def count_copies(self, copies: int) -> None:
        """Count the body as so many until the request is answered: it is sent as often at once.

        Raises:
            TooLarge: Together they are longer than the router keeps for a client.
            Overloaded: There is no room for them now.
        """
        more = self._counted_bytes * (copies - 1)
        if self._budget is None or more <= 0:
            return
        try:
            self._budget.check(more, self._body_owner)
        except TooLarge:
            raise TooLarge(
                f"the body has {self._counted_bytes} bytes, and {copies} copies of it are more than the router keeps "
                "for a client; ask for less at a time."
            ) from None
        self._budget.take(self._counted_bytes, more, self._body_owner)
        self._counted_bytes += more

    def release_body(self) -> None:
        """The request is answered: its body is no longer in memory."""
        if self._budget is not None and self._counted_bytes:
            self._budget.release(self._counted_bytes, self._body_owner)
            self._counted_bytes = 0

    def _refuse_encoded(self) -> None:
        """Raise `UnsupportedMedia` for a body that has to be decoded first."""
        encoding = self.header(b"content-encoding")
        if encoding is not None and encoding.strip().lower() not in ("", "identity"):
            raise UnsupportedMedia(
                f"the body has the content-encoding {encoding[:100]!r}, which is not read here; "
                "send it uncompressed, without that header."
            )

    async def json(self) -> dict[str, Any]:
        """The body as a JSON object; raises `BadRequest` when it is none, and as `body`."""
        return parse_object(await self.body())

    async def wait_for_disconnect(self) -> None:
        """Return when the client has closed its connection; call only after `body`."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _start_response(self, status: int, headers: Headers) -> Headers:
        """Note that the response starts; returns all its headers."""
        self.response_started = True
        return headers

    async def send_headers(self, status: int, headers: Headers) -> None:
        """Start the response."""
        headers = self._start_response(status, headers)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send_chunk(self, chunk: bytes, *, more: bool = True) -> None:
        """Send a chunk of the body; `more` is False for the last one."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})
        # Only now: while a slow client is waited for, it can still leave or run into the timeout.
        self.response_complete = not more

    async def send_response(self, status: int, body: bytes, headers: Headers = JSON_HEADERS) -> None:
        """Send a whole response; the content-length is added."""
        if self._connection is not None:
            all_headers = self._start_response(status, headers)
            if self._connection.try_send_response(self._scope, status, all_headers, body):
                self.response_complete = True
                return
        await self.send_headers(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.send_chunk(body, more=False)

    async def send_json(self, value: Any, status: int = 200) -> None:
        """Send a JSON response."""
        await self.send_response(status, orjson.dumps(value))

    async def send_stream(self, chunks: AsyncIterator[bytes], headers: Headers = SSE_HEADERS) -> None:
        """Send a response chunk by chunk, with status 200."""
        await self.send_headers(200, headers)
        async for chunk in chunks:
            await self.send_chunk(chunk)
        await self.send_chunk(b"", more=False)
