"""Clients that take their time: who sends its request, or takes its answer, too slowly is cut off.

uvicorn knows no such limits: with a byte now and then (a "slow loris") a client could hold a connection for ever, and
by reading nothing of its answer whatever that answer holds.
"""

import asyncio
from typing import Any, ClassVar, Literal

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from router.errors import HeadTooLarge, RouterError, SlowClient
from router.server.connections.protocol import ClientProtocol

MOST_HEAD = 64 << 10  # bytes; one read of the socket may go over it
LEAST_BODY = 4 << 20  # bytes of a body that is not whole yet which must come in each time limit


class _ImpatientProtocol(ClientProtocol):
    """A client's connection with time limits towards the client.

    A request's head must be whole within `limit`, and so must its body, unless it keeps coming at `LEAST_BODY` for each
    `limit`. Of an answer something must be taken within `limit` once the buffers between are full.

    Attributes:
        limit: Seconds.
    """

    # With these too among its attributes, each connection would have a dictionary of names of its own, of 1 KB.
    __slots__ = ("_came", "_coming", "_left", "_sending", "_taking")

    limit: ClassVar[float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._coming: Literal["nothing", "head", "body"] = "nothing"
        self._came = 0  # bytes of it
        self._sending: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._left = 0  # bytes that it has to take

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._sending = self.loop.call_later(self.limit, self._sent_too_slowly)

    def data_received(self, data: bytes) -> None:
        self._came += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            self._start_taking()
        elif self._coming == "head" and self._came > MOST_HEAD:
            self._refuse(HeadTooLarge(f"the request's head is over {MOST_HEAD} bytes; send fewer or shorter headers."))
        elif self._coming == "nothing" and self._answering:
            self._stop_sending()
        elif self._sending is None:
            self._sending = self.loop.call_later(self.limit, self._sent_too_slowly)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_taking()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_sending()
        self._stop_taking()
        super().connection_lost(exc)

    # httptools

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._coming, self._came = "head", 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._coming, self._came = "body", 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._coming = "nothing"

    # uvicorn

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_taking()  # closed or not, what was not taken is still kept for it

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._start_taking()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _sent_too_slowly(self) -> None:
        self._sending = None
        # What comes may be behind a request that is being answered; uvicorn's own queue begins after the head.
        behind = bool(self.pipeline) or (self._answering and self._coming != "body")
        going_on = self._coming == "body" and self._came >= LEAST_BODY
        if going_on:
            self._came = 0
        if going_on or behind or self.flow.read_paused:
            self._sending = self.loop.call_later(self.limit, self._sent_too_slowly)
        elif self._coming == "nothing":
            self._close()
        else:
            self._refuse(SlowClient(f"the request was not sent whole within {self.limit:g} s; send it faster."))

    def _refuse(self, error: RouterError) -> None:
        """Say why, unless that would stand in the middle of another answer, and close."""
        begun = self._answering if self._coming == "head" else self.cycle.response_started
        if not begun:
            body = orjson.dumps(error.body())
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[error.status] + head + body)
        self._close()

    def _close(self) -> None:
        self.transport.close()
        self._start_taking()

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _start_taking(self) -> None:
        if self._taking is None:
            self._left = self.transport.get_write_buffer_size()
            self._taking = self.loop.call_later(self.limit, self._taken)

    def _taken(self) -> None:
        self._taking = None
        if self.transport.get_write_buffer_size() < self._left:
            self._start_taking()
        else:
            self.transport.abort()

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


def protocol_with_timeouts(seconds: float) -> type[ClientProtocol]:
    """The protocol with its time limit."""

    class Limited(_ImpatientProtocol):
        limit = seconds

    return Limited
