"""A fake pair that answers as fast as it can: `python -m router.bench.moa.fakes PREFILL_PORT DECODE_PORT TOKENS TICK`.

Its tokens are characters. Each answer has TOKENS of them, one event every TICK milliseconds, all so far in each as
SGLang sends them.
"""

import asyncio
import sys
from functools import partial
from typing import Any, Literal

import orjson
import uvloop

Role = Literal["prefill", "decode"]
WORDS = "The river is long and the city is old; both are known to all who live there. "


def answered(body: bytes, kind: bytes = b"application/json") -> bytes:
    """A whole answer."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind, len(body), body)


class Fake:
    """One server."""

    def __init__(self, role: Role, tokens: int, tick: float) -> None:
        self._role = role
        self._tick = tick
        said = (WORDS * (1 + tokens // len(WORDS)))[:tokens]
        ids = [ord(letter) for letter in said]
        self._events = [self._event(said[: n + 1], ids[: n + 1], last=n + 1 == tokens) for n in range(tokens)]

    @staticmethod
    def _event(text: str, ids: list[int], *, last: bool) -> bytes:
        reason = {"type": "length", "length": len(ids)} if last else None
        logprobs = [[-0.2, each, None] for each in ids]
        meta = {"prompt_tokens": 100, "completion_tokens": len(ids), "cached_tokens": 0, "finish_reason": reason}
        told = {"text": text, "output_ids": ids, "meta_info": {**meta, "output_token_logprobs": logprobs}}
        payload = b"data: " + orjson.dumps(told) + b"\n\n"
        return b"%x\r\n%b\r\n" % (len(payload), payload)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a connection's requests."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                _, _, length = head.lower().partition(b"content-length:")
                body = await reader.readexactly(int(length.split(b"\r\n")[0])) if length else b"{}"
                await self._answer(head.split(b" ", 2)[1].decode(), orjson.loads(body or b"{}"), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if path == "/generate" and asked.get("stream") and self._role == "decode":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for event in self._events:
                writer.write(event)
                await writer.drain()
                await asyncio.sleep(self._tick)
            writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        else:
            writer.write(answered(orjson.dumps(self._told(path, asked))))
        await writer.drain()

    def _told(self, path: str, asked: dict[str, Any]) -> Any:
        if path == "/server_info":
            return {"served_model_name": "fake", "disaggregation_mode": self._role, "version": "0.5.17"}
        if path == "/tokenize":
            if "messages" in asked:
                rendered = "".join(f"<{each['role']}>{each['content']}" for each in asked["messages"])
                return {"tokens": [ord(letter) for letter in rendered]}
            return {"tokens": [[ord(letter) for letter in text] for text in asked["prompt"]]}
        if path == "/detokenize":
            return {"text": "".join(map(chr, asked["tokens"]))}
        return {"text": "", "output_ids": [], "meta_info": {"finish_reason": {"type": "length"}}}


async def serve(prefill: int, decode: int, tokens: int, tick: float) -> None:
    """Serve both roles until the process is ended."""
    roles: tuple[tuple[Role, int], ...] = (("prefill", prefill), ("decode", decode))
    for role, port in roles:
        await asyncio.start_server(partial(Fake.connected, Fake(role, tokens, tick)), "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]) / 1e3))
