"""Adds and removes workers as their pods come and go."""

import asyncio
import logging

from router.errors import Conflict, RouterError
from router.service_discovery.metrics import DiscoveryMetrics
from router.service_discovery.pods import PodChange, PodWorker
from router.worker_supervision.supervisor import WorkerSupervisor
from router.workers.factory import WorkerFactory
from router.workers.registry import Registry
from router.workers.worker import Worker

logger = logging.getLogger(__name__)

ADDRESS_POLL_INTERVAL = 0.1  # seconds


class PodWorkers:
    """The workers that are pods. Workers from flags or HTTP requests are left alone.

    An address has at most one worker. A pod waits while its address belongs to a worker that is being removed, or to
    another pod.
    """

    def __init__(
        self, registry: Registry, supervisor: WorkerSupervisor, factory: WorkerFactory, metrics: DiscoveryMetrics
    ) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._factory = factory
        self._metrics = metrics
        self._workers: dict[str, tuple[PodWorker, Worker]] = {}  # by pod uid, also those being removed
        self._waiting_pods: dict[str, asyncio.Task[None]] = {}  # for a free address, by pod uid
        metrics.set_worker_count(lambda: sum(not worker.health.draining for _, worker in self._workers.values()))

    def apply(self, change: PodChange) -> None:
        """Add or remove workers for one change of a pod."""
        if change.before is not None:
            self._remove(change)
        if change.after is not None and not self._add(change, change.after):
            self._waiting_pods[change.uid] = asyncio.create_task(self._add_when_free(change, change.after))
        registered = {*self._registry.workers}
        self._workers = {uid: known for uid, known in self._workers.items() if known[1] in registered}

    async def close(self) -> None:
        """Stop waiting for addresses."""
        tasks = [*self._waiting_pods.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _remove(self, change: PodChange) -> None:
        task = self._waiting_pods.pop(change.uid, None)
        if task is not None:
            task.cancel()
        _, worker = self._workers.get(change.uid, (None, None))
        # An operator may have removed it already.
        if worker is not None and worker in self._registry.workers and not worker.health.draining:
            self._supervisor.remove(worker)
            self._metrics.deregistered(change.reason)
            logger.info("%s gets no new requests: %s, %s", worker.url, change.reason, change.name)

    def _add(self, change: PodChange, pod_worker: PodWorker) -> bool:
        """Add or restore the pod's worker. Returns False if its address is still in use, so that it must wait."""
        before, worker = self._workers.get(change.uid, (None, None))
        if worker is not None and before == pod_worker and self._supervisor.restore(worker):
            logger.info("%s gets requests again: the pod %s is ready", worker.url, change.name)
            self._metrics.registered("success")
            return True
        try:
            worker = self._factory.make(pod_worker.url, pod_worker.role, pod_worker.bootstrap_port)
            existing = self._registry.find(worker.url, worker.role)
            if existing is not None and (existing.health.draining or self._is_discovered(existing)):
                return False
            self._registry.add(worker)
        except RouterError as error:
            logger.warning("the pod %s becomes no worker: %s", change.name, error)
            self._metrics.registered("duplicate" if isinstance(error, Conflict) else "failed")
            return True
        self._supervisor.probe_soon(worker)
        self._workers[change.uid] = pod_worker, worker
        self._metrics.registered("success")
        logger.info("the pod %s is the %s server %s", change.name, pod_worker.role, worker.url)
        return True

    async def _add_when_free(self, change: PodChange, pod_worker: PodWorker) -> None:
        logger.info("the pod %s waits until %s is free", change.name, pod_worker.url)
        while not self._add(change, pod_worker):  # noqa: ASYNC110 - there is no event for a free address
            await asyncio.sleep(ADDRESS_POLL_INTERVAL)
        del self._waiting_pods[change.uid]

    def _is_discovered(self, worker: Worker) -> bool:
        return any(worker is known for _, known in self._workers.values())
