"""A fake prefill and decode server: `python -m router.bench.moa.fake_pair PREFILL_PORT DECODE_PORT TOKENS TICK`.

Its tokens are characters. Each answer has TOKENS of them, one every TICK milliseconds, an event for each or for every
`stream_interval`, and each event has all tokens so far, as SGLang sends them.
"""

import asyncio
import sys
from functools import partial
from itertools import accumulate
from typing import Any, Literal

import orjson
import uvloop

Role = Literal["prefill", "decode"]
TEXT = "The river is long and the city is old; both are known to all who live there. "


def response(body: bytes) -> bytes:
    """A response with a content-length."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Answer:
    """The events of an answer, each made when it is sent: all together they would take the square of its length."""

    def __init__(self, tokens: int) -> None:
        text = (TEXT * (1 + tokens // len(TEXT)))[:tokens]
        self.tokens = tokens
        self._text = text.encode()
        self._ids, self._ids_ends = _list_and_ends([b"%d" % ord(letter) for letter in text])
        self._logprobs, self._logprobs_ends = _list_and_ends([b"[-0.2,%d,null]" % ord(letter) for letter in text])

    def event(self, count: int) -> bytes:
        """The event with the first `count` tokens, in SGLang's form and order, as a chunk of a body."""
        reason = b'{"type":"length","length":%d}' % count if count == self.tokens else b"null"
        payload = (
            b'data: {"text":"%b","output_ids":[%b],"meta_info":{"id":"0","finish_reason":%b,"prompt_tokens":100,'
            b'"output_token_logprobs":[%b],"completion_tokens":%d,"cached_tokens":0}}\n\n'
        ) % (
            self._text[:count],
            self._ids[: self._ids_ends[count - 1]],
            reason,
            self._logprobs[: self._logprobs_ends[count - 1]],
            count,
        )
        return b"%x\r\n%b\r\n" % (len(payload), payload)


def _list_and_ends(items: list[bytes]) -> tuple[bytes, list[int]]:
    """The items of a JSON list, and where each of them ends."""
    return b",".join(items), [end - 1 for end in accumulate(len(item) + 1 for item in items)]


class FakeServer:
    """One server of the pair."""

    def __init__(self, role: Role, tokens: int, tick: float) -> None:
        self._role = role
        self._tick = tick
        self._answer = Answer(tokens)

    async def handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                _, _, length = head.lower().partition(b"content-length:")
                body = await reader.readexactly(int(length.split(b"\r\n")[0])) if length else b"{}"
                await self._respond(head.split(b" ", 2)[1].decode(), orjson.loads(body or b"{}"), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _respond(self, path: str, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if path == "/generate" and request.get("stream") and self._role == "decode":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            interval = request.get("sampling_params", {}).get("stream_interval", 1)  # of 16: tokens 1, 17, 33, ...
            for count in range(1, self._answer.tokens + 1):
                if count % interval == 1 % interval or count == self._answer.tokens:
                    writer.write(self._answer.event(count))
                    await writer.drain()
                await asyncio.sleep(self._tick)
            writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        else:
            writer.write(response(orjson.dumps(self._body(path, request))))
        await writer.drain()

    def _body(self, path: str, request: dict[str, Any]) -> Any:
        if path == "/server_info":
            return {"served_model_name": "fake", "disaggregation_mode": self._role, "version": "0.5.17"}
        if path == "/tokenize":
            if "messages" in request:
                rendered = "".join(f"<{message['role']}>{message['content']}" for message in request["messages"])
                return {"tokens": [ord(letter) for letter in rendered]}
            return {"tokens": [[ord(letter) for letter in text] for text in request["prompt"]]}
        if path == "/detokenize":
            return {"text": "".join(map(chr, request["tokens"]))}
        return {"text": "", "output_ids": [], "meta_info": {"finish_reason": {"type": "length"}}}


async def serve(prefill: int, decode: int, tokens: int, tick: float) -> None:
    """Serve both roles until the process is terminated."""
    roles: tuple[tuple[Role, int], ...] = (("prefill", prefill), ("decode", decode))
    for role, port in roles:
        await asyncio.start_server(
            partial(FakeServer.handle_connection, FakeServer(role, tokens, tick)), "127.0.0.1", port, backlog=4096
        )
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]) / 1e3))
