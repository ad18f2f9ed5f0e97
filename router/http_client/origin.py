"""A pooled HTTP/1.1 client for workers: one request at a time on a connection, bodies as chunks.

Smaller and faster than a general client because it does only what a proxy needs: no redirects, no
cookies, no decoding, no TLS, and no task for a request that a kept connection takes.
"""

import asyncio
import math
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from router.errors import BadRequest, ConnectFailed, ConnectionLost, RouterError, UpstreamTimeout
from router.http_client.connection import Connection

ADDRESS = r"([Hh][Tt][Tt][Pp]://)?(\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\]|[A-Za-z0-9_.-]+)(:[0-9]+)?/?"  # of a worker
IDLE_CONNECTIONS = 1024  # kept open per origin
HEADS = 64  # begins of heads remembered per origin
FRESH = 3.0  # seconds for which a worker surely keeps an idle connection; SGLang does for 5


class Response:
    """A worker's answer, from the moment it is asked for: its head once that is there, its body as it comes.

    Closing it early drops the connection, which tells the worker that nobody waits any more.

    Args:
        origin: The worker.
        head: The request's head.
        body: Its body.
        changed: Called whenever more of the answer is known, and when it fails.
        once: Whether the worker may on no account get it twice. Else it is sent again when it turns out that a kept
            connection had been closed.

    Attributes:
        status: The status; 0 until the head is there.
        headers: The headers, names in lower case.
        error: Why there is no answer: `ConnectFailed`, or `ConnectionLost` before its head was there; or None.
    """

    def __init__(
        self,
        origin: "Origin",
        head: bytes,
        body: bytes,
        changed: Callable[[], None] | None = None,
        *,
        once: bool = False,
    ) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.error: RouterError | None = None
        self._origin = origin
        self._request = head, body
        self._changed = changed
        self._once = once
        self._waiter: asyncio.Future[None] | None = None
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None  # while it has no connection
        self._begin()

    def _begin(self) -> None:
        kept = self._origin.kept(FRESH if self._once else math.inf)
        if kept is not None:
            self.use(kept)
        else:
            self._connecting = self._origin.open_for(self)

    @property
    def wants_connection(self) -> bool:
        """Whether it still waits to be sent."""
        return self._connecting is not None

    def use(self, connection: Connection) -> None:
        """Send the request."""
        self._connecting = None
        self._connection = connection
        connection.send(*self._request, self._hear)
        if self._once:
            self._request = b"", b""  # it may be long, and nobody sends it again

    def fail(self, error: RouterError) -> None:
        """There will be no answer."""
        self._connecting = None
        self.error = error
        self._wake()

    def _hear(self) -> None:
        """More is known of the answer."""
        connection = self._connection
        assert connection is not None
        if not self.status:
            if connection.head_done:
                self.status, self.headers = connection.status, connection.headers
                self._request = b"", b""  # likewise
            elif connection.failure is not None:
                self._connection = None
                connection.close()
                # A kept connection may have been closed by the worker while idle: the request was not
                # looked at, so a fresh connection is safe. One that began to answer did look at it.
                if connection.reused and not connection.began and not self._once:
                    self._begin()
                else:
                    self.fail(ConnectionLost(f"the worker {self._origin.url} {connection.failure} without an answer."))
                return
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._changed is not None:
            self._changed()

    async def _change(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def header(self, name: bytes) -> bytes | None:
        """A header's value by lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def head(self) -> None:
        """Return once the head is there; raises `error`."""
        while not self.status:
            if self.error is not None:
                raise self.error
            await self._change()

    def take(self) -> bytes | None:
        """The next piece of the body, if one is there."""
        return None if self._connection is None else self._connection.take()

    @property
    def waits(self) -> bool:
        """Whether there is nothing to take, and more may come."""
        if self._connection is None:
            return not self.status and self.error is None
        return self._connection.waits

    def ended(self) -> bool:
        """Whether the body is over, for who has taken all that was there; raises `ConnectionLost`."""
        connection = self._connection
        if connection is None:
            return True
        if connection.complete:
            self._connection = self._changed = None  # with what it would call this makes a circle, which would stay
            self._origin.give_back(connection)
            return True
        if connection.failure is not None:
            self.close()
            raise ConnectionLost(f"the worker {self._origin.url} {connection.failure} before its answer was whole.")
        return False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's pieces as they arrive; raises `ConnectionLost` when it ends too early."""
        while True:
            chunk = self.take()
            if chunk is not None:
                yield chunk
            elif self.ended():
                return
            else:
                await self._change()

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.chunks()])

    def close(self) -> None:
        """Give the connection up; harmless after the whole body was read."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._changed = None

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
        self._heads: dict[tuple[str, str], bytes] = {}  # by method and path
        self._connect_timeout = connect_timeout
        self._idle: deque[Connection] = deque()
        self._waiting: deque[Response] = deque()  # for a connection
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False

    def send_always(self, header: tuple[str, str]) -> None:
        """Send a header, without line breaks, with every request."""
        self._tail += f"{header[0]}: {header[1]}\r\n".encode()
        self._heads.clear()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        changed: Callable[[], None] | None = None,
        *,
        once: bool = False,
    ) -> Response:
        """Send a request, and return its answer before any of it is there.

        Args:
            method: The HTTP method.
            path: Path with query.
            body: The whole body; sent as JSON when not empty.
            headers: Further headers, already checked to hold no line break.
            changed: Called whenever more of the answer is known.
            once: Whether the worker may on no account get it twice.
        """
        lines = [self._first_lines(method, path)]
        lines += [f"{name}: {value}\r\n".encode() for name, value in headers]
        if body:
            lines.append(b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
        else:
            lines.append(b"\r\n" if method in {"GET", "DELETE"} else b"content-length: 0\r\n\r\n")
        return Response(self, b"".join(lines), body, changed, once=once)

    def _first_lines(self, method: str, path: str) -> bytes:
        """A head's lines that are the same in every request for a path."""
        known = self._heads.get((method, path))
        if known is None:
            if len(self._heads) >= HEADS:  # of paths that hardly come again
                self._heads.clear()
            known = self._heads[method, path] = f"{method} {path}".encode() + self._tail
        return known

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - part of the error it raises
        once: bool = False,
    ) -> Response:
        """As `ask`, but return once the answer's head is there; in time, unless `timeout` is None.

        Raises:
            ConnectFailed: The worker cannot be reached.
            ConnectionLost: It closed the connection before answering.
            UpstreamTimeout: `timeout` seconds passed.
        """
        response = self.ask(method, path, body, headers, once=once)
        try:
            async with asyncio.timeout(timeout):
                await response.head()
        except TimeoutError:
            response.close()
            raise UpstreamTimeout(f"the worker {self.url} did not answer {path} within {timeout:g} s.") from None
        except BaseException:
            response.close()
            raise
        return response

    def kept(self, fresh: float) -> Connection | None:
        """A connection that waits for a request and had one within so many seconds, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() > connection.rested + fresh:
                connection.close()
            if not connection.closed:
                return connection
        return None

    def open_for(self, response: Response) -> "asyncio.Task[None]":
        """Open a connection for a request, unless another one is given back to it before."""
        self._waiting.append(response)
        task = asyncio.create_task(self._open_for(response))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return task

    async def _open_for(self, response: Response) -> None:
        try:
            connection = await self._connect()
        except RouterError as error:
            if response.wants_connection:
                response.fail(error)
        except Exception as error:  # however odd it is: nobody else would tell who waits for the answer
            if response.wants_connection:
                response.fail(ConnectFailed(f"the worker {self.url} cannot be reached ({error})."))
        else:
            if response.wants_connection:
                response.use(connection)
            else:
                self._keep(connection)

    async def _connect(self) -> Connection:
        """A new connection; raises `ConnectFailed`."""
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._open()
        except (OSError, TimeoutError) as error:
            raise ConnectFailed(f"the worker {self.url} cannot be reached ({_cause(error)}).") from None

    async def _open(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, self.host, self.port)
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer was read whole."""
        if connection.recycle():
            self._keep(connection)
        else:
            connection.close()

    def _keep(self, connection: Connection) -> None:
        """For who waits longest; else for later."""
        while self._waiting:
            response = self._waiting.popleft()
            if response.wants_connection and not connection.closed:
                response.use(connection)
                return
        if self._closed or len(self._idle) >= IDLE_CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Close the idle connections; those in use close when their answers end."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class UnixOrigin(Origin):
    """The connections to who listens on a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("http://localhost")
        self.url = f"unix:{path}"
        self._path = path

    async def _open(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_unix_connection(Connection, str(self._path))
        return connection


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
