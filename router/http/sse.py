"""Server-sent events, as far as OpenAI-compatible servers use them."""

from collections.abc import AsyncGenerator, AsyncIterator

import orjson

from router.errors import RouterError

DONE = b"[DONE]"


async def events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The `data:` payloads of a stream, without the closing `[DONE]`; chunks may cut anywhere.

    Reads the stream to its end, so that its connection can be used again.
    """
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                payload = line[5:].strip()
                if payload and payload != DONE:
                    yield payload


def event(payload: bytes) -> bytes:
    """One event."""
    return b"data: " + payload + b"\n\n"


def error_events(error: RouterError) -> bytes:
    """What ends a stream that failed after its status line was sent."""
    return event(orjson.dumps(error.body())) + event(DONE)
