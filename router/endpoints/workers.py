"""Workers: `/workers` and `/workers/{id}` list, add and remove them while the router runs."""

from collections.abc import Sequence
from typing import Any

from router.dispatch.supervisor import WorkerSupervisor
from router.errors import BadRequest
from router.http.client_request import ClientRequest
from router.http_client.address import WORKER_ADDRESS
from router.workers.factory import WorkerFactory
from router.workers.registry import Registry
from router.workers.worker import PAIR_ROLES, Worker

FIELDS = ("url", "worker_type", "bootstrap_port", "api_key")
WORKER_SCHEMA = {
    "type": "object",
    "required": ["url", "worker_type"],
    "additionalProperties": False,
    "properties": {
        "url": {"type": "string", "pattern": f"^{WORKER_ADDRESS}$"},
        "worker_type": {"enum": list(PAIR_ROLES)},
        "bootstrap_port": {"type": ["integer", "null"], "minimum": 1, "maximum": 65535},
        "api_key": {"type": ["string", "null"]},
    },
}


def worker_counts(workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`total` and `stats` of `/workers`: how many workers there are, and of which roles."""
    stats = {f"{role}_count": sum(worker["role"] == role for worker in workers) for role in PAIR_ROLES}
    return {"total": len(workers), "stats": stats}


class WorkerEndpoints:
    """Lists, adds and removes workers."""

    def __init__(self, registry: Registry, supervisor: WorkerSupervisor, factory: WorkerFactory) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._factory = factory

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
        """Add a worker; it gets requests once a pair with it has generated something."""
        worker = self.register(await request.json())
        response = {
            "status": "accepted",
            "worker_id": worker.id,
            "url": worker.url,
            "location": f"/workers/{worker.id}",
            "message": "the worker is asked who it is; GET its location tells how it is",
        }
        request.extra_headers.append((b"location", f"/workers/{worker.id}".encode()))
        await request.send_json(response, 202)

    def register(self, body: dict[str, Any]) -> Worker:
        """Add the worker that a body describes; raises `BadRequest` or `Conflict`."""
        worker = self._read(body)
        self._registry.add(worker)
        self._supervisor.probe_soon(worker)
        return worker

    def deregister(self, worker_id: str) -> Worker:
        """Give a worker no new requests from now on; raises `NotFound`."""
        worker = self._registry.by_id(worker_id)
        self._supervisor.remove(worker)
        return worker

    async def show(self, request: ClientRequest, worker_id: str) -> None:
        """One worker."""
        await request.send_json(self._registry.by_id(worker_id).describe())

    async def remove(self, request: ClientRequest, worker_id: str) -> None:
        """Remove a worker once its requests have ended."""
        worker = self.deregister(worker_id)
        message = f"the worker gets no new requests; it is gone when its {worker.load} are over"
        await request.send_json({"status": "accepted", "worker_id": worker.id, "message": message}, 202)

    def _read(self, body: dict[str, Any]) -> Worker:
        unknown = sorted(body.keys() - FIELDS)
        if unknown:
            raise BadRequest(f"`{unknown[0]}` is not known here; a worker has {', '.join(FIELDS)}.")
        url, role, port = body.get("url"), body.get("worker_type"), body.get("bootstrap_port")
        if not isinstance(url, str):
            raise BadRequest("`url` must be the worker's address, like http://127.0.0.1:30001.")
        if role not in PAIR_ROLES:
            raise BadRequest("`worker_type` must be prefill or decode: this router serves such pairs only.")
        if port is not None and (type(port) is not int or not 0 < port < 65536 or role == "decode"):
            raise BadRequest("`bootstrap_port` must be a port of a prefill server, from 1 to 65535.")
        key = body.get("api_key")
        if key is not None and (not isinstance(key, str) or not key.isascii() or not key.isprintable()):
            raise BadRequest("`api_key` must be a string of printable ASCII characters.")
        return self._factory.make(url, role, port, key)
