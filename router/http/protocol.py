"""A client's connection: uvicorn's, but the head of an answer goes out with the first piece of its body.

uvicorn sends the two apart: two system calls, and two packets for the client to wake up for.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

INTERIM = b"HTTP/1.1 100 "


class _Headed:
    """Stands before a transport for one answer; what it does not know, the transport does."""

    def __init__(self, transport: asyncio.Transport, over: Callable[..., None]) -> None:
        self._transport = transport
        self._over = over
        self._head: bytes | None = None
        self._begun = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep the head, and send it with what comes next."""
        if self._begun:
            self._transport.write(data)
        elif self._head is not None:
            self._begun = True
            self._transport.write(self._head + data)
        elif data.startswith(INTERIM):
            self._transport.write(data)
        else:
            self._head = data

    def close(self) -> None:
        """Close, when all is sent."""
        self._flush()
        self._transport.close()

    def over(self) -> None:
        """The answer is whole."""
        self._flush()
        self._over()

    def _flush(self) -> None:
        """Send a head that nothing comes after."""
        if self._head is not None and not self._begun:
            self.write(b"")


class ClientProtocol(HttpToolsProtocol):
    """One client's connection."""

    def on_headers_complete(self) -> None:
        """A request's head is there, and its answer has not begun."""
        before = self.cycle
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is not before:
            headed = _Headed(cycle.transport, cycle.on_response)
            cycle.transport, cycle.on_response = cast(asyncio.Transport, headed), headed.over
