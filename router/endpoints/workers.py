"""Workers: `/workers` and `/workers/{id}` list, add and remove them while the router runs."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from router.dispatch.supervisor import WorkerSupervisor
from router.errors import BadRequest
from router.http.client_request import ClientRequest
from router.http_client.address import WORKER_ADDRESS
from router.workers.factory import WorkerFactory
from router.workers.registry import Registry
from router.workers.worker import PAIR_ROLES, Role, Worker

# By the name in `worker_type`; a worker of no type is a plain one, as for the other routers.
ROLES: dict[str | None, Role] = {
    "prefill": "prefill", "decode": "decode", "regular": "plain", "plain": "plain", None: "plain",
}  # fmt: skip
FIELDS = ("url", "worker_type", "bootstrap_port", "api_key")
WORKER_SCHEMA = {
    "type": "object",
    "required": ["url"],
    "additionalProperties": False,
    "properties": {
        "url": {"type": "string", "pattern": f"^{WORKER_ADDRESS}$"},
        "worker_type": {"enum": list(ROLES)},
        "bootstrap_port": {"type": ["integer", "null"], "minimum": 1, "maximum": 65535},
        "api_key": {"type": ["string", "null"]},
    },
}


def worker_counts(workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`total` and `stats` of `/workers`: how many workers there are, and of which roles."""
    stats = {f"{role}_count": sum(worker["role"] == role for worker in workers) for role in PAIR_ROLES}
    return {"total": len(workers), "stats": stats}


Announce = Callable[[str, dict[str, Any] | None], Awaitable[None]]


async def _announce_to_nobody(worker_id: str, body: dict[str, Any] | None) -> None:
    """There is one process."""


def _same_settings(existing: Worker, worker: Worker) -> bool:
    """Whether two workers at one address are asked in the same way."""
    same_port = worker.bootstrap_port in (None, existing.bootstrap_port)  # None: it is asked for its port
    return same_port and worker.api_key == existing.api_key


class WorkerEndpoints:
    """Lists, adds and removes workers.

    Attributes:
        announce: Awaited after each change with the worker's id, and with the body that added it or None, before the
            operator gets the answer.
    """

    def __init__(self, registry: Registry, supervisor: WorkerSupervisor, factory: WorkerFactory) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._factory = factory
        self.announce: Announce = _announce_to_nobody

    async def list(self, request: ClientRequest) -> None:
        """Every worker, and for each pair whether it has generated something."""
        workers = [worker.describe() for worker in self._registry.workers]
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
        body = await request.json()
        worker = self._read(body)
        self._registry.add(worker)
        self._supervisor.probe_soon(worker)
        await self.announce(worker.id, body)
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
        worker = self._read(body)
        existing = self._registry.find(worker.url, worker.role)
        if existing is not None and _same_settings(existing, worker):
            self._supervisor.restore(existing)
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
        await request.send_json(self._registry.by_id(worker_id).describe())

    async def remove(self, request: ClientRequest, worker_id: str) -> None:
        """Remove a worker once its requests have ended."""
        worker = self._registry.by_id(worker_id)
        self._supervisor.remove(worker)
        await self.announce(worker.id, None)
        message = f"the worker gets no new requests; it is gone when its {worker.load} are over"
        await request.send_json({"status": "accepted", "worker_id": worker.id, "message": message}, 202)

    def _read(self, body: dict[str, Any]) -> Worker:
        unknown = sorted(body.keys() - FIELDS)
        if unknown:
            raise BadRequest(f"`{unknown[0]}` is not known here; a worker has {', '.join(FIELDS)}.")
        url, kind, port = body.get("url"), body.get("worker_type"), body.get("bootstrap_port")
        if not isinstance(url, str):
            raise BadRequest("`url` must be the worker's address, like http://127.0.0.1:30001.")
        if not isinstance(kind, str | None) or kind not in ROLES:
            raise BadRequest("`worker_type` must be prefill, decode, or regular for one that is no half of a pair.")
        role = ROLES[kind]
        if port is not None and (type(port) is not int or not 0 < port < 65536 or role != "prefill"):
            raise BadRequest("`bootstrap_port` must be a port of a prefill server, from 1 to 65535.")
        key = body.get("api_key")
        if key is not None and (not isinstance(key, str) or not key.isascii() or not key.isprintable()):
            raise BadRequest("`api_key` must be a string of printable ASCII characters.")
        return self._factory.make(url, role, port, key)
