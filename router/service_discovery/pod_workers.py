"""Workers that come and go with their pods."""

import asyncio
import logging

from router.dispatch.supervisor import WorkerSupervisor
from router.errors import Conflict, RouterError
from router.service_discovery.metrics import DiscoveryMetrics
from router.service_discovery.pods import PodChange, PodWorker
from router.workers.factory import WorkerFactory
from router.workers.registry import Registry
from router.workers.worker import Worker

logger = logging.getLogger(__name__)

TICK = 0.1  # seconds


class PodWorkers:
    """Takes workers in and lets them go; those that were given by flags or over HTTP it leaves alone.

    An address can have one worker. A pod whose address is another's that is on its way out waits for it.
    """

    def __init__(
        self, registry: Registry, supervisor: WorkerSupervisor, factory: WorkerFactory, metrics: DiscoveryMetrics
    ) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._factory = factory
        self._metrics = metrics
        self._workers: dict[str, tuple[PodWorker, Worker]] = {}  # by the pod; some are on their way out
        self._waiting: dict[str, asyncio.Task[None]] = {}  # by the pod
        metrics.count(lambda: sum(not worker.draining for _, worker in self._workers.values()))

    def apply(self, change: PodChange) -> None:
        """Follow one change."""
        if change.before is not None:
            self._let_go(change)
        if change.after is not None and not self._take_in(change, change.after):
            self._waiting[change.uid] = asyncio.create_task(self._wait(change, change.after))
        here = {*self._registry.workers}
        self._workers = {uid: known for uid, known in self._workers.items() if known[1] in here}

    async def close(self) -> None:
        """Wait for no address any more."""
        tasks = [*self._waiting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _let_go(self, change: PodChange) -> None:
        task = self._waiting.pop(change.uid, None)
        if task is not None:
            task.cancel()
        _, worker = self._workers.get(change.uid, (None, None))
        # An operator may have removed it before.
        if worker is not None and worker in self._registry.workers and not worker.draining:
            self._supervisor.remove(worker)
            self._metrics.deregistered(change.reason)
            logger.info("%s gets no new requests: %s, %s", worker.url, change.reason, change.name)

    def _take_in(self, change: PodChange, seat: PodWorker) -> bool:
        """Whether that is settled; not while the address is another's that is on its way out."""
        before, worker = self._workers.get(change.uid, (None, None))
        if worker is not None and before == seat and self._supervisor.restore(worker):
            logger.info("%s gets requests again: the pod %s is ready", worker.url, change.name)
            self._metrics.registered("success")
            return True
        try:
            worker = self._factory.make(seat.url, seat.role, seat.bootstrap_port)
            other = self._registry.find(worker.url, worker.role)
            if other is not None and (other.draining or self._is_a_pods(other)):
                return False
            self._registry.add(worker)
        except RouterError as error:
            logger.warning("the pod %s becomes no worker: %s", change.name, error)
            self._metrics.registered("duplicate" if isinstance(error, Conflict) else "failed")
            return True
        self._supervisor.probe_soon(worker)
        self._workers[change.uid] = seat, worker
        self._metrics.registered("success")
        logger.info("the pod %s is the %s server %s", change.name, seat.role, worker.url)
        return True

    async def _wait(self, change: PodChange, seat: PodWorker) -> None:
        logger.info("the pod %s waits until %s is free", change.name, seat.url)
        while not self._take_in(change, seat):  # noqa: ASYNC110 - nobody tells when an address is free
            await asyncio.sleep(TICK)
        del self._waiting[change.uid]

    def _is_a_pods(self, worker: Worker) -> bool:
        return any(worker is known for _, known in self._workers.values())
