"""Client requests, passed on to a pair."""

from collections.abc import AsyncIterator
from typing import Any

import orjson

from router.errors import BadRequest, NoWorker, RouterError, UpstreamFailed
from router.exchange import Exchange
from router.http.asgi import SSE_HEADERS, Request, while_connected
from router.http.sse import error_events
from router.moa.clients import ClientRuns
from router.moa.endpoint import MoaEndpoint
from router.pd import Dispatcher
from router.policies import prefix_of
from router.workers import Registry


class Proxy:
    """`/generate`, `/v1/chat/completions` and `/v1/completions`."""

    def __init__(self, registry: Registry, dispatcher: Dispatcher, moa: MoaEndpoint, clients: ClientRuns) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._moa = moa
        self._clients = clients

    async def generate(self, request: Request) -> None:
        """SGLang's native endpoint; `model` chooses among several models and is not passed on."""
        body = await request.json()
        model = self._model(body)
        body.pop("model", None)
        await while_connected(request, self._forward(request, "/generate", model, body))

    async def chat_completions(self, request: Request) -> None:
        """OpenAI chat; a tree's name as `model` runs the tree."""
        body = await request.json()
        if self._moa.serves(body.get("model")):
            await while_connected(request, self._moa.answer(request, body, "chat"))
            return
        await while_connected(request, self._forward(request, "/v1/chat/completions", self._model(body), body))

    async def completions(self, request: Request) -> None:
        """OpenAI completions; a tree's name as `model` runs the tree, once for each prompt."""
        body = await request.json()
        if self._moa.serves(body.get("model")):
            await while_connected(request, self._moa.answer(request, body, "completion"))
            return
        await while_connected(request, self._forward(request, "/v1/completions", self._model(body), body))

    def _model(self, body: dict[str, Any]) -> str:
        named = body.get("model")
        if named is not None and not isinstance(named, str):
            raise BadRequest("`model` must be a string.")
        # "default" is SGLang's own name for whatever the server has.
        model = self._registry.default_model() if named in (None, "default") else named
        if model is None:
            known = self._registry.models()
            if not known:
                raise NoWorker("no model has both a healthy prefill and a healthy decode server yet.")
            raise BadRequest(f"several models are served here; name one in `model`: {', '.join(known)}.")
        return model

    async def _forward(self, request: Request, path: str, model: str, body: dict[str, Any]) -> None:
        if self._clients.serves(body):
            await self._clients.answer(request, path, model, body)
            return
        pair = self._dispatcher.choose(model, prefix_of(body))
        async with self._dispatcher.exchange(path, body, pair) as exchange:
            status = exchange.decode.status
            kind = exchange.decode.header(b"content-type") or b"application/json"
            if kind.startswith(b"text/event-stream"):
                await request.send_head(status, SSE_HEADERS)
                async for chunk in _stream(exchange):
                    await request.send_chunk(chunk)
                await request.send_chunk(b"", more=False)
                return
            answer = b"".join([chunk async for chunk in exchange.body()])
            if path == "/generate" and body.get("return_logprob") and status == 200:
                answer = with_input_logprobs(answer, await exchange.prefill_answer())
            await request.answer(status, answer, [(b"content-type", kind)])


async def _stream(exchange: Exchange) -> AsyncIterator[bytes]:
    """Decode's events; an error in the middle becomes an error event, as OpenAI's API does it.

    Whole lines only, so that half a line and the error's event do not run into one.
    """
    rest = b""
    try:
        async for chunk in exchange.body():
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                yield lines + newline
        if rest:
            yield rest
    except RouterError as error:
        yield b"\n" + error_events(error)


def with_input_logprobs(decode: bytes, prefill: bytes) -> bytes:
    """Decode's `/generate` answer with the input log-probabilities that only prefill computed."""
    try:
        answer, other = orjson.loads(decode), orjson.loads(prefill)
        batch = isinstance(answer, list)
        for mine, theirs in zip(answer if batch else [answer], other if batch else [other], strict=True):
            for key in ("input_token_logprobs", "input_top_logprobs", "input_token_ids_logprobs"):
                if key in theirs["meta_info"]:
                    mine["meta_info"][key] = theirs["meta_info"][key]
    except (ValueError, KeyError, TypeError):
        raise UpstreamFailed("the prefill and the decode server answered in forms that do not fit together.") from None
    return orjson.dumps(answer)
