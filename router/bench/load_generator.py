"""A load generator in Python for streams and long bodies: one request at a time on each connection."""

import asyncio
import math
import re
import time
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

from router.bench.errors import BenchError
from router.bench.sample import Sample, percentile

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TOKEN_MARK = b'"delta"'  # once in each token's event
STREAM_END = b"\r\n0\r\n\r\n"
DRAIN_TIMEOUT = 30.0  # seconds for requests in flight after the measurement


@dataclass
class _Totals:
    """Counts over all connections."""

    deadline: float
    opened: float  # when all connections had begun: from then on tokens count
    limit: int | None  # requests on each connection
    latencies: list[float]
    gaps: list[float]
    tokens: int = 0
    errors: int = 0


class _Connection(asyncio.Protocol):
    """Sends the same request again and again."""

    def __init__(self, request: bytes, totals: _Totals) -> None:
        self._request = request
        self._totals = totals
        self._transport: asyncio.Transport
        self._sent = 0
        self._started = 0.0
        self._rest = b""  # the head until it is complete; then the end of the stream so far, where a mark may be cut
        self._body_left: int | None = None  # bytes; None before the head and in chunked bodies
        self._streaming = False
        self._token_at: float | None = None  # when the last token of this stream came
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send_request()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._totals.errors += 1
            self.done.set_result(None)

    def _send_request(self) -> None:
        now = time.perf_counter()
        if now >= self._totals.deadline or self._sent == self._totals.limit:
            self._finish()
            return
        self._sent += 1
        self._started = now
        self._rest = b""
        self._body_left = None
        self._streaming = False
        self._token_at = None
        self._transport.write(self._request)

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._streaming:
            self._read_stream(data)
            return
        if self._body_left is None:
            head, end, data = (self._rest + data).partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self._rest = b""
            if head.split(b" ", 2)[1] != b"200":
                self._totals.errors += 1
                self._finish()
                return
            length = LENGTH.search(head)
            if length is None:
                self._streaming = True
                self._read_stream(data)
                return
            self._body_left = int(length[1])
        self._body_left -= len(data)
        if not self._body_left:
            self._record_response()

    def _read_stream(self, data: bytes) -> None:
        data = self._rest + data
        now = time.perf_counter()
        if found := data.count(TOKEN_MARK):
            if now >= self._totals.opened:
                self._totals.tokens += found
                if self._token_at is not None:
                    self._totals.gaps.append(now - self._token_at)
            self._token_at = now
        if data.endswith(STREAM_END):
            self._record_response()
            return
        # Shorter than the mark, so that no mark is counted twice; long enough to recognise the end of the stream.
        self._rest = data[-(len(TOKEN_MARK) - 1) :]
        if now >= self._totals.deadline:
            self._finish()

    def _record_response(self) -> None:
        self._totals.latencies.append(time.perf_counter() - self._started)
        self._send_request()


def encode_request(url: str, path: str, body: bytes) -> bytes:
    """A POST request as bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


async def _measure(url: str, raw: bytes, connections: int, seconds: float, ramp: float, limit: int | None) -> Sample:
    loop = asyncio.get_running_loop()
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 80
    started = time.perf_counter()
    totals = _Totals(math.inf, math.inf, limit, [], []) if ramp else _Totals(started + seconds, started, limit, [], [])

    async def connect(number: int) -> tuple[asyncio.Transport, _Connection]:
        await asyncio.sleep(ramp * number / connections)
        return await loop.create_connection(lambda: _Connection(raw, totals), host, port)

    pairs = await asyncio.gather(*(connect(number) for number in range(connections)))
    if ramp:
        started = totals.opened = time.perf_counter()
        totals.deadline = started + seconds
    try:
        async with asyncio.timeout(seconds + DRAIN_TIMEOUT):
            await asyncio.gather(*(connection.done for _, connection in pairs))
    except TimeoutError:
        raise BenchError(f"{url} left a request without an answer for {DRAIN_TIMEOUT:g} s.") from None
    finally:
        for transport, _ in pairs:
            transport.abort()
    elapsed = time.perf_counter() - started
    latencies = sorted(totals.latencies)
    return Sample(
        p50=percentile(latencies, 0.50) * 1e6,
        p99=percentile(latencies, 0.99) * 1e6,
        requests=len(latencies),
        tokens=totals.tokens,
        seconds=elapsed,
        errors=totals.errors,
        gap=percentile(sorted(totals.gaps), 0.99) * 1e6 if totals.gaps else None,
    )


def measure(
    url: str,
    path: str,
    body: bytes,
    *,
    connections: int,
    seconds: float,
    ramp: float = 0.0,
    limit: int | None = None,
) -> Sample:
    """Post `body` on each connection, again after each response, for `seconds` or `limit` times.

    Connections begin one after the other over `ramp` seconds, which come before the others and whose tokens do not
    count. Of streams in flight at the end, only the tokens count.

    Raises:
        BenchError: A response does not come, or the server cannot be reached.
    """
    try:
        return uvloop.run(_measure(url, encode_request(url, path, body), connections, seconds, ramp, limit))
    except OSError as error:
        raise BenchError(f"{url} cannot be reached ({error}).") from None
