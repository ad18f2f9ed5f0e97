"""A client's connection: uvicorn's, but the head of an answer goes out with the first piece of its body.

uvicorn sends the two apart: two system calls, and two packets for the client to wake up for. An answer that is there
as a whole does not even become two messages: the connection itself, which is in the scope, takes it.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from router.http.asgi import CONNECTION_EXTENSION, Headers, Scope

INTERIM = b"HTTP/1.1 100 "
LONG = 1 << 18  # bytes of a body that is rather sent by itself than copied behind its head


def _nothing() -> None:
    """Nothing is left to be done."""


class _Headed:
    """Stands before a transport for one answer; what it does not know, the transport does."""

    def __init__(self, transport: asyncio.Transport, over: Callable[..., None]) -> None:
        self._transport = transport
        self._over = over
        self._head: bytes | None = None
        self._begun = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep the head, and send it with what comes next."""
        if self._begun:
            self._transport.write(data)
        elif self._head is not None:
            self._begun = True
            self._transport.write(self._head + data)
        elif data.startswith(INTERIM):
            self._transport.write(data)
        else:
            self._head = data

    def close(self) -> None:
        """Close, when all is sent."""
        self._flush()
        self._transport.close()

    def over(self) -> None:
        """The answer is whole."""
        self._flush()
        over = self._over
        self.leave()
        over()

    def leave(self) -> None:
        """Forget the connection, which knows this."""
        self._over = _nothing

    def _flush(self) -> None:
        """Send a head that nothing comes after."""
        if self._head is not None and not self._begun:
            self.write(b"")


class ClientProtocol(HttpToolsProtocol):
    """One client's connection."""

    _usual: ClassVar[tuple[Headers, bytes]] = [], b""

    def on_headers_complete(self) -> None:
        """A request's head is there, and its answer has not begun."""
        before = self.cycle
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is not before:
            headed = _Headed(cycle.transport, cycle.on_response)
            cycle.transport, cycle.on_response = cast(asyncio.Transport, headed), headed.over
            cast(dict[str, Any], self.scope)["extensions"] = {CONNECTION_EXTENSION: self}

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; what knows this connection forgets it, or all would stay until the collector comes by."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves it where the connection broke
        if self.cycle is not None:
            cast(_Headed, self.cycle.transport).leave()
            cast(dict[str, Any], self.cycle.scope)["extensions"].clear()

    def try_send_response(self, scope: Scope, status: int, headers: Headers, body: bytes) -> bool:
        """Send a scope's whole answer, for which the headers name no length; False where that takes ASGI's messages."""
        cycle = self.cycle
        unfit = cycle.response_started or cycle.disconnected or self.flow.write_paused
        if unfit or cycle.scope is not scope or scope["method"] == "HEAD":  # another cycle's: requests came in a row
            return False
        own = b"".join([b"%b: %b\r\n" % header for header in headers])
        if own.count(b"\n") != len(headers) or own.count(b"\r") != len(headers):
            return False  # uvicorn refuses a line break within a header
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        lines = [STATUS_LINE[status], self._usual_lines(), own]
        lines.append(b"content-length: %d\r\n" % len(body))
        lines.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        if len(body) < LONG:
            lines.append(body)
        self.transport.write(b"".join(lines))
        if len(body) >= LONG:
            self.transport.write(body)
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def _usual_lines(self) -> bytes:
        """The headers of every answer; uvicorn makes them anew each second."""
        usual = self.server_state.default_headers
        if ClientProtocol._usual[0] is not usual:
            ClientProtocol._usual = usual, b"".join(b"%b: %b\r\n" % header for header in usual)
        return ClientProtocol._usual[1]
