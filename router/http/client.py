"""A pooled HTTP/1.1 client for workers: one request at a time on a connection, bodies as chunks.

Smaller and faster than a general client because it does only what a proxy needs: no redirects, no
cookies, no decoding, no TLS.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

import httptools

from router.errors import BadRequest, ConnectFailed, ConnectionLost, UpstreamTimeout

ADDRESS = r"([Hh][Tt][Tt][Pp]://)?(\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\]|[A-Za-z0-9_.-]+)(:[0-9]+)?/?"  # of a worker
HIGH_WATER = 1 << 20  # bytes of unread body at which reading from the worker pauses
IDLE_CONNECTIONS = 256  # kept open per origin


class _Connection(asyncio.Protocol):
    """One connection; parses one response at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.busy = False
        self.reused = False
        self._reset()

    def _reset(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: deque[bytes] = deque()
        self.buffered = 0
        self.began = False
        self.head_done = False
        self.complete = False
        self.keep_alive = False
        self.paused = False
        self.failure: str | None = None
        self.waiter: asyncio.Future[None] | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            # Nobody asked: kept, these bytes would pass for the answer to the next request.
            self.close()
            return
        self.began = True
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"sent something that is not HTTP ({error})")
            self.close()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and not self.closed and self.head_done and self._ends_with_connection():
            self.complete = True
        self.closed = True
        if not self.complete:
            self._fail("closed the connection")
        self._wake()

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.head_done = self.parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self.chunks.append(body)
        self.buffered += len(body)
        if self.buffered > HIGH_WATER and not self.paused and self.transport is not None:
            self.transport.pause_reading()
            self.paused = True

    def on_message_complete(self) -> None:
        if not self.head_done:
            self.headers.clear()  # an interim answer (1xx); the real one follows
            return
        self.complete = True
        self.keep_alive = self.parser.should_keep_alive()  # the parser forgets it when this returns

    # towards Response

    def send(self, head: bytes, body: bytes) -> None:
        assert self.transport is not None
        self.busy = True
        self.transport.write(head + body if len(body) < HIGH_WATER else head)
        if len(body) >= HIGH_WATER:
            self.transport.write(body)

    async def wait(self) -> None:
        """Until something new has been parsed or the connection is gone."""
        self.waiter = asyncio.get_running_loop().create_future()
        try:
            await self.waiter
        finally:
            self.waiter = None

    def take(self) -> bytes | None:
        """The next body chunk, if one is there."""
        if not self.chunks:
            return None
        chunk = self.chunks.popleft()
        self.buffered -= len(chunk)
        if self.paused and self.buffered < HIGH_WATER // 2 and not self.closed and self.transport is not None:
            self.transport.resume_reading()
            self.paused = False
        return chunk

    def close(self) -> None:
        self.closed = True
        if self.transport is not None:
            self.transport.abort()

    def recycle(self) -> bool:
        """Make ready for the next request; False when the connection cannot be used again."""
        if self.closed or not self.complete or not self.keep_alive:
            return False
        self._reset()
        self.busy = False
        self.reused = True
        return True

    def _ends_with_connection(self) -> bool:
        return not any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)

    def _fail(self, failure: str) -> None:
        self.failure = self.failure or failure

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Response:
    """A worker's answer: status and headers at once, the body as it comes.

    Closing it early drops the connection, which tells the worker that nobody waits any more.
    """

    def __init__(self, origin: "Origin", connection: _Connection) -> None:
        self._origin = origin
        self._connection: _Connection | None = connection
        self.status: int = connection.parser.get_status_code()
        self.headers = connection.headers

    def header(self, name: bytes) -> bytes | None:
        """A header's value by lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's pieces as they arrive; raises `ConnectionLost` when it ends too early."""
        connection = self._connection
        while connection is not None:
            chunk = connection.take()
            if chunk is not None:
                yield chunk
            elif connection.complete:
                self._release()
                return
            elif connection.failure is not None:
                self.close()
                raise ConnectionLost(f"the worker {self._origin.url} {connection.failure} before its answer was whole.")
            else:
                await connection.wait()

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.chunks()])

    def close(self) -> None:
        """Give the connection up; harmless after the whole body was read."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._origin.give_back(connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Origin:
    """The connections to one worker."""

    def __init__(self, url: str, *, connect_timeout: float = 5.0) -> None:
        self.host, self.port = _host_and_port(url)
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.url = f"http://{host}:{self.port}"
        self._tail = f" HTTP/1.1\r\nhost: {host}:{self.port}\r\n".encode()
        self._connect_timeout = connect_timeout
        self._idle: deque[_Connection] = deque()
        self._closed = False

    def send_always(self, header: tuple[str, str]) -> None:
        """Send a header, without line breaks, with every request."""
        self._tail += f"{header[0]}: {header[1]}\r\n".encode()

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - part of the error it raises
    ) -> Response:
        """Send a request and return once the answer's head is there.

        Args:
            method: The HTTP method.
            path: Path with query.
            body: The whole body; sent as JSON when not empty.
            headers: Further headers, already checked to hold no line break.
            timeout: Seconds until the answer's head must be there; None waits for ever.

        Raises:
            ConnectFailed: The worker cannot be reached.
            ConnectionLost: It closed the connection before answering.
            UpstreamTimeout: `timeout` passed.
        """
        lines = [f"{method} {path}".encode(), self._tail]
        lines += [f"{name}: {value}\r\n".encode() for name, value in headers]
        if body:
            lines.append(b"content-type: application/json\r\n")
        if body or method not in {"GET", "DELETE"}:
            lines.append(f"content-length: {len(body)}\r\n".encode())
        lines.append(b"\r\n")
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(b"".join(lines), body)
        except TimeoutError:
            raise UpstreamTimeout(f"the worker {self.url} did not answer {path} within {timeout:g} s.") from None

    async def _exchange(self, head: bytes, body: bytes) -> Response:
        while True:
            connection = await self._connection()
            try:
                connection.send(head, body)
                while not connection.head_done and connection.failure is None:
                    await connection.wait()
            except BaseException:
                connection.close()
                raise
            if connection.head_done:
                return Response(self, connection)
            connection.close()
            # A kept connection may have been closed by the worker while idle: the request was not
            # looked at, so a fresh connection is safe. One that began to answer did look at it.
            if not connection.reused or connection.began:
                raise ConnectionLost(f"the worker {self.url} {connection.failure} without an answer.")

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(_Connection, self.host, self.port)
        except (OSError, TimeoutError) as error:
            raise ConnectFailed(f"the worker {self.url} cannot be reached ({_cause(error)}).") from None
        return connection

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection whose answer was read whole."""
        if self._closed or len(self._idle) >= IDLE_CONNECTIONS or not connection.recycle():
            connection.close()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Close the idle connections; those in use close when their answers end."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


def _host_and_port(url: str) -> tuple[str, int]:
    """Both parts of a worker's address; raises `BadRequest`."""
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        host = parts.hostname or ""
        host.encode("idna")  # what resolving it would refuse
        # Of the whole address, since urlsplit passes over line breaks and spaces.
        if re.fullmatch(ADDRESS, url) and parts.port != 0:
            return host, parts.port or 80
    except ValueError:
        pass
    raise BadRequest(f"{url!r} is not a worker's address; give one like http://127.0.0.1:30001.")


def _cause(error: Any) -> str:
    return "no answer" if isinstance(error, TimeoutError) else str(error.strerror or error)
