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
from router.http.asgi import while_connected
from router.http.client_request import CLIENT, Call
from router.http.ids import fresh_id
from router.http_client.origin import Origin, Response, UnixOrigin

logger = logging.getLogger(__name__)

PASSED_ON = (b"authorization", b"traceparent", b"tracestate")
NOT_COPIED = (b"content-length", b"transfer-encoding", b"connection", b"date", b"server", b"x-request-id")
BRIEF_PATIENCE = 1.0  # seconds, for a process that may be in trouble itself
ASK_PATIENCE, TELL_PATIENCE = 7.0, 10.0  # seconds, for a process that is being started again


@dataclass(frozen=True)
class Told:
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
            run = f"run-{fresh_id()}"
            if self.owner(run) == self.index:
                return run

    def owns(self, run: str) -> bool:
        """Whether a run is this process's."""
        return self.owner(run) == self.index

    async def forward_run(self, call: Call, run: str, raw: bytes, seconds: float) -> None:
        """As `pass_on`, to the process that owns a run."""
        await self.pass_on(call, self.owner(run), raw, seconds)

    async def pass_on(self, call: Call, owner: int, raw: bytes, seconds: float) -> None:
        """Answer a call, whose body was read, with what another process answers to it, piece by piece.

        Raises:
            NoWorker: The process is not there, or takes longer than `seconds`.
        """
        try:
            await while_connected(call, self._pass_on(call, owner, raw), seconds)
        except (RouterError, TimeoutError):
            raise NoWorker(f"process {owner} of the router, which has this run, is not there.", retry_after=1) from None

    async def ask_all(self, call: Call) -> list[Told]:
        """What every process that is there answers to a call without a body, this one's first; raises `NoWorker`."""
        everyone = (self.index, *self._others)
        told = await asyncio.gather(*(self._ask(call, index, b"", ASK_PATIENCE) for index in everyone))
        found = [each for each in told if each is not None]
        if not found:
            raise _nobody_answered(ASK_PATIENCE)
        return found

    async def tell_all(self, call: Call, raw: bytes) -> Told:
        """Send a call to every process, this one first: it has the word, and when it refuses, no other is told.

        Raises:
            NoWorker: This one did not answer: it is about to end, or something held it up for long.
        """
        mine = await self._ask(call, self.index, raw, TELL_PATIENCE)
        if mine is None:
            raise _nobody_answered(TELL_PATIENCE)
        if mine.status < 400:
            told = await asyncio.gather(*(self._ask(call, index, raw, TELL_PATIENCE) for index in self._others))
            for index, each in zip(self._others, told, strict=True):
                _complain(call, index, each)
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

    async def _ask(self, call: Call, index: int, raw: bytes, patience: float) -> Told | None:
        try:
            async with asyncio.timeout(patience), await self._send(call, index, raw) as response:
                return Told(response.status, response.headers, await response.read())
        except (RouterError, TimeoutError):
            return None

    async def _pass_on(self, call: Call, owner: int, raw: bytes) -> None:
        async with await self._send(call, owner, raw) as response:
            await call.send_head(response.status, _copied(response.headers))
            async for chunk in response.chunks():
                await call.send_chunk(chunk)
            await call.send_chunk(b"", more=False)

    async def _send(self, call: Call, index: int, raw: bytes) -> Response:
        headers = [(CLIENT.decode(), call.client), ("x-request-id", call.id)]
        if call.span is not None:
            headers += call.span.carried
        else:
            headers += [(name.decode(), value) for name in PASSED_ON if (value := call.header(name)) is not None]
        # The path was decoded: with a line break in it, as it is, a client could write headers here.
        return await self._origins[index].request(call.method, quote(call.path), raw, tuple(headers))


def _complain(call: Call, index: int, told: Told | None) -> None:
    """Say it when a process does not follow: only the one that was asked answers the operator."""
    if told is None or told.status >= 400:
        why = "did not answer" if told is None else f"refused with {told.status}"
        logger.warning(
            "process %d %s to %s %s, which others follow; end it, and the next one will",
            index,
            why,
            call.method,
            call.path,
        )


def _nobody_answered(seconds: float) -> NoWorker:
    return NoWorker(f"no process of the router answered within {seconds:g} s; try again.", retry_after=1)


async def answer_told(call: Call, told: Told) -> None:
    """Answer a call with a process's answer."""
    await call.answer(told.status, told.body, _copied(told.headers))


def parsed(told: Sequence[Told]) -> list[dict[str, object]]:
    """The JSON objects of those that answered well."""
    return [orjson.loads(each.body) for each in told if each.status == 200]


def _copied(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in NOT_COPIED]
