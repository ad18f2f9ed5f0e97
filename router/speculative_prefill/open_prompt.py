"""An open prompt: a prompt whose end is not known yet, prefilled on its pair as it grows."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from router.dispatch.dispatcher import Dispatcher
from router.dispatch.exchange import Exchange
from router.dispatch.pair_fields import pair_body
from router.dispatch.worker_errors import error_message
from router.errors import BadRequest, RouterError, UpstreamFailed
from router.http.body import Body
from router.observability.tracing.leg_tracer import LegTracer
from router.speculative_prefill.metrics import OpenPromptMetrics
from router.speculative_prefill.pacing import SegmentPacer
from router.speculative_prefill.speculation import SpeculationStats
from router.speculative_prefill.token_ids import common_prefix
from router.speculative_prefill.transport import SegmentTransport, transport_for
from router.workers.worker import Pair


class OpenPrompt:
    """Use as a context: leaving it ends whatever is under way on both servers.

    Segments go out one at a time, in the way that the pair knows (`carrier.py`); both radix caches then
    hold the prompt so far. A segment that fails is tried once more from the prompt's first token, as a
    server that has lost the prompt needs it; failing again it ends the speculation and nothing else: the
    final request then prefills what is missing.

    Args:
        dispatcher: Sends the requests.
        choose: Names the pair of servers that all requests of this prompt go to; asked at the first.
        pacer: Decides which segments are worth sending; None sends none (a blocking prompt).
        limit: The model's context length in tokens; None when it is not known.
        carry: How to speak to a pair; the best that it knows unless told otherwise.
        tracer: Traces the final request; those for segments only carry its trace headers. None without tracing.
        metrics: Counts what was prefilled ahead when the prompt closes; None counts nothing.

    Attributes:
        ids: The prompt so far.
        segments: When each segment was sent and ready, on the monotonic clock, and its new tokens.
        speculation: What was prefilled ahead, and what of it was of use.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        choose: Callable[[], Pair],
        pacer: SegmentPacer | None,
        limit: int | None = None,
        carry: Callable[[Pair], SegmentTransport] = transport_for,
        tracer: LegTracer | None = None,
        metrics: OpenPromptMetrics | None = None,
    ) -> None:
        self.ids: list[int] = []
        self.segments: list[tuple[float, float, int]] = []
        self.speculation = SpeculationStats()
        self._dispatcher = dispatcher
        self._choose = choose
        self._pair: Pair | None = None
        self._carry = carry
        self._carrier: SegmentTransport
        self._pacer = pacer
        self._limit = limit
        self._tracer = tracer
        self._metrics = metrics
        self._ready = 0  # tokens from the front that both servers hold
        self._pump: asyncio.Task[None] | None = None
        self._grew = asyncio.Event()
        self._closed = False
        self._ttft: float | None = None

    async def __aenter__(self) -> Self:
        if self._pacer is not None:
            self._pump = asyncio.create_task(self._send_segments(self._pacer))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        if self.speculation.tail is None:
            self.speculation.wasted = self.speculation.speculated
            self._leave()
        if self._pair is not None and self._metrics is not None:
            self._metrics.closed(str(self._pair.decode.model), self.speculation, self._ttft)

    def append(self, ids: Sequence[int]) -> None:
        """Add tokens at the end.

        Raises:
            BadRequest: The prompt would leave no room for an answer; it stays as it was.
        """
        assert not self._closed, "append after the final request"
        if self._limit is not None and len(self.ids) + len(ids) >= self._limit:
            raise BadRequest(
                f"the prompt would have {len(self.ids) + len(ids)} tokens, but the model takes {self._limit} with its "
                "answer; shorten the prompt or the answers it reads."
            )
        self.ids.extend(ids)
        self._grew.set()

    def truncate(self, length: int) -> None:
        """Take back every token from `length` on."""
        del self.ids[length:]
        self._forget(length)

    @asynccontextmanager
    async def finish(self, body: dict[str, Any]) -> AsyncIterator[Exchange]:
        """Send the final request: `body` for `/generate`, to which the prompt is added.

        Raises:
            BadRequest: The prompt is empty.
            RouterError: A leg failed before the answer began.
        """
        if not self.ids:
            raise BadRequest("the prompt is empty.")
        self._close()
        began = time.monotonic()
        pair = self._sticky_pair()
        self.speculation.tail = len(self.ids) - self._ready
        final = Body(self._carrier.final(body, self.ids, self._ready))
        async with self._dispatcher.exchange("/generate", final, pair, self._tracer) as exchange:
            if self._pump is not None:
                self._pump.cancel()  # a segment that still waits is of no use any more
            yield exchange
            if exchange.first_chunk_at is not None:
                self._ttft = exchange.first_chunk_at - began

    def _sticky_pair(self) -> Pair:
        if self._pair is not None and not self._dispatcher.can_keep_pair(self._pair):
            self._leave()
            self._pair = None
            self._forget(0)
            self.speculation.moves += 1
        if self._pair is None:
            self._pair = self._choose()
            self._carrier = self._carry(self._pair)
        return self._pair

    def _leave(self) -> None:
        """Tell the pair, without waiting, that no final request will come."""
        body = self._carrier.close() if self._pair is not None else None
        if self._pair is not None and body is not None:
            self._dispatcher.post_to_both(self._pair, "/generate", pair_body(body, self._pair, "/generate"))

    def _close(self) -> None:
        self._closed = True
        self._grew.set()

    def _forget(self, length: int) -> None:
        self._set_ready(min(self._ready, length))

    def _set_ready(self, length: int) -> None:
        """What was prefilled ahead is either ready for the final prompt or wasted."""
        self._ready = length
        self.speculation.wasted = self.speculation.speculated - length

    async def _send_segments(self, pacer: SegmentPacer) -> None:
        while True:
            await self._grew.wait()
            self._grew.clear()
            if self._closed:
                return
            busy = self._pair is not None and self._pair.prefill.load > 0
            if len(self.ids) - self._ready < pacer.min_tokens(len(self.ids), busy=busy):
                continue
            try:
                pair = self._sticky_pair()
                began, sent, before = time.monotonic(), self.ids.copy(), self._ready
                await self._send(pair, sent, before)
            except RouterError:
                self.speculation.failed += 1
                if self._ready == 0:
                    return
                self._forget(0)
                self._grew.set()
                continue
            ready = time.monotonic()
            self.segments.append((began, ready, len(sent) - before))
            self.speculation.segments += 1
            self.speculation.speculated += len(sent) - before
            # For a final request that is on its way already, it came too late.
            self._set_ready(self._ready if self._closed else common_prefix(sent, self.ids))
            if not self._closed:
                pacer.observe(len(sent) - before, ready - began)
                self._grew.set()  # more may have come meanwhile

    async def _send(self, pair: Pair, ids: list[int], at: int) -> None:
        self.speculation.mode = self._carrier.mode
        segment, quiet = Body(self._carrier.segment(ids, at)), self._tracer and self._tracer.propagate_only()
        async with self._dispatcher.exchange("/generate", segment, pair, quiet) as exchange:
            raw = b"".join([chunk async for chunk in exchange.body()])
            if exchange.decode.status != 200:
                raise UpstreamFailed(f"a segment failed with {exchange.decode.status}: {error_message(raw)}")
        self._carrier.arrived()
