"""Background tasks for workers: probing, warm-up generations, and draining before removal."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from router.dispatch.dispatcher import Dispatcher
from router.dispatch.exchange_request import ExchangeRequest
from router.dispatch.worker_errors import error_message
from router.errors import RouterError, UpstreamFailed, UpstreamTimeout
from router.http.body import Body
from router.worker_supervision.plain_trial import GPU_WARM_UP_BODY, WARM_UP_BODY, generate_on_plain
from router.workers.worker import Pair, Worker

logger = logging.getLogger(__name__)

RETRY_INTERVAL = 0.5  # seconds between probes of workers that failed, or restart
REFUSED_INTERVAL = 0.1  # the same for those that refuse connections, where a probe costs next to nothing
WARM_UP_TIMEOUT = 300.0  # seconds; the first generation of a pair may compile kernels
DRAIN_POLL_INTERVAL = 0.05  # seconds
NO_WORKERS = "there are no workers yet; POST /workers adds some, and so do --worker-urls, --prefill and --decode."


class Monitor(Protocol):
    """Asks or watches the workers all the time, such as `LoadMonitor`."""

    async def run(self) -> None:
        """Run until it is cancelled."""


class WorkerSupervisor:
    """Probes workers, warms up pairs, and removes workers once their requests have ended.

    Args:
        dispatcher: Sends the warm-up requests; its registry has the workers.
        probe_interval_secs: Seconds between two probes of all workers.
        monitors: What else asks or watches the workers all the time.
        warm_up: Whether pairs must generate something before they get requests.

    Attributes:
        discovery_problem: Returns a sentence on why service discovery finds no workers, or None.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        probe_interval_secs: float,
        monitors: Sequence[Monitor],
        *,
        warm_up: bool,
    ) -> None:
        self._registry = dispatcher.registry
        self._dispatcher = dispatcher
        self._probe_interval_secs = probe_interval_secs
        self._warm_up_enabled = warm_up
        self._monitors = monitors
        self._tasks: set[asyncio.Task[None]] = set()
        self._warming_up: dict[Pair, tuple[asyncio.Task[None], tuple[int, int]]] = {}  # the task, `Pair.restarts`
        self._warm_up_problems: dict[Pair, str] = {}
        self._on_trial: set[Worker] = set()  # plain servers
        self._draining: dict[Worker, asyncio.Task[None]] = {}
        self._was_ready = False
        self.discovery_problem: Callable[[], str | None] = lambda: None

    def unready_reason(self) -> str | None:
        """A sentence on why the router is not ready for traffic; None if it is.

        The router becomes ready once every pair is warmed up. From then on one usable model is enough: a pair that
        joins later is warmed up without making the router unready.
        """
        if not self._registry.models() and not self._registry.serves_any():
            no_model = (
                NO_WORKERS
                if not self._registry.workers
                else (
                    "no model has a healthy plain server, or a healthy prefill and decode server that have generated "
                    "something yet."
                )
            )
            return self.discovery_problem() or no_model
        if not self._was_ready and self._warm_up_enabled:
            cold = self._registry.cold_pairs()
            if cold:
                return f"{cold[0].prefill.url} and {cold[0].decode.url} have not generated anything together yet."
        self._was_ready = True
        return None

    async def start(self) -> None:
        """Probe all workers once, then start probing in the background."""
        if not self._registry.workers:
            logger.warning("%s", NO_WORKERS)
        await self._probe_all()
        self._start_task(self._probe_periodically())
        self._start_task(self._probe_failed_workers())
        for monitor in self._monitors:
            self._start_task(monitor.run())

    async def close(self) -> None:
        """Cancel all background tasks."""
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def probe_soon(self, worker: Worker) -> None:
        """Probe a new worker in the background, without waiting for the next interval."""
        self._start_task(self._probe(worker))

    def remove(self, worker: Worker) -> None:
        """Send a worker no new requests, and drop it from the registry once its requests have ended."""
        if not worker.health.draining:
            worker.health.drain()
            self._draining[worker] = self._start_task(self._drain(worker))

    def restore(self, worker: Worker) -> bool:
        """Cancel the removal of a worker; False if it is not being removed or is gone already."""
        draining = self._draining.pop(worker, None)
        if draining is None:
            return False
        draining.cancel()
        worker.health.drain(draining=False)
        return True

    async def generate(self, pair: Pair) -> None:
        """Let a pair generate two tokens, on each of its ranks; raises `RouterError` if it fails."""
        prefill, decode = pair.prefill.destinations, pair.decode.destinations
        for number in range(max(len(prefill), len(decode))):
            await self._generate(Pair(prefill[number % len(prefill)], decode[number % len(decode)]))

    async def _generate(self, pair: Pair) -> None:
        body_sent = GPU_WARM_UP_BODY if pair.prefill.report.gpus else WARM_UP_BODY
        request = ExchangeRequest("/generate", Body(body_sent), timed=False)
        try:
            async with asyncio.timeout(WARM_UP_TIMEOUT), self._dispatcher.exchange(pair, request) as exchange:
                body = b"".join([chunk async for chunk in exchange.body()])
        except TimeoutError:
            raise UpstreamTimeout(f"{pair.decode.url} did not answer within {WARM_UP_TIMEOUT:g} s.") from None
        if exchange.decode.status != 200:
            raise UpstreamFailed(f"{pair.decode.url} answered with {exchange.decode.status}: {error_message(body)}")

    async def generate_on_plain(self, worker: Worker) -> None:
        """Let a plain server generate a token or two; raises `RouterError` if it fails."""
        await generate_on_plain(worker, WARM_UP_TIMEOUT)

    async def _probe(self, worker: Worker) -> None:
        await self._registry.probe(worker)
        self._start_warm_ups()

    async def _probe_failed_workers(self) -> None:
        """Probe workers that failed or restart more often than others, so that they soon serve again."""
        due = time.monotonic() + RETRY_INTERVAL
        while True:
            await asyncio.sleep(min(REFUSED_INTERVAL, RETRY_INTERVAL))
            all_due = time.monotonic() >= due
            if all_due:
                due = time.monotonic() + RETRY_INTERVAL
            for worker in self._registry.workers:
                if worker.needs_attention and (all_due or worker.health.away):
                    self._start_task(self._probe(worker))

    async def _probe_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._probe_interval_secs)
            try:
                await self._probe_all()
            except Exception:  # an unexpected error must not end the probing
                logger.exception("unexpected error while probing the workers")

    async def _probe_all(self) -> None:
        await self._registry.probe()
        self._start_warm_ups()

    def _start_warm_ups(self) -> None:
        """Start a generation on each pair that is not warmed up, and on workers whose circuit breakers have opened."""
        if not self._warm_up_enabled:
            return
        for worker in self._registry.workers:
            failed = worker.breaker.state != "closed" and not worker.health.wants_key
            if worker.role == "plain" and worker.health.usable and failed:
                self._start_trial(worker)
        cold = set(self._registry.cold_pairs())
        for pair in self._registry.pairs():
            if pair.prefill.health.wants_key or pair.decode.health.wants_key:
                continue  # the router cannot generate there
            breakers = pair.prefill.breaker, pair.decode.breaker
            on_trial = [breaker for breaker in breakers if breaker.state != "closed"]
            due = all(breaker.begin_trial() for breaker in on_trial) and (on_trial or pair in cold)
            warming_up = self._warming_up.get(pair)
            if warming_up is not None and warming_up[1] != pair.restarts:
                warming_up[0].cancel()  # it waits for a process that has ended
                del self._warming_up[pair]
                warming_up = None
            if due and warming_up is None:
                self._warming_up[pair] = self._start_task(self._warm_up(pair)), pair.restarts

    def _start_trial(self, worker: Worker) -> None:
        """Try a plain server that failed too often, unless it is being tried or was a moment ago."""
        if worker not in self._on_trial and worker.breaker.begin_trial():
            self._on_trial.add(worker)
            self._start_task(self._try_plain(worker))

    async def _try_plain(self, worker: Worker) -> None:
        try:
            while worker.breaker.begin_trial():
                await self.generate_on_plain(worker)
        except RouterError as error:
            logger.debug("%s still fails: %s", worker.url, error)
        finally:
            self._on_trial.discard(worker)

    async def _warm_up(self, pair: Pair) -> None:
        started_at, restarts = time.monotonic(), pair.restarts
        names = f"{pair.prefill.url} and {pair.decode.url}"
        try:
            await self.generate(pair)
            if pair.prefill.report.gpus:
                await self.generate(pair)  # what is cached has kernels of its own
            while any(breaker.begin_trial() for breaker in (pair.prefill.breaker, pair.decode.breaker)):
                await self.generate(pair)
        except RouterError as error:
            problem = f"the first generation of {names} failed: {error}"
            if self._warm_up_problems.get(pair) != problem:
                logger.warning("%s", problem)
            self._warm_up_problems[pair] = problem
            for worker in (pair.prefill, pair.decode):
                worker.health.warm_up_failed(problem)
        else:
            self._warm_up_problems.pop(pair, None)
            logger.info("%s generated their first tokens in %.2f s", names, time.monotonic() - started_at)
            self._registry.mark_warmed_up(pair, restarts)
        finally:
            if pair in self._warming_up and self._warming_up[pair][0] is asyncio.current_task():
                del self._warming_up[pair]

    async def _drain(self, worker: Worker) -> None:
        while worker.load.requests:  # noqa: ASYNC110 - an event would cost every request; the load is a plain number
            await asyncio.sleep(DRAIN_POLL_INTERVAL)
        del self._draining[worker]
        self._registry.drop(worker)
        for pair in [pair for pair in self._warm_up_problems if worker in (pair.prefill, pair.decode)]:
            del self._warm_up_problems[pair]
        logger.info("%s is removed", worker.url)

    def _start_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("unexpected error in a background task", exc_info=task.exception())
