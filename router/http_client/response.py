"""The response of a worker, from the moment its request is sent: status, headers and body as they arrive."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Protocol, Self

from router.errors import ConnectionLost, RouterError
from router.http_client.connection import Connection

SAFE_IDLE_SECONDS = 3.0  # for which a worker surely keeps an idle connection open; SGLang does for 5


class ConnectionPool(Protocol):
    """Where a response gets its connection from."""

    url: str
    resends: int
    active: "set[Response]"

    def idle_connection(self, max_idle: float) -> Connection | None:
        """A connection that has been idle for at most so many seconds, if there is one."""

    def connect_for(self, response: "Response") -> "asyncio.Task[None]":
        """Open a connection and give it to the response, unless another one becomes free before."""

    def release(self, connection: Connection) -> None:
        """Take a connection back after a complete response."""


class Response:
    """The response to one request, which is sent at once. An async context manager that closes it.

    Closing it early closes the connection, which aborts the request on the worker.

    Args:
        pool: The connections to the worker.
        request_head: The request line and headers.
        request_body: The request's body.
        on_change: Called whenever more of the response has arrived, and when it fails.
        at_most_once: Whether the worker must not get the request twice. Otherwise it is sent again when a reused
            connection turns out to be closed.

    Attributes:
        status: The status; 0 until the headers have arrived.
        headers: The headers, names in lower case.
        error: Why there is no response: `ConnectFailed`, or `ConnectionLost` before the headers; or None.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        request_head: bytes,
        request_body: bytes,
        on_change: Callable[[], None] | None = None,
        *,
        at_most_once: bool = False,
    ) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.error: RouterError | None = None
        self._pool = pool
        self._request = request_head, request_body
        self._on_change = on_change
        self._at_most_once = at_most_once
        self._waiter: asyncio.Future[None] | None = None
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None  # until it has a connection
        self._get_connection()

    def _get_connection(self) -> None:
        """Send the request on an idle connection, or on a new one once that is open."""
        connection = self._pool.idle_connection(SAFE_IDLE_SECONDS if self._at_most_once else math.inf)
        if connection is not None:
            self.send_on(connection)
        else:
            self._connecting = self._pool.connect_for(self)

    @property
    def needs_connection(self) -> bool:
        """Whether the request was not sent yet."""
        return self._connecting is not None

    def send_on(self, connection: Connection) -> None:
        """Send the request on a connection."""
        self._connecting = None
        self._connection = connection
        self._pool.active.add(self)
        connection.send(*self._request, self._on_data)
        if self._at_most_once:
            self._request = b"", b""  # it may be long, and is not sent again

    def give_up(self, failure: str) -> None:
        """Fail although the worker may still answer; `failure` as of `Connection`. The request is not sent again."""
        self._at_most_once = True
        if self._connection is not None:
            self._connection.break_off(failure)

    def fail(self, error: RouterError) -> None:
        """Fail with an error: no connection could be opened, or it broke before the headers."""
        self._connecting = None
        self.error = error
        self._notify()

    def _on_data(self) -> None:
        """More of the response has arrived, or the connection failed."""
        connection = self._connection
        assert connection is not None
        if not self.status:
            if connection.headers_complete:
                self.status, self.headers = connection.status, connection.headers
                self._request = b"", b""  # the worker has seen it, so it is not sent again
            elif connection.failure is not None:
                self._connection = None
                self._pool.active.discard(self)
                connection.close()
                # The worker may have closed a reused connection while it was idle. It has then not seen the request,
                # so a new connection is safe; not so once the response has started.
                if connection.reused and not connection.response_started and not self._at_most_once:
                    self._pool.resends += 1
                    self._get_connection()
                else:
                    self.fail(ConnectionLost(f"the worker {self._pool.url} {connection.failure} without an answer."))
                return
        self._notify()

    def _notify(self) -> None:
        """Wake who awaits a change, and call `on_change`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._on_change is not None:
            self._on_change()

    async def _wait_for_change(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def header(self, name: bytes) -> bytes | None:
        """A header's value by lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def wait_for_headers(self) -> None:
        """Return once status and headers have arrived; raises `error`."""
        while not self.status:
            if self.error is not None:
                raise self.error
            await self._wait_for_change()

    def read_available(self) -> bytes | None:
        """The part of the body that has arrived since the last call; None when there is none."""
        return None if self._connection is None else self._connection.read_available()

    @property
    def awaiting_data(self) -> bool:
        """Whether there is nothing to read now, and more may arrive."""
        if self._connection is None:
            return not self.status and self.error is None
        return self._connection.awaiting_data

    def finish(self) -> bool:
        """Whether the response is complete; its connection is then released. Call when all that arrived was read.

        Raises:
            ConnectionLost: The connection broke before the end of the body.
        """
        connection = self._connection
        if connection is None:
            return True
        if connection.complete:
            self._connection = self._on_change = None  # `on_change` may refer to this: a reference cycle
            self._pool.active.discard(self)
            self._pool.release(connection)
            return True
        if connection.failure is not None:
            self.close()
            raise ConnectionLost(f"the worker {self._pool.url} {connection.failure} before its answer was whole.")
        return False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body's chunks as they arrive; raises `ConnectionLost` when it ends too early."""
        while True:
            chunk = self.read_available()
            if chunk is not None:
                yield chunk
            elif self.finish():
                return
            else:
                await self._wait_for_change()

    async def read(self) -> bytes:
        """The whole body; raises `ConnectionLost` when it ends too early."""
        chunks: list[bytes] = []
        while True:
            if (chunk := self.read_available()) is not None:
                chunks.append(chunk)
            if self.finish():
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)
            await self._wait_for_change()

    def close(self) -> None:
        """Close the connection; no effect after the whole body was read."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._pool.active.discard(self)
        self._on_change = None
        self._request = b"", b""  # it may be long, and is not sent any more

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
