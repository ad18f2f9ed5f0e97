"""The background work for the workers: looks at them, first generations, and removals."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from router.dispatch.dispatcher import Dispatcher
from router.dispatch.worker_errors import error_message
from router.errors import RouterError, UpstreamFailed, UpstreamTimeout
from router.http.body import Body
from router.workers.registry import Registry
from router.workers.worker import Pair, Worker

logger = logging.getLogger(__name__)

WARM_UP_TIMEOUT = 300.0  # seconds; the first generation of a pair may compile kernels
DRAIN_TICK = 0.05  # seconds

# Token ids, since a server may run without a tokenizer; every vocabulary has these.
WARM_UP_BODY = {
    "input_ids": [1, 2, 3, 4],
    "sampling_params": {"max_new_tokens": 2, "temperature": 0, "ignore_eos": True},
}


class WorkerSupervisor:
    """Owns every task that a worker needs while no request asks for it.

    Attributes:
        missing: Gives a sentence on why workers are not found that should be, or None.
    """

    def __init__(
        self, registry: Registry, dispatcher: Dispatcher, probe_interval_secs: float, *, warm_up: bool
    ) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._look_secs = probe_interval_secs
        self._warm_up = warm_up
        self._tasks: set[asyncio.Task[None]] = set()
        self._warming: set[Pair] = set()
        self._draining: dict[Worker, asyncio.Task[None]] = {}
        self._was_ready = False
        self.missing: Callable[[], str | None] = lambda: None

    def unready(self) -> str | None:
        """A sentence on why no traffic should come yet; None when it may.

        At first every pair that is there must have generated something. Once ready, one model with a
        pair is enough: a pair that comes later waits for its own generation, the others need not.
        """
        if not self._registry.models():
            nothing = "no model has both a healthy prefill and a healthy decode server that generated something yet."
            return self.missing() or nothing
        if not self._was_ready and self._warm_up:
            left = [pair for pair in self._registry.pairs() if pair not in self._registry.warmed_up_pairs]
            if left:
                return f"{left[0].prefill.url} and {left[0].decode.url} have not generated anything together yet."
        self._was_ready = True
        return None

    async def start(self) -> None:
        """Look at all workers once, and go on in the background."""
        await self._look()
        self._spawn(self._look_forever())

    async def close(self) -> None:
        """End all background work."""
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def added(self, worker: Worker) -> None:
        """Look at a new worker without waiting for the next turn."""
        self._spawn(self._take_in(worker))

    def remove(self, worker: Worker) -> None:
        """Give a worker no new requests, and forget it when those it has are over."""
        if not worker.draining:
            worker.draining = True
            self._draining[worker] = self._spawn(self._drain(worker))

    def restore(self, worker: Worker) -> bool:
        """Give a worker that is being removed requests again; False when it is not, or is gone already."""
        draining = self._draining.pop(worker, None)
        if draining is None:
            return False
        draining.cancel()
        worker.draining = False
        return True

    async def generate(self, pair: Pair) -> None:
        """Let a pair generate something tiny; raises `RouterError` when it does not."""
        try:
            async with (
                asyncio.timeout(WARM_UP_TIMEOUT),
                self._dispatcher.exchange("/generate", Body(WARM_UP_BODY), pair) as exchange,
            ):
                answer = b"".join([chunk async for chunk in exchange.body()])
        except TimeoutError:
            raise UpstreamTimeout(f"{pair.decode.url} did not answer within {WARM_UP_TIMEOUT:g} s.") from None
        if exchange.decode.status != 200:
            raise UpstreamFailed(f"{pair.decode.url} answered with {exchange.decode.status}: {error_message(answer)}")

    async def _take_in(self, worker: Worker) -> None:
        await worker.probe()
        self._warm()

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(self._look_secs)
            try:
                await self._look()
            except Exception:  # a look that fails oddly once must not be the last one
                logger.exception("unexpected error while looking at the workers")

    async def _look(self) -> None:
        await self._registry.probe()
        self._warm()

    def _warm(self) -> None:
        """Start a generation of every pair that needs its first one, or whose breaker waits for a trial."""
        if not self._warm_up:
            return
        for pair in self._registry.pairs():
            tried = "half_open" in (pair.prefill.breaker.state, pair.decode.breaker.state)
            if (tried or pair not in self._registry.warmed_up_pairs) and pair not in self._warming:
                self._warming.add(pair)
                self._spawn(self._prove(pair))

    async def _prove(self, pair: Pair) -> None:
        began = time.monotonic()
        names = f"{pair.prefill.url} and {pair.decode.url}"
        try:
            await self.generate(pair)
        except RouterError as error:
            problem = f"the first generation of {names} failed: {error}"
            logger.warning("%s", problem)
            for worker in (pair.prefill, pair.decode):
                if not worker.warmed_up:
                    worker.problem = problem
        else:
            logger.info("%s generated their first tokens in %.2f s", names, time.monotonic() - began)
            if pair in self._registry.pairs():
                self._registry.mark_warmed_up(pair)
        finally:
            self._warming.discard(pair)

    async def _drain(self, worker: Worker) -> None:
        while worker.load:  # noqa: ASYNC110 - a load is a plain number, for the sake of each request
            await asyncio.sleep(DRAIN_TICK)
        del self._draining[worker]
        self._registry.drop(worker)
        logger.info("%s is removed", worker.url)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
