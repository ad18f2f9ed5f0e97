"""An exchange with a pair as an `async with` block."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

from router.dispatch.attempt import Attempt
from router.dispatch.exchange import Exchange
from router.dispatch.pair_fields import RESERVED_FIELDS, router_fields
from router.http.body import Body
from router.observability.tracing.leg_tracer import UNTRACED_EXCHANGE, LegTracer
from router.workers.worker import Pair, Worker


class ExchangeScope:
    """An exchange as a block; written out, since `asynccontextmanager` costs as much as sending the request.

    Args:
        path: The workers' path.
        body: The request's body, without the router's fields.
        pair: The two workers.
        abort: Tells both servers to end the request of an id.
        tracer: Traces its two requests; None without tracing.
    """

    def __init__(
        self, path: str, body: Body, pair: Pair, abort: Callable[[Pair, Any], None], tracer: LegTracer | None
    ) -> None:
        self._abort = abort
        self._path = path
        self._body = body
        self._tracer = tracer
        self._attempt = Attempt(pair)
        self._pair = pair
        self._rid: Any = None

    @property
    def failed_worker(self) -> Worker | None:
        """The worker whose failure ended the exchange; None where none did."""
        return self._attempt.failed_worker

    async def __aenter__(self) -> Exchange:
        pair, path, attempt = self._pair, self._path, self._attempt
        own = router_fields(self._body.fields, pair, path)
        self._rid = own["rid"]
        raw = self._body.render(own, dropped=RESERVED_FIELDS)
        attempt.begin()
        try:
            spans = UNTRACED_EXCHANGE if self._tracer is None else self._tracer.start_exchange(pair, path)
            attempt.exchange = exchange = Exchange(pair, raw, path, spans)
        except BaseException:
            attempt.give_up()
            raise
        del raw  # it was sent, and may be long
        try:
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
            # First what must happen even when the wait in `close` is cancelled.
            exchange.unload(self._pair.prefill)
            exchange.unload(self._pair.decode)
            if not exchange.finished:
                self._abort(self._pair, self._rid)
            await exchange.close()
        except BaseException as later:
            error = later
            raise
        finally:
            self._attempt.settle(error)
            del error  # else its traceback, this frame and the body are a circle
