"""What is sent on an HTTP/2 connection: responses as the client takes them, refusals, and its end."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import orjson
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hpack import NeverIndexedHeaderTuple
from hyperframe.frame import GoAwayFrame

from router.errors import RouterError
from router.http.asgi import JSON_HEADERS, Headers
from router.server.connections.http2_frames import MAX_FRAME_BYTES, FrameLengths
from router.server.connections.http2_stream import CONNECTION_HEADERS, Stream
from router.server.connections.limits import MAX_HEAD_BYTES, MIN_BODY_BYTES

MAX_STREAMS = 200  # at once, those included that a client has reset and that are not over yet
STREAM_WINDOW, CONNECTION_WINDOW = 256 << 10, 1 << 20  # bytes of bodies that the app has not read yet
DEFAULT_WINDOW = 65535  # with which every connection begins
MAX_HEADER_TABLE = 4096  # bytes of headers that both sides remember, whatever the client offers

LINGER_SECONDS = 1.0  # for which a client that was told of the end may close by itself


class _Connection(H2Connection):
    """Remembers fewer streams that were closed: 65,536 numbers would take megabytes."""

    MAX_CLOSED_STREAMS = 4 * MAX_STREAMS


class Http2Sender:
    """Writes to a client what its streams send.

    Args:
        transport: The connection's transport.
        server_state: Has the headers of every response, a new list each second.
        limit: Seconds for which a client may take nothing of what is there for it.
        lengths: Is told of the frames with bodies.

    Attributes:
        h2: The protocol's state; it writes nothing by itself.
        write_paused: Whether the client does not read.
    """

    def __init__(self, transport: Any, server_state: Any, limit: float, lengths: FrameLengths) -> None:
        self.limit = limit
        self.lengths = lengths
        self._transport = transport
        self._server_state = server_state
        self.write_paused = self._reading_held = self._ended = False
        self._linger_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._sent = 0  # bytes of bodies
        self._unread = 0  # bytes in the send buffer when `_stall_timer` was started
        self.h2 = _Connection(H2Configuration(client_side=False, header_encoding=None))
        values = {
            SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD_BYTES,
        }
        self.h2.local_settings = Settings(client=False, initial_values=values)
        self.h2.initiate_connection()
        # h2 ends the connection of a client that begins too many streams; those that it began before it knew the limit
        # are only refused, by `Http2Protocol`.
        more = values | {SettingCodes.MAX_CONCURRENT_STREAMS: 2 * MAX_STREAMS}
        self.h2.local_settings = Settings(client=False, initial_values=more)
        self.h2.increment_flow_control_window(CONNECTION_WINDOW - DEFAULT_WINDOW)
        self.flush()

    @property
    def closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._ended or bool(self._transport.is_closing())

    def flush(self) -> None:
        """Write what there is."""
        data = self.h2.data_to_send()
        if data and not self.closing:
            self._transport.write(data)

    def acknowledge(self, stream: Stream, size: int) -> None:
        """So many bytes of a request's body were read: the client may send more."""
        if not self.closing:
            with suppress(H2Error):
                self.h2.acknowledge_received_data(size, stream.id)
            self.flush()

    def send_head(self, stream: Stream, status: int, headers: Headers, *, last: bool) -> None:
        """Send status and headers; they are written with the first bytes of the body, unless there are none."""
        if self.closing:
            return
        fields = [(b":status", b"%d" % status)]
        if status >= 200:
            fields += self._server_state.default_headers
        fields += [(name.lower(), value) for name, value in headers if name.lower() not in CONNECTION_HEADERS]
        # Another one each time, it would only push others out of the table of headers.
        fields = [NeverIndexedHeaderTuple(*each) if each[0] == b"x-request-id" else each for each in fields]
        self.h2.send_headers(stream.id, fields, end_stream=last)
        if last or status < 200:
            self.flush()

    async def send_body(self, stream: Stream, body: bytes, *, last: bool) -> None:
        """Send bytes of a body as the client takes them; breaks off when it makes too little room."""
        rest = memoryview(body)
        while not (stream.disconnected or self.closing):
            room = min(self.h2.local_flow_control_window(stream.id), self.h2.max_outbound_frame_size, MAX_FRAME_BYTES)
            if self.write_paused or (rest and room <= 0):
                self.flush()
                await self._room(stream)
                continue
            piece, rest = rest[:room], rest[room:]
            if piece or last:
                self.h2.send_data(stream.id, bytes(piece), end_stream=last and not rest)
                self.lengths.sent_frames += 1
                stream.sent += len(piece)
                self._sent += len(piece)
            self.flush()
            if not rest:
                return

    async def _room(self, stream: Stream) -> None:
        """Return when there may be room for more; the stream is then broken off if it has waited for too long.

        It may wait for `limit` seconds, and for more by what the client takes meanwhile, at `MIN_BODY_BYTES` per
        `limit`. Times in which it did not wait count for the client too. Whatever else the client sends does not.
        """
        stream.writable.clear()
        if self.write_paused:
            await stream.writable.wait()  # `_stalled` ends it
            return
        began = time.monotonic()
        last, own, all_streams = stream.last_wait
        # Where the connection's window is the narrow one, the client may have taken what other streams sent.
        narrow = self.h2.outbound_flow_control_window <= 0
        taken = self._sent - all_streams if narrow else stream.sent - own
        gained = began - last + taken * self.limit / MIN_BODY_BYTES
        stream.patience = min(self.limit, stream.patience + gained)
        try:
            async with asyncio.timeout(stream.patience):
                await stream.writable.wait()
        except TimeoutError:
            self.reset(stream)
        stream.last_wait = now, _, _ = time.monotonic(), stream.sent, self._sent
        stream.patience -= now - began

    def settings_changed(self) -> None:
        """The client has other settings now, which h2 has taken over."""
        encoder = self.h2.encoder
        if encoder.header_table_size > MAX_HEADER_TABLE:  # noqa: PLR1730 - set again, hpack would not tell of it
            encoder.header_table_size = MAX_HEADER_TABLE
        if changes := encoder.table_size_changes:  # all are told with the next headers; RFC 7541, 4.2 asks for these
            changes[:] = [min(changes), encoder.header_table_size]

    def reset(self, stream: Stream) -> None:
        """Break a response off."""
        if not self.closing:
            with suppress(H2Error):
                self.h2.reset_stream(stream.id, ErrorCodes.INTERNAL_ERROR)
            self.leave(stream)
            self.flush()

    def refuse(self, stream: Stream, error: RouterError) -> None:
        """Answer a stream with an error, unless another response has begun, and end it."""
        with suppress(H2Error):
            if not stream.started:
                body = orjson.dumps(error.body())
                self.send_head(
                    stream, error.status, [*JSON_HEADERS, (b"content-length", b"%d" % len(body))], last=False
                )
                self.h2.send_data(stream.id, body, end_stream=True)
            self.h2.reset_stream(stream.id, ErrorCodes.NO_ERROR)
        self.leave(stream)
        self.flush()

    def leave(self, stream: Stream) -> None:
        """Drop a stream and return its unread bytes to the flow-control window."""
        unread, stream.unread_bytes = stream.unread_bytes, 0
        stream.disconnect()
        if unread:
            self.acknowledge(stream, unread)

    @staticmethod
    def wake(streams: Iterable[Stream]) -> None:
        """There may be room for more on these."""
        for stream in streams:
            stream.writable.set()

    def pause(self) -> None:
        """The client does not read; what it sends may ask for answers, so it waits too."""
        self.write_paused = True
        if not self.closing:
            self._transport.pause_reading()
        self._start_stall_timer()

    def resume(self) -> None:
        """The client has read."""
        self.write_paused = False
        if not self.closing:
            if not self._reading_held:
                self._transport.resume_reading()
            self._stop_stall_timer()

    def hold_reading(self, held: bool) -> None:
        """Read nothing while something that was read waits to be parsed."""
        self._reading_held = held
        if self.closing:
            return
        if held:
            self._transport.pause_reading()
        elif not self.write_paused:
            self._transport.resume_reading()

    def go_away(self) -> None:
        """Tell the client that no further request is taken."""
        # h2 itself could not send any more after its own.
        number = self.h2.highest_inbound_stream_id
        self._transport.write(GoAwayFrame(0, last_stream_id=number, error_code=ErrorCodes.NO_ERROR).serialize())

    def give_up(self, code: ErrorCodes | None) -> None:
        """Tell the client why its connection ends, unless h2 has, and close it."""
        if code is not None:
            with suppress(H2Error):
                self.h2.close_connection(code)
        self.flush()
        self.close()

    def close(self) -> None:
        """Close the connection once everything is sent; a client that does not read is not waited for."""
        if self.closing:
            return
        self._ended = True
        if self._transport.can_write_eof():  # not over TLS
            # Closed at once, what the client sends meanwhile would reset the connection, and it might miss the end.
            if self.write_paused or self._reading_held:
                self._transport.resume_reading()
            self._transport.write_eof()
            self._linger_timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.close)
        else:
            self._transport.close()
        self._start_stall_timer()

    def _start_stall_timer(self) -> None:
        if self._stall_timer is None:
            self._unread = self._transport.get_write_buffer_size()
            self._stall_timer = asyncio.get_running_loop().call_later(self.limit, self._stalled)

    def stop_timers(self) -> None:
        """The connection is gone."""
        self._stop_stall_timer()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _stalled(self) -> None:
        self._stall_timer = None
        if self._transport.get_write_buffer_size() < self._unread:
            self._start_stall_timer()
        else:
            self._transport.abort()
