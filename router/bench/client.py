"""A load generator in Python for streams and long bodies: one request at a time on each connection."""

import asyncio
import re
import time
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

from router.bench.errors import BenchError
from router.bench.sample import Sample, percentile

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MARK = b'"delta"'  # once in each token's event
LAST = b"\r\n0\r\n\r\n"
GRACE = 30.0  # seconds that requests under way get after the time is over


@dataclass
class _Tally:
    """What all connections saw."""

    deadline: float
    limit: int | None  # requests on each connection
    latencies: list[float]
    tokens: int = 0
    errors: int = 0


class _Connection(asyncio.Protocol):
    """Sends the same request again and again."""

    def __init__(self, request: bytes, tally: _Tally) -> None:
        self._request = request
        self._tally = tally
        self._transport: asyncio.Transport
        self._sent = 0
        self._began = 0.0
        self._rest = b""  # the head until it is whole; then the end of what came, where a mark may be cut
        self._left: int | None = None  # bytes of the body to come; None before the head and in chunked bodies
        self._streaming = False
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._tally.errors += 1
            self.done.set_result(None)

    def _next(self) -> None:
        now = time.perf_counter()
        if now >= self._tally.deadline or self._sent == self._tally.limit:
            self._finish()
            return
        self._sent += 1
        self._began = now
        self._rest = b""
        self._left = None
        self._streaming = False
        self._transport.write(self._request)

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._streaming:
            self._stream(data)
            return
        if self._left is None:
            head, end, data = (self._rest + data).partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self._rest = b""
            if head.split(b" ", 2)[1] != b"200":
                self._tally.errors += 1
                self._finish()
                return
            length = LENGTH.search(head)
            if length is None:
                self._streaming = True
                self._stream(data)
                return
            self._left = int(length[1])
        self._left -= len(data)
        if not self._left:
            self._answered()

    def _stream(self, data: bytes) -> None:
        data = self._rest + data
        self._tally.tokens += data.count(MARK)
        if data.endswith(LAST):
            self._answered()
            return
        # Shorter than the mark, so that no mark is counted twice; long enough to find the end in.
        self._rest = data[-(len(MARK) - 1) :]
        if time.perf_counter() >= self._tally.deadline:
            self._finish()

    def _answered(self) -> None:
        self._tally.latencies.append(time.perf_counter() - self._began)
        self._next()


def request(url: str, path: str, body: bytes) -> bytes:
    """A POST as it goes over the wire."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


async def _measure(url: str, raw: bytes, connections: int, seconds: float, limit: int | None) -> Sample:
    loop = asyncio.get_running_loop()
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 80
    began = time.perf_counter()
    tally = _Tally(began + seconds, limit, [])
    pairs = await asyncio.gather(
        *(loop.create_connection(lambda: _Connection(raw, tally), host, port) for _ in range(connections))
    )
    try:
        async with asyncio.timeout(seconds + GRACE):
            await asyncio.gather(*(connection.done for _, connection in pairs))
    except TimeoutError:
        raise BenchError(f"{url} left a request without an answer for {GRACE:g} s.") from None
    finally:
        for transport, _ in pairs:
            transport.abort()
    elapsed = time.perf_counter() - began
    latencies = sorted(tally.latencies)
    return Sample(
        p50=percentile(latencies, 0.50) * 1e6,
        p99=percentile(latencies, 0.99) * 1e6,
        requests=len(latencies),
        tokens=tally.tokens,
        seconds=elapsed,
        errors=tally.errors,
    )


def measure(url: str, path: str, body: bytes, *, connections: int, seconds: float, limit: int | None = None) -> Sample:
    """Post `body` on each connection, again after each answer, for `seconds` or `limit` times.

    Streams under way at the end are cut and only their tokens count.

    Raises:
        BenchError: An answer does not come.
    """
    try:
        return uvloop.run(_measure(url, request(url, path, body), connections, seconds, limit))
    except OSError as error:
        raise BenchError(f"{url} cannot be reached ({error}).") from None
