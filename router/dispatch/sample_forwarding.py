"""A client's request for several samples of each prompt (`n` above 1) on a pair, and the responses merged.

SGLang 0.5.17 gives all samples of a request one bootstrap room, in which only one KV can be transferred. So each sample
is an exchange of its own, with rooms of its own, and all are on the same pair, where they find the prompt cached.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from router.dispatch.attempt import failed_worker_of
from router.dispatch.client_headers import client_headers
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.exchange import Exchange
from router.dispatch.exchange_scope import ExchangeScope
from router.dispatch.forwarding import ForwardingAttempt, RoutedRequest
from router.dispatch.merge_streams import merge_streams
from router.dispatch.pair_fields import MAX_BATCH, batch_size
from router.dispatch.pair_responses import event_lines, prepended, whole_body
from router.dispatch.retries import RETRYABLE_STATUSES
from router.dispatch.sample_body import sample_body
from router.dispatch.sample_count import sample_count
from router.dispatch.sample_merging import merged_response, stream_merger
from router.dispatch.worker_errors import error_message, refusal_in_stream
from router.dispatch.worker_headers import passed_headers, stream_headers
from router.errors import BadRequest, RouterError, UpstreamFailed, clear_tracebacks
from router.http.asgi import JSON_HEADERS, Headers
from router.http.client_request import ClientRequest
from router.http.sse import parse_events
from router.workers.worker import Pair, Worker


class _SampleRefused(RouterError):
    """A pair answered a sample with an error response.

    Args:
        upstream_status: Its HTTP status.
        response: Its body.
        headers: The headers that the client gets.
        worker: Whose failure it is, if it is one.
    """

    def __init__(self, code: int, response: bytes, headers: Headers, worker: Worker | None = None) -> None:
        super().__init__(error_message(response))
        self.upstream_status = code
        self.response = response
        self.headers = headers
        self.worker = worker


async def admit_samples(request: ClientRequest, routed: RoutedRequest) -> None:
    """Let a request count as one for each sample that it does at once, and its body as often; waits for room.

    Raises:
        BadRequest: As of `sample_count`, or there are too many samples of all prompts.
        TimedOutInQueue: There was no room in time.
        TooLarge, Overloaded: The body is too long for so many samples, or for so many now.
    """
    count = sample_count(routed.body.fields, routed.path)
    if count == 1:
        return
    prompts = batch_size(routed.body.fields, routed.path) or 1
    if prompts * count > MAX_BATCH:
        raise BadRequest(
            f"{prompts} prompts with `n` {count} are {prompts * count} answers, and {MAX_BATCH} is the most; "
            "send several requests."
        )
    count = _at_once(request, count)
    await request.admission.reweigh(count)
    request.count_copies(count)


def places_of(request: ClientRequest, routed: RoutedRequest) -> int:
    """The places that a request takes on a decode server: one for each answer that it gets at once."""
    prompts = batch_size(routed.body.fields, routed.path) or 1
    return prompts * _at_once(request, sample_count(routed.body.fields, routed.path))


def _at_once(request: ClientRequest, count: int) -> int:
    """How many of `count` samples a request does at once: room for all of them may never be under a limit."""
    return min(count, request.admission.max_weight or count)


class SampledAttempt(ForwardingAttempt):
    """An attempt on a pair, for several samples of each prompt.

    The first sample goes ahead. The others follow once prefill has its prompt in the cache, as one SGLang server does
    it: together they would compute the prompt n times. Under a limit on requests some wait until others have ended.
    Whatever ends one of them early ends all.
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
        at_once = _at_once(request, self._count)
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

    async def _exchange(self, request: ClientRequest, sample: int) -> AsyncGenerator[bytes, None]:
        """As `_sample`, at once."""
        routed = self._routed
        scope = self._dispatcher.exchange(
            routed.path,
            sample_body(routed.body, routed.path, sample),
            self._pair,
            request.span,
            headers=client_headers(request),
            first=self._scopes[0] if sample > 0 else None,
            on_prefilled=self._prefilled.set if sample == 0 else None,
        )
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
