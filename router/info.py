"""Answers about the router itself."""

from router.errors import NoWorker
from router.http.asgi import Request
from router.metrics import CONTENT_TYPE, Metrics
from router.moa.endpoint import MoaEndpoint
from router.workers import Registry


class Info:
    """`/v1/models`, `/health`, `/workers` and `/metrics`."""

    def __init__(self, registry: Registry, moa: MoaEndpoint, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics
        self._moa = moa

    async def models(self, request: Request) -> None:
        """The models and trees that can be asked now, in OpenAI's form."""
        served = [(name, "sglang") for name in self._registry.models()]
        served += [(name, "faster-moa") for name in self._moa.ready_trees()]
        data = [{"id": name, "object": "model", "created": 0, "owned_by": owner} for name, owner in served]
        await request.answer_json({"object": "list", "data": data})

    async def health(self, request: Request) -> None:
        """200 when at least one model can be served."""
        models = self._registry.models()
        if not models:
            raise NoWorker("no model has both a healthy prefill and a healthy decode server yet.")
        await request.answer_json({"status": "ok", "models": models})

    async def workers(self, request: Request) -> None:
        """Every worker and what is known of it."""
        await request.answer_json({"workers": [worker.describe() for worker in self._registry.workers]})

    async def metrics(self, request: Request) -> None:
        """Prometheus's text format."""
        await request.answer(200, self._metrics.text(), [(b"content-type", CONTENT_TYPE)])
