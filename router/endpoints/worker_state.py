"""What the workers hold, and emptying it: `/server_info`, `/get_loads` and `/flush_cache`."""

import asyncio
from typing import Any

import orjson

from router.endpoints.trees import TreeEndpoint
from router.errors import RouterError
from router.http.client_request import ClientRequest
from router.workers.all_workers import ask_all
from router.workers.queries import fetch_body
from router.workers.registry import Registry
from router.workers.usage import worker_usage
from router.workers.worker import Worker


class WorkerStateEndpoints:
    """Asks all workers at once."""

    def __init__(self, registry: Registry, trees: TreeEndpoint) -> None:
        self._registry = registry
        self._trees = trees

    async def server_info(self, request: ClientRequest) -> None:
        """Models, trees and the number of workers; for a client with the right `admin` also what each worker holds."""
        workers = self._registry.workers
        info: dict[str, Any] = {
            "router": "faster-moa",
            "models": self._registry.models(),
            "trees": self._trees.ready_trees(),
            "workers_count": len(workers),
        }
        if "admin" in request.rights:
            info["workers"] = await worker_usage(workers)
        await request.send_json(info)

    async def loads(self, request: ClientRequest) -> None:
        """Tokens that each worker reports to hold; -1 where it reports none."""
        workers = self._registry.workers
        loads = await asyncio.gather(*(_load(worker) for worker in workers))
        await request.send_json(
            {"workers": [{"worker": w.url, "load": load} for w, load in zip(workers, loads, strict=True)]}
        )

    async def flush_cache(self, request: ClientRequest) -> None:
        """Empty the KV caches of all workers; 502 when any did not."""
        outcomes = await ask_all(self._registry.workers, _flush)
        failed = [each for each in outcomes if each.problem is not None]
        names = ", ".join(each.worker.url for each in failed)
        result = {
            "status": "partial_success" if failed else "success",
            "message": f"{names} did not flush" if failed else f"all {len(outcomes)} workers flushed",
            "workers_flushed": len(outcomes) - len(failed),
            "total_workers": len(outcomes),
            "total_http_workers": len(outcomes),
            "total_grpc_workers": 0,
            "successful": [each.worker.url for each in outcomes if each.problem is None],
            "failed": [{"worker": each.worker.url, "error": each.problem} for each in failed],
        }
        await request.send_json(result, 502 if failed else 200)


async def _flush(worker: Worker) -> None:
    """Empty one worker's cache; raises `RouterError`."""
    await fetch_body(worker, "POST", "/flush_cache")


async def _load(worker: Worker) -> int:
    try:
        ranks = orjson.loads(await fetch_body(worker, "GET", "/get_load"))
        return sum(int(rank["num_tokens"]) for rank in ranks)
    except (RouterError, ValueError, KeyError, TypeError):
        return -1
