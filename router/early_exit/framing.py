"""Messages between the router and its judge: four bytes of length, big-endian, then one JSON object."""

import asyncio
import struct
from typing import Any, BinaryIO

import orjson

_LENGTH = struct.Struct(">I")


def pack(message: dict[str, Any]) -> bytes:
    """A message as it goes over the pipe; NaN becomes null."""
    body = orjson.dumps(message)
    return _LENGTH.pack(len(body)) + body


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message of a blocking stream; None at its end, also inside a message."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return _object(body) if len(body) == length else None


async def receive(stream: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message of an asyncio stream; None at its end, also inside a message."""
    try:
        (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        return _object(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _object(body: bytes) -> dict[str, Any]:
    message: dict[str, Any] = orjson.loads(body)
    return message
