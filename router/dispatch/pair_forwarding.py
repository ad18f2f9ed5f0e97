"""Client requests, forwarded to a pair: attempts, retries, and the answer on its way back."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import orjson

from router.dispatch.attempt import RETRYABLE_STATUSES, failed_worker_of, retryable
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.exchange import Exchange
from router.dispatch.metrics import DispatchMetrics
from router.dispatch.retries import RetrySettings
from router.errors import UpstreamFailed, UpstreamTimeout, clear_tracebacks
from router.http.asgi import SSE_HEADERS
from router.http.body import Body
from router.http.client_request import ClientRequest
from router.load_balancing import prompt_prefix
from router.workers.worker import Worker


@dataclass(frozen=True, slots=True)
class RoutedRequest:
    """What is sent to the workers.

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


class PairForwarder:
    """Forwards requests of clients to pairs.

    Args:
        dispatcher: Chooses pairs and sends to them.
        retries: How often a request is tried.
        metrics: Counts attempts.
    """

    def __init__(self, dispatcher: Dispatcher, retries: RetrySettings, metrics: DispatchMetrics) -> None:
        self._dispatcher = dispatcher
        self._retries = retries
        self._metrics = metrics

    async def forward(self, request: ClientRequest, job: RoutedRequest) -> None:
        """Answer a client with what a pair answers: attempt after attempt, until the client has got the first byte.

        Raises:
            RouterError: No attempt could serve it.
        """
        prompt = prompt_prefix(job.body.fields)
        avoid: set[Worker] = set()
        while True:
            pair = self._dispatcher.choose_pair(job.model, prompt, avoid)
            request.model = job.model  # only now: a name that a client made up must not become a metric's label
            request.workers = (pair.prefill.url, pair.decode.url)
            request.attempts += 1
            last = request.attempts >= self._retries.attempts
            self._metrics.selected(job.model)
            exchanging = self._dispatcher.exchange(job.path, job.body, pair, request.span)
            try:
                async with exchanging as exchange:
                    failed = exchange.decode.status in RETRYABLE_STATUSES
                    if last or not failed:
                        await self._answer(request, job, exchange)
                        if failed:
                            self._metrics.exhausted(job.endpoint)
                        return
                failing: Worker | None = failed_worker_of(exchange)
                self._metrics.failed(pair, failing, f"status_{exchange.decode.status}")
            except (UpstreamFailed, UpstreamTimeout) as error:
                failing = exchanging.failed_worker
                self._metrics.failed(pair, failing, error.kind)
                if request.response_started or not retryable(error):
                    raise
                if last:
                    self._metrics.exhausted(job.endpoint)
                    raise
                clear_tracebacks(error)
            if failing is not None:
                avoid.add(failing)
            wait = self._retries.backoff(request.attempts)
            self._metrics.retried(job.endpoint, request.attempts, wait)
            await asyncio.sleep(wait)

    async def _answer(self, request: ClientRequest, job: RoutedRequest, exchange: Exchange) -> None:
        status = exchange.decode.status
        kind = exchange.decode.header(b"content-type") or b"application/json"
        if kind.startswith(b"text/event-stream"):
            async with aclosing(_lines(exchange)) as lines:
                # The head goes out with the first piece: what fails before can still be tried again.
                first = await anext(lines, b"")
                request.streaming = True
                request.first_chunk_at = exchange.first
                await request.send_headers(status, SSE_HEADERS)
                await request.send_chunk(first)
                async for chunk in lines:
                    await request.send_chunk(chunk)
            await request.send_chunk(b"", more=False)
            return
        answer = b"".join([chunk async for chunk in exchange.body()])
        if job.path == "/generate" and job.body.fields.get("return_logprob") and status == 200:
            answer = with_input_logprobs(answer, await exchange.prefill_answer())
        await request.send_response(status, answer, [(b"content-type", kind)])


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
