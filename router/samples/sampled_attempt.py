"""An attempt of a request for several samples of each prompt (`n` above 1): an exchange for each, on one pair.

SGLang 0.5.17 gives all samples of a request one bootstrap room, in which only one KV can be transferred; exchanges have
rooms of their own. All are on the same pair, which has the prompt in its cache.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from router.dispatch.attempt import failed_worker_of
from router.dispatch.client_headers import client_headers
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.exchange import Exchange
from router.dispatch.exchange_request import ExchangeRequest
from router.dispatch.exchange_scope import ExchangeScope
from router.dispatch.retries import RETRYABLE_STATUSES
from router.dispatch.worker_errors import error_message, refusal_in_stream
from router.errors import RouterError, UpstreamFailed, clear_tracebacks
from router.forwarding.forwarder import ForwardingAttempt, RoutedRequest
from router.forwarding.pair_responses import event_lines, prepended, whole_body
from router.forwarding.worker_headers import passed_headers, stream_headers
from router.http.asgi import JSON_HEADERS, Headers
from router.http.client_request import ClientRequest
from router.http.merge_streams import merge_streams
from router.http.sse import parse_events
from router.request_checks.batches import batch_size
from router.samples.admission import samples_at_once
from router.samples.merging import merged_response, stream_merger
from router.samples.sample_body import sample_body
from router.workers.worker import Pair, Worker


class _SampleRefused(RouterError):
    """A pair answered a sample with an error response.

    Args:
        upstream_status: Its HTTP status.
        response: Its body.
        headers: The headers that the client gets.
        worker: The worker at fault, if it is a failure.
    """

    def __init__(self, code: int, response: bytes, headers: Headers, worker: Worker | None = None) -> None:
        super().__init__(error_message(response))
        self.upstream_status = code
        self.response = response
        self.headers = headers
        self.worker = worker


class SampledAttempt(ForwardingAttempt):
    """An attempt on a pair, for several samples of each prompt.

    The first sample is sent at once, and the others once prefill has the prompt in its cache, as one SGLang server
    does: else the prompt would be computed n times. Under a limit on requests some wait until others have ended. If one
    of them ends early, all end.
    """

    def __init__(self, dispatcher: Dispatcher, routed: RoutedRequest, pair: Pair, count: int) -> None:
        self.workers = (pair.prefill, pair.decode)
        self._dispatcher = dispatcher
        self._routed = routed
        self._pair = pair
        self._count = count
        self._stream = bool(routed.body.fields.get("stream"))
        self._batch = batch_size(routed.body.fields, routed.path) is not None
        self._places: asyncio.Semaphore  # for the samples that run at once
        self._prefilled = asyncio.Event()  # the first sample's prompt is in prefill's cache
        self._scopes: list[ExchangeScope] = []  # the first, and those that have not ended
        self._headers: Headers = []  # of decode's first response
        self._first_chunk_at: float | None = None

    async def run(self, request: ClientRequest, *, is_last: bool) -> int:
        """As of `ForwardingAttempt`."""
        at_once = samples_at_once(request, self._count)
        self._places = asyncio.Semaphore(at_once)
        others = (at_once - 1) * (batch_size(self._routed.body.fields, self._routed.path) or 1)
        self._pair.decode.load.take_places(others)  # the first sample takes its own
        try:
            if self._stream:
                await self._send_stream(request)
            else:
                await self._send_whole(request)
            self.generated = True
            return 200
        except _SampleRefused as refusal:
            clear_tracebacks(refusal)
            if request.response_started:
                raise UpstreamFailed(str(refusal)) from None
            if is_last or refusal.upstream_status not in RETRYABLE_STATUSES:
                await request.send_response(refusal.upstream_status, refusal.response, refusal.headers)
            else:
                self.failed_worker = refusal.worker
            return refusal.upstream_status
        finally:
            self._pair.decode.load.free_places(others)
            self._pair.decode.load.tell_release()

    def count_silence(self) -> None:
        """As of `ForwardingAttempt`; only one of the samples counts."""
        any(scope.count_silence() for scope in self._scopes)

    async def _send_whole(self, request: ClientRequest) -> None:
        bodies = [b""] * self._count
        samples = [self._sample(request, sample) for sample in range(self._count)]
        async with aclosing(merge_streams(samples)) as merged:
            async for sample, body in merged:
                bodies[sample] = body
        body = merged_response(self._routed.path, bodies, batch=self._batch)
        await request.send_response(200, body, [*JSON_HEADERS, *passed_headers(self._headers)])

    async def _send_stream(self, request: ClientRequest) -> None:
        merger = stream_merger(self._routed.path, self._count, batch=self._batch)
        samples = [self._sample(request, sample) for sample in range(self._count)]
        async with aclosing(merge_streams(samples)) as merged:
            async for sample, payload in merged:
                if event := merger.event(sample, payload):
                    await self._start_stream(request)
                    await request.send_chunk(event)
        await self._start_stream(request)
        await request.send_chunk(merger.end())
        await request.send_chunk(b"", more=False)

    async def _start_stream(self, request: ClientRequest) -> None:
        """Send the headers, unless they are sent: with the first event, since a failure before it can be retried."""
        if not request.response_started:
            request.streaming = True
            request.first_chunk_at = self._first_chunk_at
            await request.send_headers(200, stream_headers(self._headers))

    async def _sample(self, request: ClientRequest, sample: int) -> AsyncGenerator[bytes, None]:
        """The payloads of a sample's events, or its whole body, once it may begin.

        Raises:
            _SampleRefused: The pair answered with an error.
            RouterError: A worker failed.
        """
        if sample > 0:
            await self._prefilled.wait()
        async with self._places, aclosing(self._exchange(request, sample)) as payloads:
            async for payload in payloads:
                yield payload

    def _scope_of(self, request: ClientRequest, sample: int) -> ExchangeScope:
        routed = self._routed
        sent = ExchangeRequest(
            routed.path,
            sample_body(routed.body, routed.path, sample),
            headers=client_headers(request),
            tracer=request.span,
            on_prefilled=self._prefilled.set if sample == 0 else None,
        )
        if sample == 0:
            return self._dispatcher.exchange(self._pair, sent)
        return self._scopes[0].for_another_sample(sent)

    async def _exchange(self, request: ClientRequest, sample: int) -> AsyncGenerator[bytes, None]:
        """As `_sample`, without waiting."""
        routed = self._routed
        scope = self._scope_of(request, sample)
        self._scopes.append(scope)
        refused: _SampleRefused | None = None
        body: bytes | None = None
        try:
            async with scope as exchange:
                self._headers = self._headers or exchange.decode.headers
                if self._stream and exchange.decode.status < 400:
                    async with aclosing(event_lines(routed.path, routed.body.fields, exchange)) as lines:
                        first_chunk = await anext(lines, b"")
                        self._prefilled.set()
                        self._first_chunk_at = self._first_chunk_at or exchange.first_chunk_at
                        if (refusal := refusal_in_stream(first_chunk)) is not None:
                            refused = _SampleRefused(*refusal, JSON_HEADERS)
                        else:
                            async with aclosing(prepended(first_chunk, lines)) as chunks:
                                async for payload in parse_events(chunks):
                                    yield payload
                else:
                    body = await whole_body(routed.path, routed.body.fields, exchange)
                    if exchange.decode.status >= 400:
                        refused = _refused(exchange, body)
        except BaseException:
            self.failed_worker = self.failed_worker or scope.failed_worker
            raise
        if refused is not None:  # only now: for the breakers it is a response as any other
            try:
                raise refused
            finally:
                del refused  # its traceback refers to this frame: a reference cycle
        self._prefilled.set()
        if sample > 0:
            self._scopes.remove(scope)  # it has what the servers sent
        if body is not None:
            yield body


def _refused(exchange: Exchange, body: bytes) -> _SampleRefused:
    decode = exchange.decode
    content_type = decode.header(b"content-type") or b"application/json"
    headers = [(b"content-type", content_type), *passed_headers(decode.headers)]
    return _SampleRefused(decode.status, body, headers, failed_worker_of(exchange))
