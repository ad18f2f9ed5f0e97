"""What the processes of one router ask each other."""

import asyncio
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import orjson

from router.errors import NoWorker, RouterError
from router.http.client_request import CLIENT_HEADER, ClientRequest
from router.http.disconnect import while_connected
from router.http.ids import new_id
from router.http_client.origin import Origin, UnixOrigin
from router.http_client.response import Response

logger = logging.getLogger(__name__)

PASSED_ON = (b"authorization", b"traceparent", b"tracestate")
NOT_COPIED = (b"content-length", b"transfer-encoding", b"connection", b"date", b"server", b"x-request-id")
BRIEF_PATIENCE = 1.0  # seconds, for a process that may be in trouble itself
ASK_PATIENCE, TELL_PATIENCE = 7.0, 10.0  # seconds, for a process that is being started again


@dataclass(frozen=True)
class PeerResponse:
    """A whole answer of one process."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Peers:
    """All processes, this one included.

    Args:
        index: The number of this one.
        paths: Every process's private socket.
        again: Whether the others have been there before this one.
    """

    def __init__(self, index: int, paths: Sequence[Path], *, again: bool = False) -> None:
        self.index = index
        self.again = again
        self._origins: list[Origin] = [UnixOrigin(path) for path in paths]
        self._others = [other for other in range(len(paths)) if other != index]

    def owner(self, run: str) -> int:
        """The process that a run's name belongs to."""
        return zlib.crc32(run.encode()) % len(self._origins)

    def new_run(self) -> str:
        """A name for a run of this process."""
        while True:
            run = f"run-{new_id()}"
            if self.owner(run) == self.index:
                return run

    def owns(self, run: str) -> bool:
        """Whether a run is this process's."""
        return self.owner(run) == self.index

    async def forward_run(self, request: ClientRequest, run: str, raw: bytes, seconds: float) -> None:
        """As `pass_on`, to the process that owns a run."""
        await self.pass_on(request, self.owner(run), raw, seconds)

    async def pass_on(self, request: ClientRequest, owner: int, raw: bytes, seconds: float) -> None:
        """Answer a request, whose body was read, with what another process answers to it, piece by piece.

        Raises:
            NoWorker: The process is not there, or takes longer than `seconds`.
        """
        try:
            await while_connected(request, self._pass_on(request, owner, raw), seconds)
        except (RouterError, TimeoutError):
            raise NoWorker(f"process {owner} of the router, which has this run, is not there.", retry_after=1) from None

    async def ask_all(self, request: ClientRequest) -> list[PeerResponse]:
        """What every process that is there answers to a request without a body, this one's first; raises `NoWorker`."""
        everyone = (self.index, *self._others)
        told = await asyncio.gather(*(self._ask(request, index, b"", ASK_PATIENCE) for index in everyone))
        found = [each for each in told if each is not None]
        if not found:
            raise _nobody_answered(ASK_PATIENCE)
        return found

    async def tell_all(self, request: ClientRequest, raw: bytes) -> PeerResponse:
        """Send a request to every process, this one first: it has the word, and when it refuses, no other is told.

        Raises:
            NoWorker: This one did not answer: it is about to end, or something held it up for long.
        """
        mine = await self._ask(request, self.index, raw, TELL_PATIENCE)
        if mine is None:
            raise _nobody_answered(TELL_PATIENCE)
        if mine.status < 400:
            told = await asyncio.gather(*(self._ask(request, index, raw, TELL_PATIENCE) for index in self._others))
            for index, each in zip(self._others, told, strict=True):
                _complain(request, index, each)
        return mine

    async def ask_others(self, path: str) -> list[bytes]:
        """What the other processes that are there say at a path."""

        async def ask(origin: Origin) -> bytes | None:
            try:
                async with asyncio.timeout(BRIEF_PATIENCE), await origin.request("GET", path) as response:
                    body = await response.read()
            except (RouterError, TimeoutError):
                return None
            return body if response.status == 200 else None

        told = await asyncio.gather(*(ask(self._origins[index]) for index in self._others))
        return [body for body in told if body is not None]

    def close(self) -> None:
        """Close the connections to the others."""
        for origin in self._origins:
            origin.close()

    async def _ask(self, request: ClientRequest, index: int, raw: bytes, patience: float) -> PeerResponse | None:
        try:
            async with asyncio.timeout(patience), await self._send(request, index, raw) as response:
                return PeerResponse(response.status, response.headers, await response.read())
        except (RouterError, TimeoutError):
            return None

    async def _pass_on(self, request: ClientRequest, owner: int, raw: bytes) -> None:
        async with await self._send(request, owner, raw) as response:
            await request.send_headers(response.status, _copied(response.headers))
            async for chunk in response.chunks():
                await request.send_chunk(chunk)
            await request.send_chunk(b"", more=False)

    async def _send(self, request: ClientRequest, index: int, raw: bytes) -> Response:
        headers = [(CLIENT_HEADER.decode(), request.client_key), ("x-request-id", request.id)]
        if request.span is not None:
            headers += request.span.trace_headers
        else:
            headers += [(name.decode(), value) for name in PASSED_ON if (value := request.header(name)) is not None]
        # The path was decoded: with a line break in it, as it is, a client could write headers here.
        return await self._origins[index].request(request.method, quote(request.path), raw, tuple(headers))


def _complain(request: ClientRequest, index: int, told: PeerResponse | None) -> None:
    """Say it when a process does not follow: only the one that was asked answers the operator."""
    if told is None or told.status >= 400:
        why = "did not answer" if told is None else f"refused with {told.status}"
        logger.warning(
            "process %d %s to %s %s, which others follow; end it, and the next one will",
            index,
            why,
            request.method,
            request.path,
        )


def _nobody_answered(seconds: float) -> NoWorker:
    return NoWorker(f"no process of the router answered within {seconds:g} s; try again.", retry_after=1)


async def send_peer_response(request: ClientRequest, told: PeerResponse) -> None:
    """Answer a request with a process's answer."""
    await request.send_response(told.status, told.body, _copied(told.headers))


def parsed_responses(told: Sequence[PeerResponse]) -> list[dict[str, object]]:
    """The JSON objects of those that answered well."""
    return [orjson.loads(each.body) for each in told if each.status == 200]


def _copied(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in NOT_COPIED]
