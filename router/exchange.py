"""The two legs of one request: prefill's and decode's, and how the one's end tells on the other."""

import asyncio
import time
from collections.abc import AsyncIterator

import orjson

from router.errors import UpstreamFailed
from router.http.client import Response
from router.tracing.legs import NO_LEGS, Legs
from router.workers import Pair, Worker

REFUSAL_WAIT = 1.0  # seconds that decode gets to refuse what prefill refused, with its own words


class _PrefillRefused(UpstreamFailed):
    """The prefill server answered with an error."""


class _PrefillGaveUp(_PrefillRefused):
    """It told so after its answer had begun with 200."""


class Exchange:
    """The two legs of one request."""

    def __init__(self, pair: Pair, raw: bytes, path: str, spans: Legs = NO_LEGS) -> None:
        self.pair = pair
        self.spans = spans
        self._legs = [
            asyncio.create_task(worker.origin.request("POST", path, raw, headers))
            for worker, headers in zip((pair.prefill, pair.decode), spans.headers, strict=True)
        ]
        self._prefill = asyncio.create_task(self._read_prefill())
        spans.follow(self._legs, self._prefill)
        self._loaded = {pair.prefill, pair.decode}
        for worker in self._loaded:
            worker.load += 1
        self._prefill.add_done_callback(lambda _: self.unload(pair.prefill))
        self.decode: Response
        self.first: float | None = None  # when the body began, on the monotonic clock
        self.finished = False

    def unload(self, worker: Worker) -> None:
        """This exchange is no load of a worker any more; harmless to call twice."""
        if worker in self._loaded:
            self._loaded.remove(worker)
            worker.load -= 1

    async def start(self) -> None:
        """Return once decode's answer has begun.

        A prefill leg that fails first ends the exchange: decode would wait for KV that never comes.
        """
        decode = self._legs[1]
        await asyncio.wait({self._prefill, decode}, return_when=asyncio.FIRST_COMPLETED)
        if not decode.done() and isinstance(self._prefill.exception(), _PrefillRefused):
            await asyncio.wait({decode}, timeout=REFUSAL_WAIT)
        if not decode.done():
            self._prefill.result()
        self.decode = await decode
        if not isinstance(self._problem(), _PrefillGaveUp):  # decode may tell the same in its stream
            self._check_prefill()

    async def _read_prefill(self) -> bytes:
        response = await self._legs[0]
        answer = await response.read()
        if response.status >= 400:
            refused = _PrefillRefused(
                f"the prefill server refused the request with {response.status}: {error_message(answer)}"
            )
            refused.upstream_status = response.status
            raise refused
        cause = abort_cause(answer)
        if cause is not None:
            raise _PrefillGaveUp(f"the prefill server gave the request up: {cause}")
        return answer

    def _problem(self) -> BaseException | None:
        """What prefill failed with; None while it runs, and when it has answered."""
        return self._prefill.exception() if self._prefill.done() and not self._prefill.cancelled() else None

    def prefill_problem(self) -> BaseException | None:
        """What the prefill leg failed with, if it did."""
        return self._problem()

    def _check_prefill(self) -> None:
        """Raise what prefill failed with, unless decode refused too: then decode's words are the answer."""
        if self._prefill.done() and self.decode.status < 400:
            self._prefill.result()

    async def body(self) -> AsyncIterator[bytes]:
        """Decode's body as it arrives; a prefill leg that breaks meanwhile is raised as its error."""
        chunks = self._timed(self.decode.chunks())
        given_up = self.decode.status >= 400
        while not given_up and (not self._prefill.done() or self._problem() is not None):
            step = asyncio.ensure_future(anext(chunks, None))
            try:
                await asyncio.wait({step, self._prefill}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done() and isinstance(self._problem(), _PrefillRefused):
                    await asyncio.wait({step}, timeout=REFUSAL_WAIT)
                if not step.done():
                    self._check_prefill()
                chunk = await step
            finally:
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)
            if chunk is None:
                self._check_prefill()
                break
            given_up = abort_cause(chunk) is not None
            yield chunk
        async for chunk in chunks:
            yield chunk
        # When decode alone gives up, prefill waits for it: that is not a finished exchange.
        self.finished = not given_up

    async def _timed(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self.first = self.first or time.monotonic()
            yield chunk

    async def prefill_answer(self) -> bytes:
        """The prefill server's whole answer; raises `RouterError` when there is none."""
        return await self._prefill

    async def close(self) -> None:
        """Drop what is still open on both legs."""
        try:
            if self.finished:
                # Prefill's own answer ends with its transfer, hardly later than decode's first token.
                await asyncio.wait({self._prefill}, timeout=1.0)
        finally:
            for leg in self._legs:
                if leg.done() and not leg.cancelled() and leg.exception() is None:
                    leg.result().close()
            tasks = (*self._legs, self._prefill)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def abort_cause(answer: bytes) -> str | None:
    """Why a worker gave a request up after its answer had begun with 200; None when it did not.

    SGLang tells a stream's refusal, and an abort, only in the finish reason.
    """
    if b'"abort"' not in answer:
        return None
    for line in answer.splitlines():
        try:
            told = orjson.loads(line.removeprefix(b"data: "))
            for each in told if isinstance(told, list) else [told]:
                reason = each["meta_info"]["finish_reason"]
                if reason["type"] == "abort":
                    return str(reason.get("message") or "no cause was given")
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
    return None


def error_message(raw: bytes) -> str:
    """A worker's own words about an error."""
    try:
        told = orjson.loads(raw)
        error = told.get("error", told)
        return error if isinstance(error, str) else str(error.get("message", error))
    except (orjson.JSONDecodeError, AttributeError):
        return raw[:200].decode(errors="replace")
