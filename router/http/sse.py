"""Reads and writes server-sent events, as far as OpenAI-compatible servers use them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

import orjson

from router.errors import ConnectionLost, RouterError

DONE = b"[DONE]"
END_TIMEOUT = 2.0  # seconds after `[DONE]` in which a stream should end
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventStream:
    """One stream of events; chunks may be cut anywhere, and lines end with LF, CRLF or CR.

    Args:
        chunks: The body of a response.
        or_json: Whether the body may also be one JSON object, from a server that does not stream. It is then read whole
            and is the only payload.

    Attributes:
        complete: Whether `[DONE]` has come, or one whole JSON object.
    """

    def __init__(self, chunks: AsyncIterator[bytes], *, or_json: bool = False) -> None:
        self._chunks = chunks
        self._or_json = or_json
        self._incomplete_line: list[bytes] = []
        self._data_lines: list[bytes] = []  # of an event that is not complete
        self._after_cr = False  # a LF that comes next ends no other line
        self.complete = False

    async def payloads(self) -> AsyncGenerator[bytes]:
        """The payload of each event before `[DONE]`.

        Reads on to the end of the stream, so that its connection can be reused, but after `[DONE]` for at most
        `END_TIMEOUT` seconds.
        """
        started = False
        async for received in self._chunks:
            chunk = received if started else received.removeprefix(BYTE_ORDER_MARK)
            if not started:
                started = bool(chunk.strip())
                if self._or_json and chunk.lstrip().startswith(b"{"):  # no line of an event stream begins so
                    yield chunk + b"".join([rest async for rest in self._chunks])
                    self.complete = True
                    return
            for line in self._complete_lines(chunk):
                payload = self._payload(line)
                if payload == DONE:
                    self.complete = True
                    break
                if payload:
                    yield payload
            if self.complete:
                await self._read_to_end()
                return
        # The end of the stream ends the last line too; half an event is left out.
        payload = self._payload(b"".join(self._incomplete_line))
        self.complete = payload == DONE
        if payload.endswith(b"}"):
            yield payload

    def _payload(self, line: bytes) -> bytes:
        """The payload that is complete with this line; empty where none is.

        An event may have several data lines. Only JSON that the first of them leaves open is waited for: some servers
        leave out the empty line that ends an event.
        """
        if line.startswith(b"data:"):
            data = line[5:].strip()
            if not self._data_lines and not (data.startswith(b"{") and not data.endswith(b"}")):
                return data
            self._data_lines.append(data)
        elif not line and self._data_lines:
            payload, self._data_lines = b"\n".join(self._data_lines), []
            return payload
        return b""

    def _complete_lines(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk; the rest of it waits for the next one."""
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        # Splitting at LF alone is several times as fast, and few servers use CR.
        lines = (
            chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if b"\r" in chunk else chunk.split(b"\n")
        )
        if len(lines) == 1:
            self._incomplete_line.append(chunk)
            return []
        lines[0] = b"".join([*self._incomplete_line, lines[0]])
        self._incomplete_line = [lines.pop()]
        return lines

    async def _read_to_end(self) -> None:
        with suppress(TimeoutError, ConnectionLost):  # the answer is whole
            async with asyncio.timeout(END_TIMEOUT):
                async for _ in self._chunks:
                    pass


def parse_events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The payloads of a stream, without `[DONE]`; see `EventStream`."""
    return EventStream(chunks).payloads()


def format_event(payload: bytes) -> bytes:
    """One event with this payload."""
    return b"data: " + payload + b"\n\n"


def format_named_error(error: RouterError) -> bytes:
    """As `format_error`, where events have names: of `/v1/messages` and `/v1/responses`."""
    return b"event: error\n" + format_event(orjson.dumps({"type": "error", **error.body()}))


def format_error(error: RouterError) -> bytes:
    """The last events of a stream that failed after its status was sent: the error and `[DONE]`."""
    return format_event(orjson.dumps(error.body())) + format_event(DONE)
