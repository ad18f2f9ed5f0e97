"""Forwards client requests to pairs, with retries, and streams decode's response back."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from router.dispatch.attempt import failed_worker_of
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.exchange import Exchange
from router.dispatch.metrics import DispatchMetrics
from router.dispatch.prompt_logprobs import stream_with_prompt_logprobs, wants_prompt_logprobs, with_prompt_logprobs
from router.dispatch.retries import RETRYABLE_STATUSES, RetrySettings, is_retryable
from router.dispatch.worker_errors import refusal_in_stream, without_paths
from router.errors import NoWorker, UpstreamFailed, UpstreamTimeout, clear_tracebacks
from router.http.asgi import SSE_HEADERS
from router.http.body import Body
from router.http.client_request import ClientRequest
from router.load_balancing import PromptPrefix, prompt_prefix
from router.workers.worker import Pair, Worker


@dataclass(frozen=True, slots=True)
class RoutedRequest:
    """A client request after routing: what to send, and to which model's workers.

    Attributes:
        path: The path on the workers.
        endpoint: The endpoint's name in metrics.
        model: The model that serves it.
        body: The request body, without the router's fields.
    """

    path: str
    endpoint: str
    model: str
    body: Body


class PairForwarder:
    """Forwards client requests to pairs.

    Args:
        dispatcher: Chooses pairs and sends to them.
        retries: Number of attempts, and the backoff between them.
        metrics: Counts attempts.
    """

    def __init__(self, dispatcher: Dispatcher, retries: RetrySettings, metrics: DispatchMetrics) -> None:
        self._dispatcher = dispatcher
        self._retries = retries
        self._metrics = metrics

    async def forward(self, request: ClientRequest, routed: RoutedRequest) -> None:
        """Send a client a pair's response. Failed attempts are retried until the first byte is sent to the client.

        Raises:
            RouterError: The last attempt failed, or an attempt failed in a way that is not retried.
        """
        prompt = prompt_prefix(routed.body.fields)
        avoid: set[Worker] = set()
        while True:
            pair = await self._choose_pair(routed.model, prompt, avoid)
            request.model = routed.model  # only now: a name that no worker serves must not become a metric label
            request.workers = (pair.prefill.url, pair.decode.url)
            request.attempts += 1
            is_last = request.attempts >= self._retries.max_attempts
            self._metrics.selected(routed.model)
            exchange_scope = self._dispatcher.exchange(routed.path, routed.body, pair, request.span)
            try:
                async with exchange_scope as exchange:
                    failed = exchange.decode.status in RETRYABLE_STATUSES
                    if is_last or not failed:
                        await self._send_response(request, routed, exchange)
                        if failed:
                            self._metrics.exhausted(routed.endpoint)
                        return
                failed_worker: Worker | None = failed_worker_of(exchange)
                self._metrics.failed(pair, failed_worker, f"status_{exchange.decode.status}")
            except (UpstreamFailed, UpstreamTimeout) as error:
                failed_worker = exchange_scope.failed_worker
                self._metrics.failed(pair, failed_worker, error.kind)
                if request.response_started or not is_retryable(error):
                    raise
                if is_last:
                    self._metrics.exhausted(routed.endpoint)
                    raise
                clear_tracebacks(error)
            except asyncio.CancelledError:
                if request.timed_out:
                    exchange_scope.count_silence()
                raise
            if failed_worker is not None:
                avoid.add(failed_worker)
            backoff = self._retries.backoff(request.attempts)
            self._metrics.retried(routed.endpoint, request.attempts, backoff)
            await asyncio.sleep(backoff)

    async def _choose_pair(self, model: str, prompt: PromptPrefix | None, avoid: set[Worker]) -> Pair:
        """Choose a pair; where its only servers restart, wait for them."""
        while True:
            try:
                return self._dispatcher.choose_pair(model, prompt, avoid)
            except NoWorker:
                if not await self._dispatcher.restarts.wait(model):
                    raise

    async def _send_response(self, request: ClientRequest, routed: RoutedRequest, exchange: Exchange) -> None:
        status = exchange.decode.status
        content_type = exchange.decode.header(b"content-type") or b"application/json"
        if content_type.startswith(b"text/event-stream"):
            async with aclosing(_event_lines(routed, exchange)) as lines:
                # Headers are sent with the first chunk: a failure before it can still be retried.
                first_chunk = await anext(lines, b"")
                if (refusal := refusal_in_stream(first_chunk)) is not None:
                    await request.send_response(*refusal, [(b"content-type", b"application/json")])
                    return
                request.streaming = True
                request.first_chunk_at = exchange.first_chunk_at
                await request.send_headers(status, SSE_HEADERS)
                await request.send_chunk(first_chunk)
                async for chunk in lines:
                    await request.send_chunk(chunk)
            await request.send_chunk(b"", more=False)
            return
        body = b"".join([chunk async for chunk in exchange.body()])
        if status >= 400:
            body = without_paths(body)
        elif wants_prompt_logprobs(routed.path, routed.body.fields):
            body = with_prompt_logprobs(routed.path, body, await exchange.prefill_body())
        await request.send_response(status, body, [(b"content-type", content_type)])


async def _event_lines(routed: RoutedRequest, exchange: Exchange) -> AsyncGenerator[bytes, None]:
    """What the client gets of decode's event stream, in complete lines."""
    async with aclosing(_complete_lines(exchange)) as lines:
        if not wants_prompt_logprobs(routed.path, routed.body.fields):
            async for chunk in lines:
                yield chunk
            return
        # Decode's first event is awaited first: it tells an error better, and prefill has ended by then or soon after.
        first_chunk = await anext(lines, b"")
        if refusal_in_stream(first_chunk) is not None:
            yield first_chunk
            return
        prefill = await exchange.prefill_body()
        merged = stream_with_prompt_logprobs(routed.path, _prepended(first_chunk, lines), prefill)
        async with aclosing(merged) as chunks:
            async for chunk in chunks:
                yield chunk


async def _prepended(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield first
    async for chunk in rest:
        yield chunk


async def _complete_lines(exchange: Exchange) -> AsyncGenerator[bytes, None]:
    """Decode's event stream in complete lines, so that an error event is never appended to half a line."""
    rest = b""
    async for chunk in exchange.body():
        lines, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            yield lines + newline
    if rest:
        yield rest
