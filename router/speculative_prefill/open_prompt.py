"""An open prompt: a prompt whose end is not known yet, prefilled on its pair in segments as it grows."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from router.dispatch.dispatcher import Dispatcher
from router.dispatch.exchange import Exchange
from router.dispatch.exchange_request import ExchangeRequest
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
    """An async context manager; leaving it ends what is in flight on both servers.

    Segments are sent one at a time; both radix caches then hold the prompt so far. A segment that fails is retried
    once from the prompt's first token, which a server that lost the prompt needs. A second failure ends the
    speculation only: the final request then prefills what is missing.

    Args:
        dispatcher: Sends the requests.
        choose_pair: Chooses the pair for all requests of this prompt; called at the first, and when that pair
            takes no more requests.
        pacer: Decides which segments are worth sending; None sends none.
        context_length: Of the model, in tokens; None when it is not known.
        new_transport: Makes the transport to a pair.
        tracer: The trace span of the agent, if there is one; only the final request gets spans of its own.
        metrics: Counts what was prefilled ahead when the prompt closes; None counts nothing.

    Attributes:
        ids: Token ids of the prompt so far.
        segments: For each segment: when it was sent and when it was done (monotonic clock), and its new tokens.
        speculation: What was prefilled ahead, and how much of it was used.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        choose_pair: Callable[[], Pair],
        pacer: SegmentPacer | None,
        context_length: int | None = None,
        new_transport: Callable[[Pair], SegmentTransport] = transport_for,
        tracer: LegTracer | None = None,
        metrics: OpenPromptMetrics | None = None,
    ) -> None:
        self.ids: list[int] = []
        self.segments: list[tuple[float, float, int]] = []
        self.speculation = SpeculationStats()
        self._dispatcher = dispatcher
        self._choose_pair = choose_pair
        self._pair: Pair | None = None
        self._new_transport = new_transport
        self._transport: SegmentTransport
        self._pacer = pacer
        self._context_length = context_length
        self._tracer = tracer
        self._metrics = metrics
        self._prefilled = 0  # tokens from the front that both servers hold
        self._segment_task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._closed = False
        self._ttft: float | None = None

    async def __aenter__(self) -> Self:
        if self._pacer is not None:
            self._segment_task = asyncio.create_task(self._send_segments(self._pacer))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()
        if self._segment_task is not None:
            self._segment_task.cancel()
            await asyncio.gather(self._segment_task, return_exceptions=True)
        if self.speculation.tail is None:
            self.speculation.wasted = self.speculation.speculated
            self._release_pair()
        if self._pair is not None and self._metrics is not None:
            self._metrics.record(str(self._pair.decode.model), self.speculation, self._ttft)
        del self._choose_pair  # it may refer to this prompt: a reference cycle that holds the prompt's text

    @property
    def pair(self) -> Pair | None:
        """The pair that its last request went to; None before the first."""
        return self._pair

    def append(self, ids: Sequence[int]) -> None:
        """Add tokens at the end.

        Raises:
            BadRequest: The prompt would leave no room for an answer; it stays as it was.
        """
        assert not self._closed, "append after the final request"
        length = len(self.ids) + len(ids)
        if self._context_length is not None and length >= self._context_length:
            raise BadRequest(
                f"the prompt would have {length} tokens, but the model takes {self._context_length} with its "
                "answer; shorten the prompt or the answers it reads."
            )
        self.ids.extend(ids)
        self._changed.set()

    def truncate(self, length: int) -> None:
        """Remove every token from `length` on."""
        del self.ids[length:]
        self._set_prefilled(min(self._prefilled, length))

    @asynccontextmanager
    async def finish(self, body: dict[str, Any], seconds: float | None = None) -> AsyncIterator[Exchange]:
        """Send the final request: `body` for `/generate`, to which the prompt is added.

        Args:
            body: The request's other fields.
            seconds: For which the servers may say nothing before the answer begins; None for no limit.

        Raises:
            TimeoutError: They said nothing for so long.
            BadRequest: The prompt is empty.
            RouterError: A server failed before the answer began.
        """
        if not self.ids:
            raise BadRequest("the prompt is empty.")
        self._close()
        started = time.monotonic()
        pair = self._sticky_pair()
        if self._dispatcher.selector.places.enabled:
            await self._dispatcher.selector.places.wait_for(pair)
            pair = self._sticky_pair()  # it may be lost meanwhile
        self.speculation.tail = len(self.ids) - self._prefilled
        final = ExchangeRequest(
            "/generate",
            Body(self._transport.final(body, self.ids, self._prefilled)),
            tracer=self._tracer,
            start_timeout=seconds,
        )
        async with self._dispatcher.exchange(pair, final) as exchange:
            if self._segment_task is not None:
                self._segment_task.cancel()  # the final request prefills what a pending segment would
            yield exchange
            if exchange.first_chunk_at is not None:
                self._ttft = exchange.first_chunk_at - started

    def _sticky_pair(self) -> Pair:
        """The pair of this prompt; another one when it takes no more requests, or is far busier than others."""
        if self._pair is not None and not self._dispatcher.selector.can_keep_pair(self._pair):
            self._release_pair()
            self._pair = None
            self._set_prefilled(0)
            self.speculation.moves += 1
        if self._pair is None:
            self._pair = self._choose_pair()
            self._transport = self._new_transport(self._pair)
        return self._pair

    def _decoding_beside(self) -> int:
        """Requests that decode on the GPU of its prefill server now."""
        pair = self._pair or self._sticky_pair()  # whether it may stay there is asked when something is sent
        beside = self._dispatcher.registry.decoding_beside(pair.prefill)
        self.speculation.beside = max(self.speculation.beside, beside)
        return beside

    def _release_pair(self) -> None:
        """Tell the pair, without waiting, that no final request will come."""
        body = self._transport.close() if self._pair is not None else None
        if self._pair is not None and body is not None:
            self._dispatcher.post_to_both(self._pair, "/generate", pair_body(body, self._pair, "/generate"))

    def _close(self) -> None:
        self._closed = True
        self._changed.set()

    def _set_prefilled(self, length: int) -> None:
        """All other tokens that were prefilled ahead are wasted."""
        self._prefilled = length
        self.speculation.wasted = self.speculation.speculated - length

    async def _send_segments(self, pacer: SegmentPacer) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._closed:
                return
            if len(self.ids) - self._prefilled < pacer.min_tokens():
                continue
            try:
                if len(self.ids) - self._prefilled < pacer.min_tokens(self._decoding_beside()):
                    continue
                pair = self._sticky_pair()
                started, sent, before = time.monotonic(), self.ids.copy(), self._prefilled
                await self._send_segment(pair, sent, before)
            except RouterError:
                self.speculation.failed += 1
                if self._prefilled == 0:
                    return
                self._set_prefilled(0)
                self._changed.set()
                continue
            done, new_tokens = time.monotonic(), len(sent) - before
            self.segments.append((started, done, new_tokens))
            self.speculation.segments += 1
            self.speculation.speculated += new_tokens
            # After the final request was sent, this segment came too late for it.
            self._set_prefilled(self._prefilled if self._closed else common_prefix(sent, self.ids))
            if not self._closed:
                if before:  # what a prompt begins with may be in the caches
                    pacer.observe(new_tokens, done - started)
                self._changed.set()  # the prompt may have grown meanwhile

    async def _send_segment(self, pair: Pair, ids: list[int], prefilled: int) -> None:
        self.speculation.mode = self._transport.mode
        body = Body(self._transport.segment(ids, prefilled))
        segment = ExchangeRequest("/generate", body, tracer=self._tracer and self._tracer.propagate_only())
        async with self._dispatcher.exchange(pair, segment) as exchange:
            raw = b"".join([chunk async for chunk in exchange.body()])
            if exchange.decode.status != 200:
                raise UpstreamFailed(f"a segment failed with {exchange.decode.status}: {error_message(raw)}")
        self._transport.segment_done()
