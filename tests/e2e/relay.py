"""A relay between the router and a real server, which can do to an answer what a network does."""

import asyncio
from typing import Self
from urllib.parse import urlsplit

from tests.router.support.raw import reset

GENERATION = b"POST /generate "


class Relay:
    """Passes everything on, but of answers to generations only the first `most` bytes, where that is set.

    Attributes:
        url: Its address.
        most: Bytes of each answer after which the connection is reset; None for all.
        silent: Nothing of an answer is passed on, and the connection stays.
        cut: Answers that were cut so far.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = parts.hostname, parts.port
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.most: int | None = None
        self.silent = False
        self.cut = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            beyond = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        asked = _Asked()
        ways = [
            asyncio.create_task(self._ask(reader, beyond[1], asked)),
            asyncio.create_task(self._answer(beyond[0], writer, asked)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # asyncio logs those of its servers' tasks
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            beyond[1].close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: "_Asked") -> None:
        while part := await reader.read(1 << 16):
            if part.startswith((b"GET ", b"POST ")):
                asked.generation, asked.passed = part.startswith(GENERATION), 0
            writer.write(part)
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: "_Asked") -> None:
        while part := await reader.read(1 << 16):
            if asked.generation and self.silent:
                continue
            if asked.generation and self.most is not None:
                part = part[: self.most - asked.passed]
            asked.passed += len(part)
            writer.write(part)
            await writer.drain()
            if asked.generation and self.most is not None and asked.passed >= self.most:
                self.cut += 1
                reset(writer)
                return


class _Asked:
    """What a connection was asked last, and how much of the answer was passed on."""

    generation = False
    passed = 0
