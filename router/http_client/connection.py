"""One HTTP/1.1 connection to a worker."""

import asyncio
import time
from collections.abc import Callable
from typing import cast

import httptools

HIGH_WATER = 1 << 20  # bytes of unread body at which reading from the worker pauses


def _nobody() -> None:
    """Hears nothing."""


class Connection(asyncio.Protocol):
    """Parses one answer at a time, and calls a listener whenever more of it is known.

    Attributes:
        status: Of the answer.
        headers: Of the answer, names in lower case.
        head_done: Both are there.
        began: The worker has sent something since it was asked.
        complete: The whole answer has been parsed; some of its body may still be there to take.
        failure: What the worker did instead of answering, for a sentence that it is the subject of; or None.
        closed: Nothing can be sent any more.
        reused: It has brought an answer before.
        rested: Since when it has waited for a request, on the monotonic clock; at first, since it was opened.
    """

    def __init__(self) -> None:
        self.closed = False
        self.reused = False
        self.rested = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)  # for one answer after the other
        self._reset()

    def _reset(self) -> None:
        self._chunks: list[bytes] = []
        self._listener = _nobody
        self._busy = False
        self._buffered = 0
        self._keep_alive = False
        self._paused = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.began = False
        self.head_done = False
        self.complete = False
        self.failure: str | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it
        self.rested = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """A piece of the answer."""
        if not self._busy:
            # Nobody asked: kept, these bytes would pass for the answer to the next request.
            self.close()
            return
        self.began = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"sent something that is not HTTP ({error})")
            self._drop()
        self._listener()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, which ends an answer without a length."""
        if exc is None and not self.closed and self.head_done and self._ends_with_connection():
            self.complete = True
        self.closed = True
        self._parser = None  # it knows this: both would stay until the garbage collector comes by
        if not self.complete:
            self._fail("closed the connection")
        self._listener()

    # httptools callbacks

    def on_message_begin(self) -> None:
        """An answer begins."""
        if self.complete:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head's end."""
        self.status = self._parser.get_status_code()
        self.head_done = self.status >= 200

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > HIGH_WATER and not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True

    def on_message_complete(self) -> None:
        """The answer's end."""
        if not self.head_done:
            self.headers.clear()  # an interim answer (1xx); the real one follows
            return
        self.complete = True
        self._keep_alive = self._parser.should_keep_alive()  # the parser forgets it when this returns

    # towards Response

    def send(self, head: bytes, body: bytes, listener: Callable[[], None]) -> None:
        """Send a request; `listener` is called after each change, until `close` or `recycle`."""
        assert self._transport is not None
        self._busy = True
        self._listener = listener
        self._transport.write(head + body if len(body) < HIGH_WATER else head)
        if len(body) >= HIGH_WATER:
            self._transport.write(body)

    def take(self) -> bytes | None:
        """What has come of the body and was not taken yet; None when nothing has."""
        chunks = self._chunks
        if not chunks:
            return None
        taken = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered = 0
        if self._paused and not self.closed and self._transport is not None:
            self._transport.resume_reading()
            self._paused = False
        return taken

    @property
    def waits(self) -> bool:
        """Whether there is nothing to take, and more may come."""
        return not (self._chunks or self.complete or self.failure)

    def close(self) -> None:
        """Drop it; nobody listens any more."""
        self._listener = _nobody
        self._drop()

    def recycle(self) -> bool:
        """Make ready for the next request; False when the connection cannot be used again."""
        if self.closed or not self.complete or not self._keep_alive:
            return False
        self._reset()
        self.reused = True
        self.rested = time.monotonic()
        return True

    def _ends_with_connection(self) -> bool:
        return not any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)

    def _drop(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, failure: str) -> None:
        self.failure = self.failure or failure
