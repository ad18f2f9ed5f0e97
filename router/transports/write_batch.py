"""Writes to many connections at one moment, at the end of a pass of the event loop, where that spares work.

A write wakes the process that reads. It runs at once, often on the core of the router, handles one message and sleeps
again; the next write wakes it again. Written one after the other, messages are read together. On two cores, fifty
connections at a time, that gave a quarter more requests a second and shortened p99 by a quarter
(`router/bench/RESULTS.md`). A single request would only wait for the end of the pass, so writes are held back as long
as that joins some.
"""

import asyncio
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

MAX_HELD_BYTES = 1 << 16  # of one connection
MAX_AT_ONCE = 64  # writes that are not held back, after writes were held back alone several times


class WriteBatch:
    """The connections of one event loop that have something to send at the end of its pass."""

    def __init__(self) -> None:
        self._waiting: list[BatchedTransport] = []
        self._at_once = 0  # so many more writes are not held back
        self._last_at_once = 0  # how many that were, when it was last decided

    def holds_back(self) -> bool:
        """Whether the next write should wait for others."""
        if self._at_once:
            self._at_once -= 1
            return False
        return True

    def add(self, transport: "BatchedTransport") -> None:
        """Flush a transport at the end of the pass."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(transport)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._last_at_once = min(2 * self._last_at_once + 1, MAX_AT_ONCE) if len(waiting) == 1 else 0
        self._at_once = self._last_at_once
        for transport in waiting:
            try:
                transport.flush()
            except Exception as error:
                loop = asyncio.get_running_loop()
                loop.call_exception_handler({"message": "A connection could not be written to.", "exception": error})


_batches: WeakKeyDictionary[asyncio.AbstractEventLoop, WriteBatch] = WeakKeyDictionary()


class BatchedTransport:
    """A transport that may hold writes back until the end of the event loop's pass, in their order.

    Closing it sends what is held back, aborting drops it. Other attributes are those of the transport.

    Args:
        transport: The connection's transport, of the running event loop; nothing else may write to it.
    """

    __slots__ = ("_batch", "_held", "_held_bytes", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._batch = _batches.setdefault(asyncio.get_running_loop(), WriteBatch())
        self._held: list[bytes | memoryview] = []
        self._held_bytes = 0
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes, now or at the end of the pass. They must not change meanwhile."""
        size = len(data)
        if size >= MAX_HELD_BYTES:  # joined to others it would be copied
            self.flush()
            self._transport.write(data)
            return
        if not self._held:
            if not self._batch.holds_back():
                self._transport.write(data)
                return
            self._batch.add(self)
        self._held.append(data)
        self._held_bytes += size
        if self._held_bytes >= MAX_HELD_BYTES:
            self.flush()

    def writelines(self, lines: Iterable[bytes | memoryview]) -> None:
        """Send several pieces, as `write`."""
        for data in lines:
            self.write(data)

    def flush(self) -> None:
        """Send what is held back."""
        if not self._held:
            return
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._drop()
        if not self.is_closing():
            self._transport.write(data)

    def get_write_buffer_size(self) -> int:
        """The bytes that the system has not taken yet."""
        return self._transport.get_write_buffer_size() + self._held_bytes

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self.flush()
        self._transport.close()

    def write_eof(self) -> None:
        """Say that nothing follows, once everything is sent."""
        self.flush()
        self._transport.write_eof()

    def abort(self) -> None:
        """Close the connection now."""
        self._drop()
        self._transport.abort()

    def _drop(self) -> None:
        self._held.clear()
        self._held_bytes = 0
