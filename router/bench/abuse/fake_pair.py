"""A fake pair of one model: `python -m router.bench.abuse.fake_pair PREFILL_PORT DECODE_PORT MODEL`.

Tokens are characters. It refuses long texts, and never tokenizes a text with `HANG` in it.
"""

import asyncio
import os
import sys
from functools import partial
from typing import Any

import orjson
import uvloop

from router.bench.moa.fake_pair import FakeServer, Role

TOKENS = 16  # of an answer
TICK = 0.005  # seconds between two tokens
LONG_TEXT = 1 << 20  # characters that it refuses
HANG = "the tokenizer hangs"
ORDINARY = "ordinary"  # the model of ordinary clients
ABUSED = "abused"


class _FakeServer(FakeServer):
    """One server of the pair."""

    def __init__(self, role: Role, model: str) -> None:
        super().__init__(role, TOKENS, TICK)
        self._model = model

    async def _respond(self, path: str, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if path == "/tokenize":
            text = str(request.get("messages") or "")
            if HANG in text:
                await asyncio.Event().wait()
            if len(text) > LONG_TEXT:
                body = orjson.dumps({"error": {"message": "the prompt is longer than the context"}})
                writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
                return
        await super()._respond(path, request, writer)

    def _body(self, path: str, request: dict[str, Any]) -> Any:
        body = super()._body(path, request)
        return {**body, "served_model_name": self._model} if path == "/server_info" else body


async def serve(prefill: int, decode: int, model: str) -> None:
    """Serve both roles until the process is terminated."""
    roles: tuple[tuple[Role, int], ...] = (("prefill", prefill), ("decode", decode))
    for role, port in roles:
        handle = partial(_FakeServer.handle_connection, _FakeServer(role, model))
        await asyncio.start_server(handle, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[3] == ABUSED:
        os.nice(10)  # what it computes is not the router's
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
