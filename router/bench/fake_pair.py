"""Fake servers in Python, for what nginx cannot do: streams, and bodies read to their end.

`python -m router.bench.fake_pair PREFILL_PORT DECODE_PORT` runs a pair, and with `plain` behind it two plain servers.
A request whose text has `tokens=N tick=US` is answered with a stream of N tokens, one write each, every US
microseconds; 0 is as fast as the client reads.
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

from router.bench.fake_responses import DONE, EVENT, GENERATED, Role, fake_roles, worker_info
from router.bench.processes import free_port, running, wait_until_listening

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STREAM_REQUEST = re.compile(rb"tokens=(\d+) tick=(\d+)")
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(body: bytes) -> bytes:
    """A chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(body), body)


TOKEN = chunk(EVENT + b"\n\n")
END = chunk(DONE + b"\n\n") + chunk(b"")


def response(body: bytes) -> bytes:
    """A response with a content-length."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Server(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._get_responses = {path.encode(): response(answer) for path, answer in worker_info(role).items()}
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._head = b""
        self._body_left = 0  # bytes of the body still to come
        self._body_start = b""  # all of the body that is read
        self._tokens = 0
        self._tick = 0.0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: stop streaming."""
        self._tokens = 0

    def data_received(self, data: bytes) -> None:
        """Part of a request."""
        if self._body_left:
            self._body_left -= len(data)
            self._body_start = self._body_start or data
        else:
            head, end, body = (self._head + data).partition(b"\r\n\r\n")
            if not end:
                self._head = head
                return
            self._head = head
            length = LENGTH.search(head)
            self._body_left = int(length[1]) - len(body) if length else 0
            self._body_start = body[:4096]
        if not self._body_left:
            head, self._head = self._head, b""
            self._respond(head, self._body_start)

    def _respond(self, head: bytes, body: bytes) -> None:
        method, path, _ = head.split(b" ", 2)
        if method == b"GET":
            self._transport.write(self._get_responses.get(path, response(b"{}")))
            return
        match = STREAM_REQUEST.search(body) if self._role != "prefill" else None
        if match is None:
            self._transport.write(response(GENERATED))
            return
        self._tokens, self._tick = int(match[1]), int(match[2]) / 1e6
        self._transport.write(STREAM_HEAD)
        self._send_token()

    def _send_token(self) -> None:
        if self._transport.is_closing() or self._paused:
            return
        if self._tokens == 0:
            self._transport.write(END)
            return
        self._tokens -= 1
        self._transport.write(TOKEN)
        if self._tick:
            self._loop.call_later(self._tick, self._send_token)
        else:
            self._loop.call_soon(self._send_token)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._paused = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused = False
        self._send_token()


async def serve(ports: tuple[int, int], plain: bool) -> None:
    """Serve both roles until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    for role, port in zip(fake_roles(plain), ports, strict=True):
        await loop.create_server(partial(Server, role), "127.0.0.1", port, backlog=4096)
    await stop.wait()


@contextmanager
def fake_pair(folder: Path, plain: bool = False) -> Iterator[tuple[str, str]]:
    """Run the fake servers in a process; gives the addresses of the prefill and the decode server, or of plain ones."""
    prefill, decode = free_port(), free_port()
    command = [sys.executable, "-m", "router.bench.fake_pair", str(prefill), str(decode)]
    with running("fake", [*command, "plain"] if plain else command, folder) as process:
        wait_until_listening(process, decode)
        yield f"http://127.0.0.1:{prefill}", f"http://127.0.0.1:{decode}"


if __name__ == "__main__":
    uvloop.run(serve((int(sys.argv[1]), int(sys.argv[2])), plain="plain" in sys.argv[3:]))
