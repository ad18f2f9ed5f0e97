"""Requests between the processes of one router, over their private Unix sockets."""

import asyncio
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import orjson

from router.errors import NoWorker, RouterError
from router.http.client_request import ClientRequest
from router.http.disconnect import while_connected
from router.http.ids import new_id
from router.http_client.origin import Origin, UnixOrigin
from router.http_client.response import Response

FORWARDED_HEADERS = (b"traceparent", b"tracestate")
DROPPED_RESPONSE_HEADERS = (b"content-length", b"transfer-encoding", b"connection", b"date", b"server", b"x-request-id")
QUERY_CHARACTERS = "%!$&'()*+,;=:@/?"  # that stay as they are in a query (RFC 3986)
CATCH_UP_TIMEOUT = 1.0  # seconds; a process that has trouble itself must not delay a start for longer
# Seconds; a process that is being restarted answers within them.
COLLECT_TIMEOUT, FORWARD_TIMEOUT = 7.0, 10.0


@dataclass(frozen=True)
class PeerResponse:
    """The whole response of one process."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Peers:
    """The processes of a router, this one included.

    Args:
        index: The number of this process.
        paths: The private socket of each process, by index.
        restarted: Whether this process replaces one that died.

    Attributes:
        indexes: The numbers of all processes.
        paths: The private socket of each process, by index.
        own_socket: That of this process.
    """

    def __init__(self, index: int, paths: Sequence[Path], *, restarted: bool = False) -> None:
        self.index = index
        self.indexes = frozenset(range(len(paths)))
        self.paths = tuple(paths)
        self.own_socket = paths[index]
        self.restarted = restarted
        self._origins: list[Origin] = [UnixOrigin(path) for path in paths]
        self._others = [other for other in range(len(paths)) if other != index]

    def owner(self, run: str) -> int:
        """The index of the process that serves a run; the same in every process."""
        return zlib.crc32(run.encode()) % len(self._origins)

    def new_run(self) -> str:
        """A fresh run id that this process owns."""
        while True:
            run = f"run-{new_id()}"
            if self.owner(run) == self.index:
                return run

    def owns(self, run: str) -> bool:
        """Whether this process serves a run."""
        return self.owner(run) == self.index

    async def forward_run(self, request: ClientRequest, run: str, raw: bytes, seconds: float) -> None:
        """`forward` to the process that owns a run."""
        await self.forward(request, self.owner(run), raw, seconds)

    async def forward(self, request: ClientRequest, index: int, raw: bytes, seconds: float) -> None:
        """Forward a request with its body `raw` to a process, and stream that process's response to the client.

        Raises:
            NoWorker: The process cannot be reached, or takes longer than `seconds`.
        """
        try:
            await while_connected(request, self._forward(request, index, raw), seconds)
        except (RouterError, TimeoutError):
            raise NoWorker(f"process {index} of the router, which has this run, is not there.", retry_after=1) from None

    async def collect_responses(self, request: ClientRequest) -> dict[int, PeerResponse]:
        """Send a request without its body to every process; return the responses by process, this one's first.

        A process that does not answer in time has none.

        Raises:
            NoWorker: No process answered.
        """
        indexes = (self.index, *self._others)
        results = await asyncio.gather(*(self._fetch(request, index) for index in indexes))
        responses = {index: each for index, each in zip(indexes, results, strict=True) if each is not None}
        if not responses:
            raise NoWorker(f"no process of the router answered within {COLLECT_TIMEOUT:g} s; try again.", retry_after=1)
        return responses

    async def post_to_others(self, path: str, raw: bytes) -> list[int]:
        """Post to all other processes; return the numbers of those that did not answer with 200."""
        bodies = await asyncio.gather(*(self._ask(index, "POST", path, raw, COLLECT_TIMEOUT) for index in self._others))
        return [index for index, body in zip(self._others, bodies, strict=True) if body is None]

    async def get_from_others(self, path: str) -> list[bytes]:
        """The bodies with which the other processes answer `GET path`; those that fail are left out."""
        bodies = await asyncio.gather(*(self._ask(index, "GET", path, b"", CATCH_UP_TIMEOUT) for index in self._others))
        return [body for body in bodies if body is not None]

    async def get_from_next(self, path: str) -> bytes | None:
        """The body with which the next process that answers does so to `GET path`; None if no other does."""
        following = sorted(self._others, key=lambda other: (other < self.index, other))
        for index in following:
            body = await self._ask(index, "GET", path, b"", CATCH_UP_TIMEOUT)
            if body is not None:
                return body
        return None

    def close(self) -> None:
        """Close the connections to the processes."""
        for origin in self._origins:
            origin.close()

    async def _ask(self, index: int, method: str, path: str, raw: bytes, seconds: float) -> bytes | None:
        """The body of a process's response of 200; None when it does not answer so."""
        try:
            async with (
                asyncio.timeout(seconds),
                await self._origins[index].request(method, path, raw) as response,
            ):
                body = await response.read()
        except (RouterError, TimeoutError):
            return None
        return body if response.status == 200 else None

    async def _fetch(self, request: ClientRequest, index: int) -> PeerResponse | None:
        try:
            async with asyncio.timeout(COLLECT_TIMEOUT), await self._send(request, index, b"") as response:
                return PeerResponse(response.status, response.headers, await response.read())
        except (RouterError, TimeoutError):
            return None

    async def _forward(self, request: ClientRequest, index: int, raw: bytes) -> None:
        async with await self._send(request, index, raw) as response:
            if (response.header(b"content-type") or b"").startswith(b"text/event-stream"):
                request.streaming, request.first_chunk_at = True, time.monotonic()
            await request.send_headers(response.status, _copied_headers(response.headers))
            async for chunk in response.chunks():
                await request.send_chunk(chunk)
            await request.send_chunk(b"", more=False)

    async def _send(self, request: ClientRequest, index: int, raw: bytes) -> Response:
        headers = [*request.client_headers, ("x-request-id", request.id)]
        if request.span is not None:
            headers += request.span.trace_headers
        else:
            headers += [
                (name.decode(), value) for name in FORWARDED_HEADERS if (value := request.header(name)) is not None
            ]
        # A response to HEAD would have the length of a body that does not come.
        method = "GET" if request.method == "HEAD" else request.method
        # The path is decoded: unquoted, a line break in it would let a client inject headers.
        target = quote(request.path)
        if request.query_string:
            target += f"?{quote(request.query_string, safe=QUERY_CHARACTERS)}"
        return await self._origins[index].request(method, target, raw, tuple(headers))


async def send_peer_response(request: ClientRequest, response: PeerResponse) -> None:
    """Send the response of a process to the client."""
    await request.send_response(response.status, response.body, _copied_headers(response.headers))


def parsed_responses(responses: Sequence[PeerResponse]) -> list[dict[str, object]]:
    """The JSON objects of the responses with status 200."""
    return [orjson.loads(each.body) for each in responses if each.status == 200]


def _copied_headers(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in DROPPED_RESPONSE_HEADERS]
