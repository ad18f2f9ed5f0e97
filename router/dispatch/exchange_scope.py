"""An exchange with a pair as an `async with` block: fields added, both legs sent, both ended and recorded."""

import asyncio
from types import TracebackType
from typing import Any

from router.dispatch.attempt import Attempt
from router.dispatch.background_posts import BackgroundPosts
from router.dispatch.exchange import Exchange
from router.dispatch.exchange_request import ExchangeRequest
from router.dispatch.pair_times import PairTimes
from router.observability.tracing.leg_tracer import UNTRACED_EXCHANGE
from router.workers.worker import Pair, Worker


class ExchangeScope:
    """Async context manager of one exchange. (`asynccontextmanager` would cost as much as sending the request.)

    Args:
        pair: The two workers.
        request: What is sent.
        background: Aborts the request on both servers if it ends early.
        times: Counts how long the legs took.
        first: The attempt of the first sample of the same client's request, if this is another sample.
    """

    def __init__(
        self,
        pair: Pair,
        request: ExchangeRequest,
        background: BackgroundPosts,
        times: PairTimes,
        first: Attempt | None = None,
    ) -> None:
        self._pair = pair
        self._request = request
        self._background = background
        self._times = times
        self._first = first
        self._attempt = Attempt(pair)
        self._rid: Any = None

    def for_another_sample(self, request: ExchangeRequest) -> "ExchangeScope":
        """An exchange on the same pair for another sample of the same client's request, once this one has begun.

        Its fields are checked, the circuit breakers let it through, and its places are taken already.
        """
        return ExchangeScope(self._pair, request, self._background, self._times, self._attempt)

    @property
    def failed_worker(self) -> Worker | None:
        """The worker whose failure ended the exchange, or None."""
        return self._attempt.failed_worker

    def count_silence(self) -> bool:
        """See `Attempt.count_silence`."""
        return self._attempt.count_silence()

    async def __aenter__(self) -> Exchange:
        pair, request, attempt = self._pair, self._request, self._attempt
        is_first = self._first is None
        bodies = request.bodies_for(pair, is_checked=not is_first)
        self._rid = bodies.rid
        attempt.begin(self._first)
        try:
            tracer = request.tracer
            trace = UNTRACED_EXCHANGE if tracer is None else tracer.start_exchange(pair, request.path)
            # The places of all samples are taken at once, for the whole request.
            exchange = Exchange(pair, request, bodies, trace, places=bodies.prompts if is_first else 0)
            attempt.exchange = exchange
        except BaseException:
            attempt.cancel()
            raise
        del bodies  # sent, and may be long
        try:
            if request.start_timeout is None:
                await exchange.start()
            else:
                async with asyncio.timeout(request.start_timeout):
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
                self._background.abort((self._pair.prefill, self._pair.decode), self._rid, self._request.headers)
            await exchange.close()
        except BaseException as close_error:
            error = close_error
            raise
        finally:
            self._attempt.finish(error)
            if self._request.timed:
                self._times.record(exchange)
            del error  # otherwise its traceback and this frame form a reference cycle that keeps the body
