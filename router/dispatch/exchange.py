"""The two legs of one request: both servers of a pair get it at once, and the client gets decode's response.

Prefill waits for decode's handshake before it transfers KV, so neither leg may wait for the other's response. Whatever
ends the exchange early - the client disconnects, a leg fails - ends it on both servers.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from router.dispatch.client_headers import NO_CLIENT_HEADERS
from router.dispatch.exchange_request import ExchangeRequest, PairBodies
from router.dispatch.worker_errors import abort_reason, error_message
from router.errors import BadRequest, RouterError, UpstreamFailed
from router.observability.tracing.leg_tracer import ExchangeTrace
from router.workers.worker import Pair, Worker

DECODE_REFUSAL_TIMEOUT = 1.0  # seconds to wait, after prefill's refusal, for decode's, whose message is better
CLIENT_ERRORS = frozenset((400, 413, 422))  # statuses by which a prefill server refuses a wrong request
PREFILL_END_TIMEOUT = 1.0  # seconds; prefill's response ends soon after decode's first token


class _PrefillRefused(UpstreamFailed):
    """The prefill server responded with an error status."""


class _RequestRefused(_PrefillRefused):
    """The prefill server refused the client's request as wrong."""

    status = 400
    kind = BadRequest.kind


class _PrefillAborted(_PrefillRefused):
    """The prefill server aborted the request after its response had started with 200."""


class Exchange:
    """The two legs of one request. Creating it sends both.

    Args:
        pair: The two workers.
        request: What is sent.
        bodies: The bodies of the two legs.
        trace: Traces the two legs.
        places: The places that it takes on the decode server.

    Attributes:
        pair: The two workers.
        trace: Traces the two legs.
        decode: Decode's response.
        prefill_error: What the prefill leg failed with, or None.
        started_at: When both legs were sent, in seconds of the monotonic clock.
        prefill_ended_at: When prefill's response was complete; None before, and if it failed.
        first_chunk_at: When the first chunk of decode's body arrived, in seconds of the monotonic clock; None before.
        finished: Whether decode's body is complete and neither server is waiting for the other.
    """

    def __init__(
        self,
        pair: Pair,
        request: ExchangeRequest,
        bodies: PairBodies,
        trace: ExchangeTrace,
        *,
        places: int,
    ) -> None:
        self.pair = pair
        self.trace = trace
        self.prefill_error: RouterError | None = None
        self.started_at = time.monotonic()
        self.prefill_ended_at: float | None = None
        self.first_chunk_at: float | None = None
        self.finished = False
        self._waiter: asyncio.Future[None] | None = None
        self._prefill_chunks: list[bytes] = []
        self._prefill_ended = False
        self._on_prefilled = request.on_prefilled
        self._places = places
        self._counted_workers: set[Worker] = set()
        prefill_headers, decode_headers = trace.headers
        if request.headers is not NO_CLIENT_HEADERS:
            prefill_headers += request.headers.for_worker(pair.prefill)
            decode_headers += request.headers.for_worker(pair.decode)
        # A bootstrap room is used once: a leg sent a second time would wait there for KV that was already transferred.
        self._prefill = pair.prefill.origin.start_request(
            "POST", request.path, bodies.prefill, prefill_headers, self._on_prefill_data, at_most_once=True
        )
        self.decode = pair.decode.origin.start_request(
            "POST", request.path, bodies.decode, decode_headers, self._on_decode_data, at_most_once=True
        )
        self._counted_workers |= {pair.prefill, pair.decode}
        for worker in self._counted_workers:
            worker.begin_request(pair.decode.model, places if worker is pair.decode else 0)

    def release_load(self, worker: Worker) -> None:
        """Stop counting this exchange in a worker's load. Calling it again has no effect."""
        if worker in self._counted_workers:
            self._counted_workers.remove(worker)
            worker.load.end(self._places if worker is self.pair.decode else 0)
            worker.load.tell_release()

    @property
    def decode_started(self) -> bool:
        """Whether decode's response has started, or prefill has ended, so that only decode can be waited for."""
        return bool(self.decode.status) or self._prefill_ended

    async def start(self) -> None:
        """Return once decode's response has started.

        If prefill fails first, raise its error: decode would wait for KV that never comes.
        """
        decode = self.decode
        while not decode.status and decode.error is None:
            if self.prefill_error is None:
                await self._wait_for_change()
                continue
            if isinstance(self.prefill_error, _PrefillRefused):
                await self._wait_until(lambda: bool(decode.status) or decode.error is not None, DECODE_REFUSAL_TIMEOUT)
            break
        if decode.error is not None:
            raise decode.error
        self.trace.decode_response_started(decode.status)
        # After an abort by prefill, decode may report the same in its stream.
        if not isinstance(self.prefill_error, _PrefillAborted) or not decode.status:
            self._raise_prefill_error()

    def _on_prefill_data(self) -> None:
        """Read what has arrived from prefill; at the end of its response, find out whether it succeeded."""
        prefill = self._prefill
        self.pair.prefill.load.hear()
        while (chunk := prefill.read_available()) is not None:
            self._prefill_chunks.append(chunk)
        try:
            if not (prefill.error or (prefill.status and prefill.finish())):
                return
            self.prefill_error = prefill.error or _error_in_response(prefill.status, b"".join(self._prefill_chunks))
        except RouterError as connection_error:
            self.prefill_error = connection_error
        self._prefill_ended = True
        if self.prefill_error is None:
            self.prefill_ended_at = time.monotonic()
        self.trace.prefill_ended(prefill.status, self.prefill_error)
        self.release_load(self.pair.prefill)
        self._notify()
        if self.prefill_error is None and self._on_prefilled is not None:
            self._on_prefilled()

    def _on_decode_data(self) -> None:
        self.pair.decode.load.hear()
        self._notify()

    def _raise_prefill_error(self) -> None:
        """Raise prefill's error, unless decode responded with an error too: then the client gets decode's."""
        if self.prefill_error is not None and self.decode.status < 400:
            raise self.prefill_error

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Decode's body as it arrives; raises prefill's error if prefill fails meanwhile."""
        decode = self.decode
        aborted = decode.status >= 400
        while True:
            chunk = decode.read_available()
            if chunk is not None:
                self.first_chunk_at = self.first_chunk_at or time.monotonic()
                # If decode alone aborts, prefill still waits for it, so the exchange is not finished.
                if not self._prefill_ended or self.prefill_error is not None:
                    aborted = aborted or abort_reason(chunk) is not None
                yield chunk
            elif decode.finish():
                break
            elif self.prefill_error is None or aborted:
                await self._wait_for_change()
            else:
                if isinstance(self.prefill_error, _PrefillRefused):
                    await self._wait_until(lambda: not decode.awaiting_data, DECODE_REFUSAL_TIMEOUT)
                if decode.awaiting_data:
                    self._raise_prefill_error()
        if not aborted:
            self._raise_prefill_error()
        self.finished = not aborted

    @property
    def prefill_so_far(self) -> bytes:
        """The part of prefill's response that has arrived."""
        return b"".join(self._prefill_chunks)

    async def prefill_body(self) -> bytes:
        """The prefill server's complete response body; raises `RouterError` if its leg fails."""
        while not self._prefill_ended:
            await self._wait_for_change()
        if self.prefill_error is not None:
            raise self.prefill_error
        return b"".join(self._prefill_chunks)

    async def close(self) -> None:
        """Close both legs. A finished exchange first waits shortly for prefill, so that its connection is reused."""
        try:
            if self.finished:
                await self._wait_until(lambda: self._prefill_ended, PREFILL_END_TIMEOUT)
        finally:
            self._prefill.close()
            self.decode.close()

    def _notify(self) -> None:
        """Wake the waiting task: one of the legs has changed."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait_for_change(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    async def _wait_until(self, condition: Callable[[], bool], timeout_secs: float) -> None:
        """Return when the condition holds or the time has passed."""
        if condition():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_secs):
                while not condition():
                    await self._wait_for_change()


def _error_in_response(status: int, body: bytes) -> RouterError | None:
    """The error that a prefill server's complete response reports; None if it succeeded."""
    if status >= 400:
        error_type = _RequestRefused if status in CLIENT_ERRORS else _PrefillRefused
        refusal = error_type(f"the prefill server refused the request with {status}: {error_message(body)}")
        refusal.upstream_status = status
        return refusal
    reason = abort_reason(body)
    return None if reason is None else _PrefillAborted(f"the prefill server gave the request up: {reason}")
