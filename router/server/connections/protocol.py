"""A client's connection: uvicorn's protocol, but a response's head is sent with the first chunk of its body.

uvicorn sends the two apart, which costs two system calls and two packets. A body that was received whole comes from the
connection in one call (`take_body`), and a whole response goes to it in one (`try_send_response`), without messages of
ASGI.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

import orjson
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from router.errors import BadRequest
from router.http.asgi import CONNECTION_EXTENSION, Headers, Scope
from router.server.connections.old_clients import UnchunkedCycle
from router.server.connections.upgrades import head_without_upgrade
from router.transports.write_batch import BatchedTransport

CONTINUE = b"HTTP/1.1 100 "
LARGE_BODY_BYTES = 1 << 18  # from this size on, a body is sent by itself rather than copied behind its head


def refusal_head(status: int, length: int) -> bytes:
    """The head of a response that ends the connection, with a JSON body of `length` bytes."""
    headers = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % length
    return STATUS_LINE[status] + headers


def _nothing() -> None:
    """Do nothing."""


class _HeadBuffer:
    """The transport of one response: holds the head back until the first write of the body.

    Other attributes are those of the transport.

    Args:
        transport: The connection's transport.
        on_response: Called when the response is complete.
    """

    def __init__(self, transport: asyncio.Transport, on_response: Callable[..., None]) -> None:
        self._transport = transport
        self._on_response = on_response
        self._head: bytes | None = None
        self._head_sent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep the head, and send it with the next write."""
        if self._head_sent:
            self._transport.write(data)
        elif self._head is not None:
            self._head_sent = True
            self._transport.write(self._head + data)
        elif data.startswith(CONTINUE):
            self._transport.write(data)
        else:
            self._head = data

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self._flush()
        self._transport.close()

    def complete(self) -> None:
        """The response is complete."""
        self._flush()
        on_response = self._on_response
        self.detach()
        on_response()

    def detach(self) -> None:
        """Drop the reference to the connection, which references this object too."""
        self._on_response = _nothing

    def _flush(self) -> None:
        """Send a head without a body."""
        if self._head is not None and not self._head_sent:
            self.write(b"")


class ClientProtocol(HttpToolsProtocol):
    """One client's connection."""

    _default_header_cache: ClassVar[tuple[Headers, bytes]] = [], b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection is open."""
        super().connection_made(cast(asyncio.Transport, BatchedTransport(transport)))

    def data_received(self, data: bytes) -> None:
        """Bytes were received: parse them. An offer to upgrade the connection is ignored."""
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    return
                except HttpParserUpgrade as upgrade:
                    rest = memoryview(rest)[upgrade.args[0] :]  # copies of it would be quadratic
                self._parse_without_upgrade()
        except HttpParserError:
            self.send_400_response("this is not HTTP/1.1, or not a request that is served here; see RFC 9112.")

    def send_400_response(self, msg: str) -> None:
        """Refuse what could not be parsed, unless another response has begun, and close the connection."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = orjson.dumps(BadRequest(msg).body())
            self.transport.write(refusal_head(400, len(body)) + body)
        self.transport.close()

    def _parse_without_upgrade(self) -> None:
        """Parse the head again that was just received, without its offer to upgrade, and go on from there."""
        method = self.parser.get_method()
        if method == b"CONNECT":  # to the parser itself an upgrade
            raise HttpParserError("this is no proxy")
        head = head_without_upgrade(method, self.url, self.parser.get_http_version(), self.headers)
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self.parser.feed_data(head)

    def on_message_complete(self) -> None:
        """A request was received whole."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_headers_complete(self) -> None:
        """A request's head was received: buffer the head of its response."""
        if self.parser.should_upgrade():
            return
        previous = self.cycle
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is not previous:
            if self.parser.get_http_version() == "1.0":
                cycle.__class__ = UnchunkedCycle  # uvicorn names the class of its cycles nowhere
                cycle.waiting_for_100_continue = False
            head_buffer = _HeadBuffer(cycle.transport, cycle.on_response)
            cycle.transport, cycle.on_response = cast(asyncio.Transport, head_buffer), head_buffer.complete
            cast(dict[str, Any], self.scope)["extensions"] = {CONNECTION_EXTENSION: self}

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: break reference cycles, so that memory is freed without the garbage collector."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves the timer where a connection breaks
        if self.cycle is not None:
            cast(_HeadBuffer, self.cycle.transport).detach()
            cast(dict[str, Any], self.cycle.scope)["extensions"].clear()

    def take_body(self, scope: Scope) -> bytes | None:
        """The body of a request if all of it was received; None where the request must wait for ASGI messages."""
        cycle = self.cycle
        # The scope is another one where the client has pipelined requests.
        if cycle.scope is not scope or cycle.more_body or cycle.disconnected or self.flow.read_paused:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        cycle.message_event.clear()  # what comes next is that the client leaves
        return body

    def try_send_response(self, scope: Scope, status: int, headers: Headers, body: bytes) -> bool:
        """Send a whole response; `headers` have no content-length.

        Returns:
            False when nothing was sent, and the response must go through ASGI messages.
        """
        cycle = self.cycle
        unavailable = cycle.response_started or cycle.disconnected or self.flow.write_paused
        # The scope is another one where the client has pipelined requests.
        if unavailable or cycle.scope is not scope or scope["method"] == "HEAD":
            return False
        header_lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        if header_lines.count(b"\n") != len(headers) or header_lines.count(b"\r") != len(headers):
            return False  # uvicorn refuses a line break within a header
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        lines = [STATUS_LINE[status], self._default_header_lines(), header_lines]
        lines.append(b"content-length: %d\r\n" % len(body))
        lines.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        if len(body) < LARGE_BODY_BYTES:
            lines.append(body)
        self.transport.write(b"".join(lines))
        if len(body) >= LARGE_BODY_BYTES:
            self.transport.write(body)
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def _default_header_lines(self) -> bytes:
        """The headers of every response, encoded; uvicorn makes a new list of them each second."""
        headers = self.server_state.default_headers
        if ClientProtocol._default_header_cache[0] is not headers:
            ClientProtocol._default_header_cache = headers, b"".join(b"%b: %b\r\n" % header for header in headers)
        return ClientProtocol._default_header_cache[1]
