"""A client's request on a pair, and decode's response streamed back."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

from router.dispatch.attempt import failed_worker_of
from router.dispatch.client_headers import client_headers
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.exchange import Exchange
from router.dispatch.exchange_scope import ExchangeScope
from router.dispatch.forwarding import ChooseAttempt, ForwardingAttempt, RoutedRequest
from router.dispatch.prompt_logprobs import stream_with_prompt_logprobs, wants_prompt_logprobs, with_prompt_logprobs
from router.dispatch.retries import RETRYABLE_STATUSES
from router.dispatch.worker_errors import refusal_in_stream, without_paths
from router.dispatch.worker_headers import passed_headers, stream_headers
from router.http.client_request import ClientRequest
from router.load_balancing import RoutingContext
from router.workers.worker import Pair, Worker


def on_pairs(dispatcher: Dispatcher) -> ChooseAttempt:
    """How attempts on pairs are chosen."""

    def choose(routed: RoutedRequest, context: RoutingContext, avoid: Collection[Worker]) -> "PairAttempt":
        return PairAttempt(dispatcher, routed, dispatcher.choose_pair(routed.model, context, avoid))

    return choose


class PairAttempt(ForwardingAttempt):
    """An attempt on a pair."""

    def __init__(self, dispatcher: Dispatcher, routed: RoutedRequest, pair: Pair) -> None:
        self.workers = (pair.prefill, pair.decode)
        self._dispatcher = dispatcher
        self._routed = routed
        self._pair = pair
        self._scope: ExchangeScope | None = None

    async def run(self, request: ClientRequest, *, is_last: bool) -> int:
        """As of `ForwardingAttempt`."""
        routed = self._routed
        scope = self._scope = self._dispatcher.exchange(
            routed.path, routed.body, self._pair, request.span, headers=client_headers(request)
        )
        try:
            async with scope as exchange:
                status = exchange.decode.status
                if is_last or status not in RETRYABLE_STATUSES:
                    await self._send_response(request, routed, exchange)
                    return status
            self.failed_worker = failed_worker_of(exchange)
            return status
        except BaseException:
            self.failed_worker = scope.failed_worker
            raise

    def count_silence(self) -> None:
        """As of `ForwardingAttempt`."""
        if self._scope is not None:
            self._scope.count_silence()

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
                await request.send_headers(status, stream_headers(exchange.decode.headers))
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
        headers = [(b"content-type", content_type), *passed_headers(exchange.decode.headers)]
        await request.send_response(status, body, headers)


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
