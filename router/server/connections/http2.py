"""A client's HTTP/2 connection: `h2` speaks the protocol, each stream is a request over ASGI.

The limits are those of HTTP/1.1 (`timeouts.py`), with what HTTP/2 adds: streams at once, bytes in flight of each stream
and of the connection, and how often a client may begin requests only to reset them.
"""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error, ProtocolError
from h2.settings import SettingCodes
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from router.errors import BadRequest
from router.http.asgi import Scope
from router.server.connection_timeouts import ConnectionTimeouts
from router.server.connections.http2_frames import FrameLengths
from router.server.connections.http2_sender import MAX_STREAMS, Http2Sender
from router.server.connections.http2_stream import Stream, scope_of

# Of what makes work and moves no request; a client that sends more is sent away. A reset counts 1, other frames 0.1.
BURST, PER_SECOND, FRAME_COST = 400.0, 20.0, 0.1
TURN_BYTES = 64 << 10  # parsed at once, so that others have their turn


class Http2Protocol(asyncio.Protocol):
    """One client's connection.

    Args:
        config: uvicorn's options; the app is in them.
        server_state: The connections and tasks of the server.
        app_state: The state that the app's lifespan has made.
        limit: Seconds, as of HTTP/1.1; and for which a connection may have no request.
        timeouts: Counts connections that had none for so long.
    """

    _sender: Http2Sender

    def __init__(
        self, config: Any, server_state: Any, app_state: dict[str, Any], limit: float, timeouts: ConnectionTimeouts
    ) -> None:
        self._limit = limit
        self._timeouts = timeouts
        self._app = config.loaded_app
        self._server_state = server_state
        self._app_state = app_state
        self._common: Scope = {
            "type": "http",
            "asgi": {"version": config.asgi_version, "spec_version": "2.3"},
            "http_version": "2",
            "root_path": config.root_path,
        }
        self._streams: dict[int, Stream] = {}
        self._lengths = FrameLengths()
        self._backlog = bytearray()  # received, and not parsed yet
        self._next_turn: asyncio.Handle | None = None
        self._closing = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._work, self._work_since = 0.0, time.monotonic()

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        """The connection is there; its first bytes follow."""
        self._server_state.connections.add(self)
        self._common.update(server=get_local_addr(transport), client=get_remote_addr(transport))
        self._common["scheme"] = "https" if is_ssl(transport) else "http"
        self._sender = Http2Sender(transport, self._server_state, self._limit, self._lengths)
        self._start_idle_timer()

    def data_received(self, data: bytes) -> None:
        """Bytes were received."""
        if self._backlog or len(data) > TURN_BYTES:
            self._backlog += data
            if self._next_turn is None:
                self._sender.hold_reading(True)
                self._take_turn()
        else:
            self._parse(data)

    def _take_turn(self) -> None:
        """Parse a part of what waits, and leave the rest for later."""
        self._next_turn = None
        if self._sender.closing:
            self._backlog.clear()
        elif not self._sender.write_paused:  # else `resume_writing` goes on
            data = bytes(self._backlog[:TURN_BYTES])
            del self._backlog[:TURN_BYTES]
            self._parse(data)
            if self._backlog:
                self._next_turn = asyncio.get_running_loop().call_soon(self._take_turn)
            else:
                self._sender.hold_reading(False)

    def _parse(self, data: bytes) -> None:
        if self._sender.closing:
            return
        if not self._lengths.allowed(data):
            self._give_up(ErrorCodes.FRAME_SIZE_ERROR)
            return
        idle_frames, self._lengths.idle_frames = self._lengths.idle_frames, 0
        if idle_frames:
            self._count_work(idle_frames * FRAME_COST)
            if self._sender.closing:
                return
        try:
            self._handle(self._sender.h2.receive_data(data))
        except ProtocolError:
            self._give_up(None)
            return
        self._sender.flush()

    def pause_writing(self) -> None:
        """The client does not read."""
        self._sender.pause()

    def resume_writing(self) -> None:
        """The client has read."""
        self._sender.resume()
        self._sender.wake(self._streams.values())
        if self._backlog and self._next_turn is None:
            self._next_turn = asyncio.get_running_loop().call_soon(self._take_turn)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and all its requests with it."""
        self._server_state.connections.discard(self)
        self._stop_idle_timer()
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        self._sender.stop_timers()
        self._leave_all()

    def shutdown(self) -> None:
        """Take no new requests, and close once those that are there are answered; called by the server."""
        if self._closing or self._sender.closing:
            return
        self._closing = True
        self._sender.go_away()
        if not self._streams:
            self._sender.close()

    # events

    def _handle(self, events: Iterable[Event]) -> None:
        for event in events:
            if self._sender.closing:
                return
            self._handle_one(event, self._streams.get(getattr(event, "stream_id", None) or 0))

    def _handle_one(self, event: Event, stream: Stream | None) -> None:
        if isinstance(event, RequestReceived):
            self._begin(event)
        elif isinstance(event, DataReceived):
            self._receive_data(event, stream)
        elif isinstance(event, StreamEnded):
            if stream is not None:
                stream.receive_end()
        elif isinstance(event, StreamReset):
            if stream is not None:
                self._sender.leave(stream)
            self._count_work(1)
        elif isinstance(event, WindowUpdated):
            if stream is not None:
                self._sender.wake([stream])
            elif not event.stream_id:
                self._sender.wake(self._streams.values())
        elif isinstance(event, ConnectionTerminated):
            self._give_up(None)  # h2 sends nothing after it, though the client might wait for answers
        elif isinstance(event, RemoteSettingsChanged):
            self._change_settings(event)

    def _change_settings(self, event: RemoteSettingsChanged) -> None:
        self._sender.settings_changed()
        window = event.changed_settings.get(SettingCodes.INITIAL_WINDOW_SIZE)
        if window is not None and window.new_value > (window.original_value or 0):
            self._sender.wake(self._streams.values())

    def _begin(self, event: RequestReceived) -> None:
        number = event.stream_id
        if len(self._streams) >= MAX_STREAMS or self._closing:
            self._sender.h2.reset_stream(number, ErrorCodes.REFUSED_STREAM)
            self._count_work(FRAME_COST)
            return
        scope = scope_of(event.headers, self._common)
        if scope is None:
            stream = Stream(self._sender, number, {"method": "GET", "headers": []}, ended=True)
            self._sender.refuse(stream, BadRequest("this is no request that is served here; see RFC 9113."))
            return
        scope["state"] = self._app_state.copy()
        self._stop_idle_timer()
        stream = self._streams[number] = Stream(self._sender, number, scope, ended=event.stream_ended is not None)
        task = asyncio.get_running_loop().create_task(stream.run(self._app))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)
        task.add_done_callback(lambda _: self._end(stream))

    def _end(self, stream: Stream) -> None:
        """The app is done with a stream."""
        del self._streams[stream.id]
        self._server_state.total_requests += 1
        if self._sender.closing:
            return
        self._sender.leave(stream)
        if not stream.ended:  # answered before its request was whole: the client need not send the rest
            with suppress(H2Error):
                self._sender.h2.reset_stream(stream.id, ErrorCodes.NO_ERROR)
        self._sender.flush()
        if not self._streams:
            if self._closing:
                self._sender.close()
            else:
                self._start_idle_timer()

    def _receive_data(self, event: DataReceived, stream: Stream | None) -> None:
        if event.flow_controlled_length and not event.data:  # only padding
            self._count_work(FRAME_COST)
        unused = event.flow_controlled_length  # with padding
        if stream is not None and not (stream.disconnected or stream.complete):
            unused -= len(event.data)
            stream.receive_data(event.data)
        if unused:
            self._sender.h2.acknowledge_received_data(unused, event.stream_id)

    def _count_work(self, amount: float) -> None:
        """Send a client away that begins requests only to reset them, or sends frames that only make work."""
        now = time.monotonic()
        self._work = max(0.0, self._work - (now - self._work_since) * PER_SECOND) + amount
        self._work_since = now
        if self._work > BURST:
            self._give_up(ErrorCodes.ENHANCE_YOUR_CALM)

    def _give_up(self, code: ErrorCodes | None) -> None:
        """End the connection, and with it all its requests; without a code, where h2 has written why."""
        self._sender.give_up(code)
        self._leave_all()

    def _leave_all(self) -> None:
        for stream in self._streams.values():
            stream.disconnect()

    def _start_idle_timer(self) -> None:
        if self._idle_timer is None:
            loop = asyncio.get_running_loop()
            self._idle_timer = loop.call_later(self._limit, self._idle_timed_out)

    def _idle_timed_out(self) -> None:
        self._timeouts.count("idle")
        self._sender.give_up(ErrorCodes.NO_ERROR)

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
