"""A pooled HTTP/1.1 client for one worker: one request at a time on a connection, bodies as chunks.

Smaller and faster than a general client because it does only what a proxy needs: no redirects, cookies, content
decoding, and no task for a request that an idle connection takes.
"""

import asyncio
import re
import ssl
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from router.errors import BadRequest, ConnectFailed, RouterError, UpstreamTimeout
from router.http_client.address import parse_address
from router.http_client.connection import Connection
from router.http_client.response import Response
from router.tls.contexts import WorkerTls
from router.tls.failures import tls_failure

MAX_IDLE_CONNECTIONS = 1024  # kept open per origin
MAX_CACHED_HEADS = 64  # per origin
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # would end a header's line, or is in none


class Origin:
    """The connections to one worker.

    Args:
        url: The worker's address; raises `BadRequest` when it is none.
        connect_timeout: Seconds to open a connection, with TLS where there is.
        tls: The certificates for an address with `https`; None for the system's.

    Attributes:
        host: The host of the address.
        port: The port of the address.
        url: The address as `http://host:port`, or with `https`.
        resends: Requests that were sent again, since an idle connection turned out to be closed.
        active: The responses that are awaited on a connection.
    """

    def __init__(self, url: str, *, connect_timeout: float = 5.0, tls: WorkerTls | None = None) -> None:
        scheme, self.host, self.port = parse_address(url)
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.url = f"{scheme}://{host}:{self.port}"
        self._tls = (tls or WorkerTls()) if scheme == "https" else None
        self._host_head = f" HTTP/1.1\r\nhost: {host}:{self.port}\r\n"
        self._default_headers: dict[str, str] = {}
        self._common_head = self._host_head.encode()
        self._cached_heads: dict[tuple[str, str], bytes] = {}  # by method and path
        self._connect_timeout = connect_timeout
        self._idle: deque[Connection] = deque()
        self._waiting: OrderedDict[Response, None] = OrderedDict()  # that need a connection, the oldest first
        self._connecting: set[asyncio.Task[None]] = set()
        self.active: set[Response] = set()
        self._closed = False
        self.resends = 0

    def set_default_header(self, name: str, value: str | None) -> None:
        """Send a header, which must have no line breaks, with every request from now on; None sends it no more."""
        if value is None:
            self._default_headers.pop(name, None)
        else:
            self._default_headers[name] = value
        lines = [f"{each}: {value}\r\n" for each, value in self._default_headers.items()]
        self._common_head = "".join([self._host_head, *lines]).encode()
        self._cached_heads.clear()

    def start_request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        on_change: Callable[[], None] | None = None,
        *,
        at_most_once: bool = False,
    ) -> Response:
        """Send a request, and return its response before any of it has arrived.

        Args:
            method: The HTTP method.
            path: The path with its query.
            body: The whole body; sent as JSON when not empty.
            headers: Further headers; characters are bytes, as in Latin-1.
            on_change: Called whenever more of the response has arrived, and when it fails.
            at_most_once: Whether the worker must not get the request twice.

        Raises:
            BadRequest: A header has a line break or another control character.
        """
        lines = [self._head(method, path)]
        for name, value in headers:
            line = f"{name}: {value}"
            if CONTROL.search(line):
                raise BadRequest(f"the header {name!r} has a control character; send it without.")
            lines.append(f"{line}\r\n".encode("latin-1"))
        if body:
            lines.append(b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
        else:
            lines.append(b"\r\n" if method in {"GET", "DELETE"} else b"content-length: 0\r\n\r\n")
        return Response(self, b"".join(lines), body, on_change, at_most_once=at_most_once)

    def _head(self, method: str, path: str) -> bytes:
        """The request line and the headers that every request for a path has."""
        head = self._cached_heads.get((method, path))
        if head is None:
            if len(self._cached_heads) >= MAX_CACHED_HEADS:  # paths with ids in them hardly come again
                self._cached_heads.clear()
            head = self._cached_heads[method, path] = f"{method} {path}".encode() + self._common_head
        return head

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - part of the error it raises
        at_most_once: bool = False,
        on_change: Callable[[], None] | None = None,
    ) -> Response:
        """As `start_request`, but return once status and headers have arrived.

        Args:
            method: The HTTP method.
            path: The path with its query.
            body: The whole body; sent as JSON when not empty.
            headers: Further headers, as there.
            timeout: Seconds until the headers; None for no limit.
            at_most_once: Whether the worker must not get the request twice.
            on_change: As there.

        Raises:
            BadRequest: As there.
            ConnectFailed: The worker cannot be reached.
            ConnectionLost: It closed the connection before the headers.
            UpstreamTimeout: `timeout` seconds passed.
        """
        response = self.start_request(method, path, body, headers, on_change, at_most_once=at_most_once)
        try:
            if timeout is None:
                await response.wait_for_headers()
            else:
                async with asyncio.timeout(timeout):
                    await response.wait_for_headers()
        except TimeoutError:
            response.close()
            raise UpstreamTimeout(f"the worker {self.url} did not answer {path} within {timeout:g} s.") from None
        except BaseException:
            response.close()
            raise
        return response

    def idle_connection(self, max_idle: float) -> Connection | None:
        """A connection that has been idle for at most so many seconds, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() > connection.idle_since + max_idle:
                connection.close()
            if not connection.closed:
                return connection
        return None

    def connect_for(self, response: Response) -> "asyncio.Task[None]":
        """Open a connection and give it to the response, unless another one becomes free before."""
        self._waiting[response] = None
        task = asyncio.create_task(self._connect_for(response))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        # Whatever ends the attempt, also a client that leaves: nothing waits for it any more.
        task.add_done_callback(lambda _: self._waiting.pop(response, None))
        return task

    async def _connect_for(self, response: Response) -> None:
        try:
            connection = await self._connect()
        except RouterError as error:
            if response.needs_connection:
                response.fail(error)
        except Exception as error:  # whatever it is: otherwise the response would wait for ever
            if response.needs_connection:
                response.fail(ConnectFailed(f"the worker {self.url} cannot be reached ({error})."))
        else:
            if response.needs_connection:
                response.send_on(connection)
            else:
                self._reuse(connection)

    async def _connect(self) -> Connection:
        """A new connection; raises `ConnectFailed`."""
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._open()
        except (OSError, TimeoutError) as error:
            failed = ConnectFailed(f"the worker {self.url} cannot be reached ({_cause(error)}).")
            failed.silent = isinstance(error, TimeoutError)
            raise failed from None

    async def _open(self) -> Connection:
        """As `_connect`, without a timeout and with the system's errors."""
        context = None if self._tls is None else await self._tls.context()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self.host, self.port, ssl=context)
        return connection

    def release(self, connection: Connection) -> None:
        """Take a connection back after a complete response."""
        if connection.reset():
            self._reuse(connection)
        else:
            connection.close()

    def _reuse(self, connection: Connection) -> None:
        """Give a free connection to the response that has waited longest, else keep it idle."""
        while self._waiting:
            response, _ = self._waiting.popitem(last=False)
            if response.needs_connection and not connection.closed:
                response.send_on(connection)
                return
        if self._closed or len(self._idle) >= MAX_IDLE_CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)

    def give_up(self, failure: str) -> None:
        """End all responses that are awaited, as if their connections had broken; `failure` as of `Connection`."""
        for response in [*self.active]:
            response.give_up(failure)

    def close(self) -> None:
        """Close the idle connections; those in use close when their responses end."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class UnixOrigin(Origin):
    """The connections to a server on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("http://localhost")
        self.url = f"unix:{path}"
        self._path = path

    async def _open(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_unix_connection(Connection, str(self._path))
        return connection


def _cause(error: Any) -> str:
    """Why a connection could not be opened, in a few words."""
    if isinstance(error, ssl.SSLError):
        return tls_failure(error)
    return "no answer" if isinstance(error, TimeoutError) else str(error.strerror or error)
