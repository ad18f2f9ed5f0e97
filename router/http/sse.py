"""Reads and writes server-sent events, as far as OpenAI-compatible servers use them."""

from collections.abc import AsyncGenerator, AsyncIterator

import orjson

from router.errors import RouterError

DONE = b"[DONE]"


async def parse_events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The `data:` payloads of a stream, without the final `[DONE]`; chunks may be cut anywhere.

    Reads the stream to its end, so that its connection can be reused.
    """
    incomplete_line = b""
    async for chunk in chunks:
        *lines, incomplete_line = (incomplete_line + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                payload = line[5:].strip()
                if payload and payload != DONE:
                    yield payload


def format_event(payload: bytes) -> bytes:
    """One event with this payload."""
    return b"data: " + payload + b"\n\n"


def format_error(error: RouterError) -> bytes:
    """The last events of a stream that failed after its status was sent: the error and `[DONE]`."""
    return format_event(orjson.dumps(error.body())) + format_event(DONE)
