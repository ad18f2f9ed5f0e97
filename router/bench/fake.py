"""A fake prefill and decode server for what nginx cannot do: streams, and bodies read to their end.

`python -m router.bench.fake PREFILL_PORT DECODE_PORT`. A request whose text says `tokens=N` and `tick=US`
is answered with a stream of N tokens, one every US microseconds; 0 is as fast as the reader takes them,
one write a token.
"""

import asyncio
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import uvloop

from router.bench.answers import DONE, EVENT, GENERATED, Role, told
from router.bench.processes import free_port, running, until_open

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ASKED = re.compile(rb"tokens=(\d+) tick=(\d+)")
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(body: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(body), body)


TOKEN = chunk(EVENT + b"\n\n")
END = chunk(DONE + b"\n\n") + chunk(b"")


def whole(body: bytes) -> bytes:
    """An answer with a content-length."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Server(asyncio.Protocol):
    """One connection; requests come one after another."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._told = {path.encode(): whole(answer) for path, answer in told(role).items()}
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._head = b""
        self._left = 0  # bytes of the body still to come
        self._begin = b""  # of the body: all that is looked at
        self._tokens = 0
        self._tick = 0.0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is left to send tokens to."""
        self._tokens = 0

    def data_received(self, data: bytes) -> None:
        """A piece of a request."""
        if self._left:
            self._left -= len(data)
            self._begin = self._begin or data
        else:
            head, end, body = (self._head + data).partition(b"\r\n\r\n")
            if not end:
                self._head = head
                return
            self._head = head
            length = LENGTH.search(head)
            self._left = int(length[1]) - len(body) if length else 0
            self._begin = body[:4096]
        if not self._left:
            head, self._head = self._head, b""
            self._answer(head, self._begin)

    def _answer(self, head: bytes, body: bytes) -> None:
        method, path, _ = head.split(b" ", 2)
        if method == b"GET":
            self._transport.write(self._told.get(path, whole(b"{}")))
            return
        asked = ASKED.search(body) if self._role == "decode" else None
        if asked is None:
            self._transport.write(whole(GENERATED))
            return
        self._tokens, self._tick = int(asked[1]), int(asked[2]) / 1e6
        self._transport.write(STREAM_HEAD)
        self._next()

    def _next(self) -> None:
        if self._transport.is_closing() or self._paused:
            return
        if self._tokens == 0:
            self._transport.write(END)
            return
        self._tokens -= 1
        self._transport.write(TOKEN)
        if self._tick:
            self._loop.call_later(self._tick, self._next)
        else:
            self._loop.call_soon(self._next)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._paused = False
        self._next()


async def serve(prefill: int, decode: int) -> None:
    """Serve both roles until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    roles: tuple[tuple[Role, int], ...] = (("prefill", prefill), ("decode", decode))
    for role, port in roles:
        await loop.create_server(partial(Server, role), "127.0.0.1", port, backlog=4096)
    await stop.wait()


@contextmanager
def fake(folder: Path) -> Iterator[tuple[str, str]]:
    """Run the fake servers in a process; the addresses of the prefill and the decode server."""
    prefill, decode = free_port(), free_port()
    with running("fake", [sys.executable, "-m", "router.bench.fake", str(prefill), str(decode)], folder) as process:
        until_open(process, decode)
        yield f"http://127.0.0.1:{prefill}", f"http://127.0.0.1:{decode}"


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
