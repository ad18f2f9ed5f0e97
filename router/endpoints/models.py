"""Models: `/v1/models`, `/v1/models/{id}` and `/model_info`."""

from typing import Any

from router.endpoints.trees import TreeEndpoint
from router.errors import NotFound, NoWorker
from router.http.client_request import ClientRequest
from router.workers.queries import fetch_body
from router.workers.registry import Registry
from router.workers.worker import Worker


class ModelEndpoints:
    """Lists models and trees, and asks a model's workers."""

    def __init__(self, registry: Registry, trees: TreeEndpoint) -> None:
        self._registry = registry
        self._trees = trees

    async def models(self, request: ClientRequest) -> None:
        """The models and trees that can be served now, in OpenAI's form."""
        await request.send_json({"object": "list", "data": self._served()})

    async def model(self, request: ClientRequest, name: str) -> None:
        """One of them; raises `NotFound` for any other."""
        served = self._served()
        for model in served:
            if model["id"] == name:
                await request.send_json(model)
                return
        names = ", ".join(model["id"] for model in served) or "none is ready"
        raise NotFound(f"the model {name!r} is not served here; served: {names}.")

    def _served(self) -> list[dict[str, Any]]:
        served = [(name, "sglang") for name in self._registry.models()]
        served += [(name, "faster-moa") for name in self._trees.ready_trees()]
        return [{"id": name, "object": "model", "created": 0, "owned_by": owner} for name, owner in served]

    async def model_info(self, request: ClientRequest) -> None:
        """`/model_info` of a decode or plain server."""
        worker = self._any_generating()
        await request.send_response(200, await fetch_body(worker, "GET", "/model_info"))

    def _any_generating(self) -> Worker:
        for role in ("decode", "plain"):
            for worker in self._registry.workers:
                if worker.health.usable and worker.role == role:
                    return worker
        raise NoWorker("no decode or plain server is healthy yet.", retry_after=1.0)
