"""Client requests, passed on to a pair."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from router.access import refuse_reserved
from router.attempt import RETRYABLE, culprit, retryable
from router.body import Body, read_body
from router.call import Call
from router.errors import BadRequest, NoWorker, RouterError, UpstreamFailed, UpstreamTimeout, forget_frames
from router.exchange import Exchange
from router.http.asgi import SSE_HEADERS, while_connected
from router.http.sse import error_events
from router.moa.clients import ClientRuns
from router.moa.endpoint import MoaEndpoint
from router.moa.formats import Kind
from router.pd import Dispatcher
from router.plain import forward
from router.policies import prefix_of
from router.processes.peers import Peers
from router.retries import RetrySettings
from router.smg import GatewayMetrics
from router.workers import Worker

LAST_WORDS = 5.0  # seconds that a client gets to take the event of an error


@dataclass(frozen=True, slots=True)
class Job:
    """What is sent to a pair.

    Attributes:
        path: The workers' path.
        endpoint: Its name in metrics.
        model: The model asked for.
        body: The body, before the router's own fields.
    """

    path: str
    endpoint: str
    model: str
    body: Body


class Proxy:
    """What a pair answers: generation, and reranking."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        moa: MoaEndpoint,
        clients: ClientRuns,
        retries: RetrySettings,
        timeout: float,
        metrics: GatewayMetrics,
        peers: Peers | None = None,
    ) -> None:
        self._registry = dispatcher.registry
        self._dispatcher = dispatcher
        self._moa = moa
        self._clients = clients
        self._retries = retries
        self._timeout = timeout
        self._metrics = metrics
        self._peers = peers

    async def generate(self, call: Call) -> None:
        """SGLang's native endpoint; `model` chooses among several models and is not passed on."""
        body = await _read(call)
        if await self._passed_on(call, body):
            return
        model = self.model(body.fields)
        body.without("model")
        await self._in_time(call, Job("/generate", "generate", model, body))

    async def chat_completions(self, call: Call) -> None:
        """OpenAI chat; a tree's name as `model` runs the tree."""
        await self._complete(call, "chat", "/v1/chat/completions", "chat")

    async def completions(self, call: Call) -> None:
        """OpenAI completions; a tree's name as `model` runs the tree, once for each prompt."""
        await self._complete(call, "completion", "/v1/completions", "completions")

    async def _complete(self, call: Call, kind: Kind, path: str, endpoint: str) -> None:
        body = await _read(call)
        if await self._passed_on(call, body):
            return
        named = body.fields.get("model")
        if self._moa.serves(named):
            call.model = named
            await while_connected(call, self._moa.answer(call, body.whole(), kind, call.span))
            return
        await self._in_time(call, Job(path, endpoint, self.model(body.fields), body))

    async def _passed_on(self, call: Call, body: Body) -> bool:
        """Whether another process has answered: agents of one run read each other's answers in one place."""
        run = body.fields.get("run")
        if self._peers is None or call.internal or not isinstance(run, str):
            return False
        owner = self._peers.owner(run)
        if owner == self._peers.index:
            return False
        # The other one's limit is to come first: it knows what to say.
        await self._peers.pass_on(call, owner, body.render({}), self._timeout + LAST_WORDS)
        return True

    async def rerank(self, call: Call) -> None:
        """Documents by relevance, where the pair's model can do that."""
        body = await _read(call)
        await self._in_time(call, Job("/v1/rerank", "rerank", self.model(body.fields), body))

    def model(self, body: dict[str, Any]) -> str:
        """The model that a body asks for, or the only one; raises `BadRequest` or `NoWorker`."""
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

    async def _in_time(self, call: Call, job: Job) -> None:
        """Answer the call; an error after the answer began becomes an event of its stream, as OpenAI's API does it.

        A client that does not take that event is left.
        """
        try:
            await while_connected(call, self._serve(call, job), self._timeout)
            return
        except TimeoutError:
            error: RouterError = UpstreamTimeout(f"the request was not answered within {self._timeout:g} s.")
        except RouterError as failed:
            error = failed
        if not call.started or call.answered:
            raise error
        try:
            await while_connected(call, _last_words(call, error), LAST_WORDS)
        except TimeoutError:
            raise error from None
        forget_frames(error)

    async def _serve(self, call: Call, job: Job) -> None:
        if self._clients.serves(job.body.fields):
            await self._clients.answer(call, job.path, job.model, job.body.whole(), call.span)
        elif self._registry.paired(job.model):
            await self._try(call, job)
        else:
            await forward(call, self._registry.plain(job.model), job.path, job.body.render({}))

    async def _try(self, call: Call, job: Job) -> None:
        """Attempt after attempt, until one answered or the client has got the first byte."""
        prompt = prefix_of(job.body.fields)
        avoid: set[Worker] = set()
        while True:
            pair = self._dispatcher.choose(job.model, prompt, avoid)
            call.model = job.model  # only now: a name that a client made up must not become a metric's label
            call.workers = (pair.prefill.url, pair.decode.url)
            call.attempts += 1
            last = call.attempts >= self._retries.attempts
            self._metrics.selected(job.model)
            try:
                async with self._dispatcher.exchange(job.path, job.body, pair, call.span) as exchange:
                    failed = exchange.decode.status in RETRYABLE
                    if last or not failed:
                        await self._answer(call, job, exchange)
                        if failed:
                            self._metrics.exhausted(job.endpoint)
                        return
                failing: Worker | None = culprit(exchange)
                self._metrics.failed(pair, failing, f"status_{exchange.decode.status}")
            except (UpstreamFailed, UpstreamTimeout) as error:
                failing = error.worker
                self._metrics.failed(pair, failing, error.kind)
                if call.started or not retryable(error):
                    raise
                if last:
                    self._metrics.exhausted(job.endpoint)
                    raise
                forget_frames(error)
            if failing is not None:
                avoid.add(failing)
            wait = self._retries.backoff(call.attempts)
            self._metrics.retried(job.endpoint, call.attempts, wait)
            await asyncio.sleep(wait)

    async def _answer(self, call: Call, job: Job, exchange: Exchange) -> None:
        status = exchange.decode.status
        kind = exchange.decode.header(b"content-type") or b"application/json"
        if kind.startswith(b"text/event-stream"):
            async with aclosing(_lines(exchange)) as lines:
                # The head goes out with the first piece: what fails before can still be tried again.
                first = await anext(lines, b"")
                call.streaming = True
                call.first = exchange.first
                await call.send_head(status, SSE_HEADERS)
                await call.send_chunk(first)
                async for chunk in lines:
                    await call.send_chunk(chunk)
            await call.send_chunk(b"", more=False)
            return
        answer = b"".join([chunk async for chunk in exchange.body()])
        if job.path == "/generate" and job.body.fields.get("return_logprob") and status == 200:
            answer = with_input_logprobs(answer, await exchange.prefill_answer())
        await call.answer(status, answer, [(b"content-type", kind)])


async def _read(call: Call) -> Body:
    body = read_body(await call.body())
    refuse_reserved(body.fields)
    return body


async def _last_words(call: Call, error: RouterError) -> None:
    await call.send_chunk(b"\n" + error_events(error))
    await call.send_chunk(b"", more=False)


async def _lines(exchange: Exchange) -> AsyncGenerator[bytes, None]:
    """Decode's events in whole lines, so that half a line and an error's event do not run into one."""
    rest = b""
    async for chunk in exchange.body():
        lines, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            yield lines + newline
    if rest:
        yield rest


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
