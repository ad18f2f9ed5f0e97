"""The two legs of one request: prefill's and decode's, and how the one's end tells on the other."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from router.dispatch.worker_errors import abort_cause, error_message
from router.errors import RouterError, UpstreamFailed
from router.observability.tracing.leg_tracer import UNTRACED_EXCHANGE, ExchangeTrace
from router.workers.worker import Pair, Worker

REFUSAL_WAIT = 1.0  # seconds that decode gets to refuse what prefill refused, with its own words


class _PrefillRefused(UpstreamFailed):
    """The prefill server answered with an error."""


class _PrefillGaveUp(_PrefillRefused):
    """It told so after its answer had begun with 200."""


class Exchange:
    """The two legs of one request.

    Attributes:
        pair: Who answers.
        decode: Decode's answer.
        first: When its body began, on the monotonic clock.
        finished: Its body is over, and neither server waits for the other.
    """

    def __init__(self, pair: Pair, raw: bytes, path: str, spans: ExchangeTrace = UNTRACED_EXCHANGE) -> None:
        self.pair = pair
        self.spans = spans
        self.first: float | None = None
        self.finished = False
        self._waiter: asyncio.Future[None] | None = None
        self._said: list[bytes] = []  # by prefill
        self._prefill_over = False
        self._problem: RouterError | None = None  # what prefill failed with
        self._loaded: set[Worker] = set()
        prefill, decode = spans.headers
        # A room is entered once: a leg that comes a second time waits there for KV that was sent already.
        self._prefill = pair.prefill.origin.start_request(
            "POST", path, raw, prefill, self._hear_prefill, at_most_once=True
        )
        self.decode = pair.decode.origin.start_request("POST", path, raw, decode, self._wake, at_most_once=True)
        self._loaded |= {pair.prefill, pair.decode}
        for worker in self._loaded:
            worker.load += 1

    def unload(self, worker: Worker) -> None:
        """This exchange is no load of a worker any more; harmless to call twice."""
        if worker in self._loaded:
            self._loaded.remove(worker)
            worker.load -= 1

    async def start(self) -> None:
        """Return once decode's answer has begun.

        A prefill leg that fails first ends the exchange: decode would wait for KV that never comes.
        """
        decode = self.decode
        while not decode.status and decode.error is None:
            if self._problem is None:
                await self._change()
                continue
            if isinstance(self._problem, _PrefillRefused):
                await self._wait(REFUSAL_WAIT, lambda: bool(decode.status) or decode.error is not None)
            break
        if decode.error is not None:
            raise decode.error
        self.spans.decode_response_started(decode.status)
        if not isinstance(self._problem, _PrefillGaveUp) or not decode.status:  # decode may tell the same in its stream
            self._check_prefill()

    def _hear_prefill(self) -> None:
        """Take what prefill says; its last word tells whether all is well."""
        prefill = self._prefill
        while (chunk := prefill.read_available()) is not None:
            self._said.append(chunk)
        try:
            if not (prefill.error or (prefill.status and prefill.finish())):
                return
            self._problem = prefill.error or _refusal(prefill.status, b"".join(self._said))
        except RouterError as lost:
            self._problem = lost
        self._prefill_over = True
        self.spans.prefill_ended(prefill.status, self._problem)
        self.unload(self.pair.prefill)
        self._wake()

    def prefill_problem(self) -> RouterError | None:
        """What the prefill leg failed with, if it did."""
        return self._problem

    def _check_prefill(self) -> None:
        """Raise what prefill failed with, unless decode refused too: then decode's words are the answer."""
        if self._problem is not None and self.decode.status < 400:
            raise self._problem

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Decode's body as it arrives; a prefill leg that breaks meanwhile is raised as its error."""
        decode = self.decode
        given_up = decode.status >= 400
        while True:
            chunk = decode.read_available()
            if chunk is not None:
                self.first = self.first or time.monotonic()
                # When decode alone gives up, prefill waits for it: that is not a finished exchange.
                if not self._prefill_over or self._problem is not None:
                    given_up = given_up or abort_cause(chunk) is not None
                yield chunk
            elif decode.finish():
                break
            elif self._problem is None or given_up:
                await self._change()
            else:
                if isinstance(self._problem, _PrefillRefused):
                    await self._wait(REFUSAL_WAIT, lambda: not decode.awaiting_data)
                if decode.awaiting_data:
                    self._check_prefill()
        if not given_up:
            self._check_prefill()
        self.finished = not given_up

    async def prefill_answer(self) -> bytes:
        """The prefill server's whole answer; raises `RouterError` when there is none."""
        while not self._prefill_over:
            await self._change()
        if self._problem is not None:
            raise self._problem
        return b"".join(self._said)

    async def close(self) -> None:
        """Drop what is still open on both legs."""
        try:
            if self.finished:
                # Prefill's own answer ends with its transfer, hardly later than decode's first token.
                await self._wait(1.0, lambda: self._prefill_over)
        finally:
            self._prefill.close()
            self.decode.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _change(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    async def _wait(self, seconds: float, condition: Callable[[], bool]) -> None:
        """Until the condition holds, or the time has passed."""
        if condition():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    await self._change()


def _refusal(status: int, answer: bytes) -> RouterError | None:
    """What a prefill server's whole answer says against its request; None when all is well."""
    if status >= 400:
        refused = _PrefillRefused(f"the prefill server refused the request with {status}: {error_message(answer)}")
        refused.upstream_status = status
        return refused
    cause = abort_cause(answer)
    return None if cause is None else _PrefillGaveUp(f"the prefill server gave the request up: {cause}")
