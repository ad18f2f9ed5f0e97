"""An exchange with a pair as an `async with` block: fields added, both legs sent, both ended and recorded."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from router.dispatch.attempt import Attempt
from router.dispatch.client_headers import NO_CLIENT_HEADERS, ClientHeaders
from router.dispatch.exchange import Exchange
from router.dispatch.pair_fields import router_fields
from router.dispatch.pair_times import PairTimes
from router.dispatch.prompt_logprobs import wants_prompt_logprobs
from router.http.body import Body
from router.observability.tracing.leg_tracer import UNTRACED_EXCHANGE, LegTracer
from router.request_checks.refused_fields import RESERVED_FIELDS
from router.workers.worker import Pair, Worker

OF_STREAMS = ("stream", "stream_options")  # fields that a request for a whole response must not have


class ExchangeScope:
    """Async context manager of one exchange. (`asynccontextmanager` would cost as much as sending the request.)

    Args:
        path: The path on the workers.
        body: The request body, without the router's fields.
        pair: The two workers.
        abort: Aborts a request id, or a list of them, on both servers, with the headers of the client's request.
        tracer: Traces its two requests; None without tracing.
        seconds: Until decode's response must have started; None for no limit.
        headers: Headers of the client's request that both get.
        first: The exchange of the same request's first sample, if this is one of another: it has begun, so the fields
            are checked, and the breakers have let the request through.
        on_prefilled: As of `Exchange`.
        times: Counts how long its legs took; None counts nothing.
    """

    def __init__(
        self,
        path: str,
        body: Body,
        pair: Pair,
        abort: Callable[[Pair, Any, ClientHeaders], None],
        tracer: LegTracer | None,
        seconds: float | None = None,
        headers: ClientHeaders = NO_CLIENT_HEADERS,
        first: "ExchangeScope | None" = None,
        on_prefilled: Callable[[], None] | None = None,
        times: PairTimes | None = None,
    ) -> None:
        self._abort = abort
        self._path = path
        self._body = body
        self._tracer = tracer
        self._seconds = seconds
        self._headers = headers
        self._attempt = Attempt(pair)
        self._first = None if first is None else first._attempt
        self._on_prefilled = on_prefilled
        self._times = times
        self._pair = pair
        self._rid: Any = None

    def _places(self) -> int:
        """The places that it takes: one for each prompt. Those of all samples are taken for the whole request."""
        if self._first is not None:
            return 0
        return len(self._rid) if isinstance(self._rid, list) else 1

    @property
    def failed_worker(self) -> Worker | None:
        """The worker whose failure ended the exchange, or None."""
        return self._attempt.failed_worker

    def count_silence(self) -> bool:
        """Tell the breakers that the request's time was over; False, without effect, once decode's response started."""
        return self._attempt.count_silence()

    async def __aenter__(self) -> Exchange:
        pair, path, attempt = self._pair, self._path, self._attempt
        added_fields = router_fields(self._body.fields, pair, path, is_checked=self._first is not None)
        self._rid = added_fields["rid"]
        request_body = self._body.render(added_fields, dropped=RESERVED_FIELDS)
        prefill_body = None
        if self._body.fields.get("stream") and wants_prompt_logprobs(path, self._body.fields):
            prefill_body = self._body.render({**added_fields, "stream": False}, dropped=(*RESERVED_FIELDS, *OF_STREAMS))
        attempt.begin(self._first)
        try:
            trace = UNTRACED_EXCHANGE if self._tracer is None else self._tracer.start_exchange(pair, path)
            attempt.exchange = exchange = Exchange(
                pair, request_body, path, trace, prefill_body, self._headers, self._on_prefilled, self._places()
            )
        except BaseException:
            attempt.cancel()
            raise
        del request_body, prefill_body  # sent, and may be long
        try:
            if self._seconds is None:
                await exchange.start()
            else:
                async with asyncio.timeout(self._seconds):
                    await exchange.start()
        except BaseException as error:
            await self._end(error)
            raise
        return exchange

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(error)

    async def _end(self, error: BaseException | None) -> None:
        exchange = self._attempt.exchange
        try:
            # First what must happen even if the wait in `close` is cancelled.
            exchange.release_load(self._pair.prefill)
            exchange.release_load(self._pair.decode)
            if not exchange.finished:
                self._abort(self._pair, self._rid, self._headers)
            await exchange.close()
        except BaseException as close_error:
            error = close_error
            raise
        finally:
            self._attempt.finish(error)
            if self._times is not None:
                self._times.record(exchange)
            del error  # otherwise its traceback and this frame form a reference cycle that keeps the body
