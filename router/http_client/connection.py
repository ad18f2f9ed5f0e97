"""One HTTP/1.1 connection to a worker: sends one request at a time and parses its response."""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import cast

import httptools

from router.tls.failures import CLOSED_WHEN_NEW, tls_failure
from router.transports.write_batch import BatchedTransport

HIGH_WATER = 1 << 20  # bytes of buffered body at which reading from the worker pauses


def _ignore() -> None:
    """The listener of an idle connection."""


class Connection(asyncio.Protocol):
    """Parses one response at a time, and calls a listener whenever more of it has arrived.

    Attributes:
        status: The response's status.
        headers: The response's headers, names in lower case.
        headers_complete: Whether status and headers have arrived.
        response_started: Whether the worker has sent any byte since the request.
        complete: Whether the whole response has arrived; some of its body may still be buffered.
        failure: What the worker did instead of responding, as the rest of a sentence about it; or None.
        closed: Whether nothing can be sent any more.
        reused: Whether it has served a request before.
        idle_since: When its last response ended or, before the first one, when it was opened; on the monotonic clock.
    """

    def __init__(self) -> None:
        self.closed = False
        self.reused = False
        self.idle_since = 0.0
        self._transport: BatchedTransport | None = None
        self._parser = httptools.HttpResponseParser(self)  # reused for each response
        self._encrypted = False
        self._unsent: memoryview | None = None  # of a request's body
        self._writing_paused = False
        self._clear()

    def _clear(self) -> None:
        self._chunks: list[bytes] = []
        self._listener = _ignore
        self._busy = False
        self._buffered_bytes = 0
        self._keep_alive = False
        self._paused = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.response_started = False
        self.headers_complete = False
        self.complete = False
        self.failure: str | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = BatchedTransport(cast(asyncio.Transport, transport))
        self._encrypted = transport.get_extra_info("sslcontext") is not None
        self.idle_since = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """Bytes of the response have arrived."""
        if not self._busy:
            # Without a request: these bytes would pass for the response to the next one.
            self.close()
            return
        self.response_started = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"sent something that is not HTTP ({error})")
            self._abort()
        self._listener()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, which ends a response without a length."""
        if exc is None and not self.closed and self.headers_complete and self._ends_with_connection():
            self.complete = True
        self.closed = True
        self._parser = self._unsent = None  # the parser refers to this object: a reference cycle
        if not self.complete:
            self._fail(self._why_lost(exc))
        self._listener()

    def _why_lost(self, error: Exception | None) -> str:
        """What the worker did, as the rest of a sentence about it."""
        if isinstance(error, ssl.SSLError):
            return f"ended TLS ({tls_failure(error)})"
        first = self._encrypted and not self.reused and not self.response_started
        return CLOSED_WHEN_NEW if first else "closed the connection"

    def pause_writing(self) -> None:
        """The transport holds as much as it should."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The transport has room again."""
        self._writing_paused = False
        self._write_more()

    # httptools callbacks

    def on_message_begin(self) -> None:
        """A response starts."""
        if self.complete:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has arrived."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Status and headers have arrived."""
        self.status = self._parser.get_status_code()
        self.headers_complete = self.status >= 200

    def on_body(self, body: bytes) -> None:
        """A chunk of the body has arrived."""
        self._chunks.append(body)
        self._buffered_bytes += len(body)
        if self._buffered_bytes > HIGH_WATER and not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True

    def on_message_complete(self) -> None:
        """The response has ended."""
        if not self.headers_complete:
            self.headers.clear()  # an interim response (1xx); the final one follows
            return
        self.complete = True
        self._keep_alive = self._parser.should_keep_alive()  # not known any more when this returns

    # called by Response

    def send(self, head: bytes, body: bytes, listener: Callable[[], None]) -> None:
        """Send a request; `listener` is called when more of the response has arrived, until `close` or `reset`."""
        assert self._transport is not None
        self._busy = True
        self._listener = listener
        self._transport.write(head + body if len(body) < HIGH_WATER else head)
        if len(body) >= HIGH_WATER:
            if self._encrypted:
                # Encrypted at once, a long body would stop the event loop and be in memory twice.
                self._unsent = memoryview(body)
                self._write_more()
            else:
                self._transport.write(body)

    def _write_more(self) -> None:
        """Send as much of the rest of the body as the transport has room for."""
        while self._unsent and not self._writing_paused and not self.closed and self._transport is not None:
            piece, self._unsent = self._unsent[:HIGH_WATER], self._unsent[HIGH_WATER:]
            self._transport.write(piece)

    def read_available(self) -> bytes | None:
        """Remove and return the buffered body; None when nothing is buffered."""
        chunks = self._chunks
        if not chunks:
            return None
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered_bytes = 0
        if self._paused and not self.closed and self._transport is not None:
            self._transport.resume_reading()
            self._paused = False
        return data

    @property
    def awaiting_data(self) -> bool:
        """Whether nothing is buffered and more may arrive."""
        return not (self._chunks or self.complete or self.failure)

    def close(self) -> None:
        """Close the connection; the listener is not called any more."""
        self._listener = _ignore
        self._abort()

    def break_off(self, failure: str) -> None:
        """Close the connection, and tell the listener that the worker has failed so."""
        self._fail(failure)
        self._abort()
        self._listener()

    def reset(self) -> bool:
        """Prepare for the next request; False when the connection cannot be reused."""
        if self.closed or not self.complete or not self._keep_alive or self._unsent:
            return False
        self._clear()
        self.reused = True
        self.idle_since = time.monotonic()
        return True

    def _ends_with_connection(self) -> bool:
        """Whether the response's end is the connection's."""
        return not any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)

    def _abort(self) -> None:
        self.closed = True
        self._unsent = None
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, failure: str) -> None:
        self.failure = self.failure or failure
