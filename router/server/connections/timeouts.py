"""Time limits for slow clients: those that send a request, or read a response, too slowly are disconnected.

uvicorn has no such limits: a client that sends a byte now and then ("slow loris"), or reads nothing, could hold a
connection for ever.
"""

import asyncio
from typing import Any, ClassVar, Literal

import orjson

from router.errors import HeadTooLarge, RouterError, SlowClient
from router.server.connection_timeouts import ConnectionTimeouts
from router.server.connections.http2 import Http2Protocol
from router.server.connections.http2_frames import PREFACE
from router.server.connections.limits import MAX_HEAD_BYTES, MIN_BODY_BYTES
from router.server.connections.protocol import ClientProtocol, refusal_head


class _ProtocolWithTimeouts(ClientProtocol):
    """A client's connection with time limits.

    A request's head must be received within `limit`, and so must its body, unless it comes at a rate of
    `MIN_BODY_BYTES` per `limit`. Once the send buffers are full, the client must read something within `limit`.

    Attributes:
        limit: Seconds.
        timeouts: Counts connections that they close.
    """

    # As slots: more attributes than this and CPython no longer shares the keys of instance dicts, 1 KB a connection.
    __slots__ = ("_begun", "_read_timer", "_received", "_receiving", "_request_timer", "_unread")

    limit: ClassVar[float]
    timeouts: ClassVar[ConnectionTimeouts]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begun: bytes | None = b""  # what was received, until it is known whether it is HTTP/2
        self._receiving: Literal["nothing", "head", "body"] = "nothing"
        self._received = 0  # bytes received of it
        self._request_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._unread = 0  # bytes in the send buffer when `_read_timer` was started

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._request_timer = self.loop.call_later(self.limit, self._request_timed_out)

    def data_received(self, data: bytes) -> None:
        if self._begun is not None:
            data = self._without_http2(data)
            if not data:
                return
        self._received += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            self._start_read_timer()
        elif self._receiving == "head" and self._received > MAX_HEAD_BYTES:
            self._refuse(
                HeadTooLarge(f"the request's head is over {MAX_HEAD_BYTES} bytes; send fewer or shorter headers.")
            )
        elif self._receiving == "nothing" and self._answering:
            self._stop_request_timer()
        elif self._request_timer is None:
            self._request_timer = self.loop.call_later(self.limit, self._request_timed_out)

    def _without_http2(self, data: bytes) -> bytes:
        """What belongs to HTTP/1.1; nothing while that is not known, or once HTTP/2 has taken over the connection."""
        assert self._begun is not None
        data = self._begun + data
        if data.startswith(PREFACE):
            self._begun = None
            self._stop_request_timer()
            self.connections.discard(self)
            http2 = Http2Protocol(self.config, self.server_state, self.app_state, self.limit, self.timeouts)
            http2.connection_made(self.transport)
            self.transport.set_protocol(http2)
            http2.data_received(data)
            return b""
        if PREFACE.startswith(data):  # so far; `POST` begins with the same letter
            self._begun, self._receiving = data, "head"
            return b""
        self._begun, self._receiving = None, "nothing"
        return data

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_read_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_read_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_request_timer()
        self._stop_read_timer()
        super().connection_lost(exc)

    # httptools callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._receiving, self._received = "head", 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._receiving, self._received = "body", 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._receiving = "nothing"

    # uvicorn callbacks

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_read_timer()  # the transport keeps unsent data, also when it is closing

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._start_read_timer()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _request_timed_out(self) -> None:
        self._request_timer = None
        # Data may belong to a pipelined request behind the one being answered; uvicorn queues it only after its head.
        pipelined = bool(self.pipeline) or (self._answering and self._receiving != "body")
        fast_enough = self._receiving == "body" and self._received >= MIN_BODY_BYTES
        if fast_enough:
            self._received = 0
        if fast_enough or pipelined or self.flow.read_paused:
            self._request_timer = self.loop.call_later(self.limit, self._request_timed_out)
        elif self._receiving == "nothing":
            self.timeouts.count("idle")
            self._close()
        else:
            self.timeouts.count("header_read" if self._receiving == "head" else "body_read")
            self._refuse(SlowClient(f"the request was not sent whole within {self.limit:g} s; send it faster."))

    def _refuse(self, error: RouterError) -> None:
        """Send the error, unless another response has begun, and close the connection."""
        response_started = self._answering if self._receiving == "head" else self.cycle.response_started
        if not response_started:
            body = orjson.dumps(error.body())
            self.transport.write(refusal_head(error.status, len(body)) + body)
        self._close()

    def _close(self) -> None:
        self.transport.close()
        self._start_read_timer()

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _start_read_timer(self) -> None:
        if self._read_timer is None:
            self._unread = self.transport.get_write_buffer_size()
            self._read_timer = self.loop.call_later(self.limit, self._read_timed_out)

    def _read_timed_out(self) -> None:
        self._read_timer = None
        if self.transport.get_write_buffer_size() < self._unread:
            self._start_read_timer()
        else:
            self.timeouts.count("response_write")
            self.transport.abort()

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None


def protocol_with_timeouts(seconds: float, counted: ConnectionTimeouts | None = None) -> type[ClientProtocol]:
    """The protocol class with a time limit; what that closes is counted."""

    class LimitedProtocol(_ProtocolWithTimeouts):
        limit = seconds
        timeouts = counted or ConnectionTimeouts()

    return LimitedProtocol
