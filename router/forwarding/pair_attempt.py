"""A client's request on a pair, and decode's response streamed back."""

from contextlib import aclosing
from http import HTTPStatus

from router.dispatch.attempt import failed_worker_of
from router.dispatch.client_headers import client_headers
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.exchange import Exchange
from router.dispatch.exchange_request import ExchangeRequest
from router.dispatch.exchange_scope import ExchangeScope
from router.dispatch.retries import RETRYABLE_STATUSES
from router.dispatch.worker_errors import refusal_in_stream
from router.forwarding.answer_tokens import tokens_of_chunk, tokens_of_response
from router.forwarding.forwarder import ForwardingAttempt, RoutedRequest
from router.forwarding.pair_responses import event_lines, whole_body
from router.forwarding.worker_headers import passed_headers, stream_headers
from router.http.client_request import ClientRequest
from router.workers.worker import Pair


class PairAttempt(ForwardingAttempt):
    """An attempt on a pair, for one sample of each prompt."""

    def __init__(self, dispatcher: Dispatcher, routed: RoutedRequest, pair: Pair) -> None:
        self.workers = (pair.prefill, pair.decode)
        self._dispatcher = dispatcher
        self._routed = routed
        self._pair = pair
        self._scope: ExchangeScope | None = None
        streams = bool(routed.body.fields.get("stream"))
        self._prefill_watch, self._watch = dispatcher.selector.watch_pair(pair, streams=streams)

    async def run(self, request: ClientRequest, *, is_last: bool) -> int:
        """As of `ForwardingAttempt`."""
        routed = self._routed
        sent = ExchangeRequest(
            routed.path,
            routed.body,
            headers=client_headers(request),
            tracer=request.span,
            on_prefilled=self._prefill_watch.first_token,
        )
        scope = self._scope = self._dispatcher.exchange(self._pair, sent)
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
        finally:
            self._prefill_watch.given_up()
            self._watch.given_up()

    def count_silence(self) -> None:
        """As of `ForwardingAttempt`."""
        if self._scope is not None:
            self._scope.count_silence()

    async def _send_response(self, request: ClientRequest, routed: RoutedRequest, exchange: Exchange) -> None:
        status = exchange.decode.status
        content_type = exchange.decode.header(b"content-type") or b"application/json"
        if content_type.startswith(b"text/event-stream"):
            async with aclosing(event_lines(routed.path, routed.body.fields, exchange)) as lines:
                # Headers are sent with the first chunk: a failure before it can still be retried.
                first_chunk = await anext(lines, b"")
                if (refusal := refusal_in_stream(first_chunk)) is not None:
                    await request.send_response(*refusal, [(b"content-type", b"application/json")])
                    return
                self._watch.first_token()
                tokens = tokens_of_chunk(first_chunk)
                self.generated = True
                request.streaming = True
                request.first_chunk_at = exchange.first_chunk_at
                await request.send_headers(status, stream_headers(exchange.decode.headers))
                await request.send_chunk(first_chunk)
                async for chunk in lines:
                    tokens += tokens_of_chunk(chunk)
                    await request.send_chunk(chunk)
                self._watch.ended(tokens)
            await request.send_chunk(b"", more=False)
            return
        body = await whole_body(routed.path, routed.body.fields, exchange)
        self.generated = status == HTTPStatus.OK
        if self.generated:
            self._watch.ended(tokens_of_response(body))
        headers = [(b"content-type", content_type), *passed_headers(exchange.decode.headers)]
        await request.send_response(status, body, headers)
