"""Clients on bare sockets, for what a well-behaved client never does."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

CHAT: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}


def post(path: str, body: Any) -> bytes:
    """A request as its bytes."""
    raw = orjson.dumps(body)
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(raw), raw)


class RawClient:
    """One connection to the router."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def drip(self, raw: bytes, pause: float) -> bytes:
        """Send a byte at a time, until the router closes the connection or there is no more; return what it said."""
        sending = asyncio.create_task(self._drip(raw, pause))
        try:
            return await self.rest()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _drip(self, raw: bytes, pause: float) -> None:
        for number in range(len(raw)):
            await self.send(raw[number : number + 1])
            await asyncio.sleep(pause)

    async def rest(self) -> bytes:
        """All that comes until the router closes the connection."""
        parts = []
        try:
            while part := await self.reader.read(1 << 16):
                parts.append(part)
        except ConnectionError:
            pass
        return b"".join(parts)

    def vanish(self) -> None:
        """Reset the connection, as when a client's process is killed with unread bytes."""
        reset(self.writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a reset instead of an orderly end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def connected(port: int, buffer: int | None = None) -> AsyncIterator[RawClient]:
    """A connection, closed in the end; the system keeps about `buffer` bytes that were not read, or MBs."""
    raw = socket.socket()
    raw.setblocking(False)
    if buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    client = RawClient(*await asyncio.open_connection(sock=raw))
    try:
        yield client
    finally:
        client.writer.transport.abort()
