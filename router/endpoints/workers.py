"""Workers: `/workers` and `/workers/{id}` list, add, change and remove them while the router runs."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from router.endpoints.worker_body import body_of, changed, read_worker
from router.errors import BadRequest, Conflict
from router.http.client_request import ClientRequest
from router.worker_supervision.supervisor import WorkerSupervisor
from router.workers.factory import WorkerFactory
from router.workers.registry import Registry
from router.workers.worker import Role, Worker
from router.workers.worker_config import WorkerConfig
from router.workers.worker_entry import described


def worker_counts(workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`total` and `stats` of `/workers`: how many workers there are, and of which roles."""
    names: dict[Role, str] = {"prefill": "prefill_count", "decode": "decode_count", "plain": "regular_count"}
    stats = {name: sum(worker["role"] == role for worker in workers) for role, name in names.items()}
    return {"total": len(workers), "stats": stats}


Announce = Callable[[str, dict[str, Any] | None], Awaitable[None]]


async def _announce_to_nobody(worker_id: str, body: dict[str, Any] | None) -> None:
    """There is one process."""


def _same_settings(existing: WorkerConfig, config: WorkerConfig) -> bool:
    """Whether two settings of one worker mean the same; without a bootstrap port it is asked for it."""
    same_port = config.bootstrap_port in (None, existing.bootstrap_port)
    return same_port and replace(config, bootstrap_port=existing.bootstrap_port) == existing


class WorkerEndpoints:
    """Lists, adds, changes and removes workers.

    Attributes:
        announce: Awaited after each change with the worker's id, and with a body that makes the worker as it is now, or
            None when it is removed, before the operator gets the answer.
    """

    def __init__(self, registry: Registry, supervisor: WorkerSupervisor, factory: WorkerFactory) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._factory = factory
        self.announce: Announce = _announce_to_nobody

    async def list(self, request: ClientRequest) -> None:
        """Every worker, and for each pair whether it has generated something."""
        workers = [described(worker) for worker in self._registry.workers]
        await request.send_json(
            {
                "workers": workers,
                **worker_counts(workers),
                "pairs": [
                    {
                        "prefill": pair.prefill.url,
                        "decode": pair.decode.url,
                        "model": pair.prefill.model,
                        "generated": pair in self._registry.warmed_up_pairs,
                    }
                    for pair in self._registry.pairs()
                ],
            }
        )

    async def add(self, request: ClientRequest) -> None:
        """Add a worker. A half of a pair gets requests once a pair with it has generated something."""
        url, role, config = read_worker(await request.json())
        worker = self._factory.make_configured(url, role, config)
        self._registry.refuse_address(worker.url)
        self._registry.add(worker)
        self._supervisor.probe_soon(worker)
        await self.announce(worker.id, body_of(worker))
        response = {
            "status": "accepted",
            "worker_id": worker.id,
            "url": worker.url,
            "location": f"/workers/{worker.id}",
            "message": "the worker is asked who it is; GET its location tells how it is",
        }
        request.extra_headers.append((b"location", f"/workers/{worker.id}".encode()))
        await request.send_json(response, 202)

    def ensure_added(self, body: dict[str, Any], *, at_once: bool) -> bool:
        """Have the worker that a body describes, here or already.

        Args:
            body: Of the request that added it.
            at_once: Drop another worker at its address without waiting for requests, of which there must be none.

        Returns:
            False while another worker at its address is being removed: call again later.

        Raises:
            BadRequest: The body is wrong.
        """
        url, role, config = read_worker(body)
        worker = self._factory.make_configured(url, role, config)
        existing = self._registry.find(worker.url, worker.role)
        if existing is not None and _same_settings(existing.config, config):
            self._supervisor.restore(existing)
            return True
        if existing is not None and not existing.health.draining:
            self._configure(existing, config)
            return True
        if existing is not None:
            self.ensure_removed(existing.id, at_once=at_once)
            if not at_once:
                return False
        self._registry.add(worker)
        self._supervisor.probe_soon(worker)
        return True

    def ensure_removed(self, worker_id: str, *, at_once: bool) -> None:
        """Remove a worker; `at_once` as for `ensure_added`. Raises `NotFound`."""
        worker = self._registry.by_id(worker_id)
        if at_once:
            self._registry.drop(worker)
        else:
            self._supervisor.remove(worker)

    async def show(self, request: ClientRequest, worker_id: str) -> None:
        """One worker."""
        await request.send_json(described(self._registry.by_id(worker_id)))

    async def replace(self, request: ClientRequest, worker_id: str) -> None:
        """Give a worker new settings, all of them; its address and type are those by which it is known."""
        body = await request.json()
        worker = self._changeable(worker_id)  # after the body, which may take long
        url, role, config = read_worker(body, worker.role)
        if self._factory.make(url, role).url != worker.url:
            raise BadRequest(
                f"`url` must be {worker.url}, the worker's own; DELETE it and POST one at another address."
            )
        if role != worker.role:
            raise BadRequest(f"`worker_type` must be {worker.role}, as it was; DELETE the worker and POST it again.")
        await self._change(request, worker, config)

    async def change(self, request: ClientRequest, worker_id: str) -> None:
        """Change some of a worker's settings."""
        body = await request.json()
        worker = self._changeable(worker_id)
        await self._change(request, worker, changed(worker.config, body))

    async def remove(self, request: ClientRequest, worker_id: str) -> None:
        """Remove a worker once its requests have ended."""
        worker = self._registry.by_id(worker_id)
        self._supervisor.remove(worker)
        await self.announce(worker.id, None)
        message = f"the worker gets no new requests; it is gone when its {worker.load.requests} are over"
        await request.send_json({"status": "accepted", "worker_id": worker.id, "message": message}, 202)

    def _changeable(self, worker_id: str) -> Worker:
        """A worker that is not being removed; raises `NotFound` or `Conflict`."""
        worker = self._registry.by_id(worker_id)
        if worker.health.draining:
            raise Conflict(f"the worker {worker.url} is being removed; POST it again once it is gone.")
        return worker

    async def _change(self, request: ClientRequest, worker: Worker, config: WorkerConfig) -> None:
        self._configure(worker, config)
        await self.announce(worker.id, body_of(worker))
        message = "the worker has its new settings; its models are asked for once more"
        await request.send_json({"status": "accepted", "worker_id": worker.id, "message": message}, 202)

    def _configure(self, worker: Worker, config: WorkerConfig) -> None:
        self._factory.configure(worker, config)
        self._supervisor.probe_soon(worker)
