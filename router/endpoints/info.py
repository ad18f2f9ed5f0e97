"""Answers about the router itself, and what it asks its workers."""

import asyncio
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from router.dispatch.dispatcher import Dispatcher
from router.dispatch.supervisor import WorkerSupervisor
from router.endpoints.access import ApiKey, refuse_reserved
from router.endpoints.inference import InferenceEndpoints
from router.endpoints.trees import TreeEndpoint
from router.errors import NoWorker, RouterError
from router.http.client_request import ClientRequest
from router.http.disconnect import while_connected
from router.observability.prometheus import CONTENT_TYPE, metrics_text
from router.workers.queries import fetch_body, fetch_response
from router.workers.usage import worker_usage
from router.workers.worker import Worker

TEXT = [(b"content-type", b"text/plain; charset=utf-8")]


class InfoEndpoints:
    """Everything but generation and the coming and going of workers."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        moa: TreeEndpoint,
        supervisor: WorkerSupervisor,
        proxy: InferenceEndpoints,
        key: ApiKey,
        metrics: CollectorRegistry,
    ) -> None:
        self._dispatcher = dispatcher
        self._registry = dispatcher.registry
        self._metrics = metrics
        self._moa = moa
        self._supervisor = supervisor
        self._proxy = proxy
        self._key = key

    async def models(self, request: ClientRequest) -> None:
        """The models and trees that can be asked now, in OpenAI's form."""
        served = [(name, "sglang") for name in self._registry.models()]
        served += [(name, "faster-moa") for name in self._moa.ready_trees()]
        data = [{"id": name, "object": "model", "created": 0, "owned_by": owner} for name, owner in served]
        await request.send_json({"object": "list", "data": data})

    async def health(self, request: ClientRequest) -> None:
        """200 when at least one model can be served."""
        models = self._registry.models()
        if not models:
            raise NoWorker("no model has both a healthy prefill and a healthy decode server yet.", retry_after=1.0)
        await request.send_json({"status": "ok", "models": models})

    async def liveness(self, request: ClientRequest) -> None:
        """200 as long as the router runs."""
        await request.send_response(200, b"OK", TEXT)

    async def readiness(self, request: ClientRequest) -> None:
        """200 once every pair that is there has generated something."""
        reason = self._supervisor.unready_reason()
        if reason is not None:
            raise NoWorker(reason, retry_after=1.0)
        workers = self._registry.workers
        usable = sum(worker.usable for worker in workers)
        await request.send_json({"status": "ready", "healthy_workers": usable, "total_workers": len(workers)})

    async def health_generate(self, request: ClientRequest) -> None:
        """200 when a pair of each model has generated something for this very request."""
        models = self._registry.models()
        if not models:
            raise NoWorker("no model has both a healthy prefill and a healthy decode server yet.", retry_after=1.0)
        pairs = [self._dispatcher.choose_pair(model) for model in models]

        async def generate() -> None:
            for pair in pairs:
                await self._supervisor.generate(pair)

        await request.body()
        await while_connected(request, generate())
        await request.send_json({"status": "ok", "models": models})

    async def server_info(self, request: ClientRequest) -> None:
        """What stands behind this router and, for who has the key, what each worker holds."""
        workers = self._registry.workers
        told: dict[str, Any] = {
            "router": "faster-moa",
            "models": self._registry.models(),
            "trees": self._moa.ready_trees(),
            "workers_count": len(workers),
        }
        if self._key.fits(request):
            told["workers"] = await worker_usage(workers)
        await request.send_json(told)

    async def model_info(self, request: ClientRequest) -> None:
        """What a decode server says about its model."""
        worker = self._any_decode()
        await request.send_response(200, await fetch_body(worker, "GET", "/model_info"))

    async def tokenize(self, request: ClientRequest) -> None:
        """Text to token ids, by a server of the model."""
        await self._pass_on(request, "/tokenize")

    async def detokenize(self, request: ClientRequest) -> None:
        """Token ids to text, by a server of the model."""
        await self._pass_on(request, "/detokenize")

    async def flush_cache(self, request: ClientRequest) -> None:
        """Empty the KV caches of all workers."""
        workers = self._registry.workers
        flushed = await asyncio.gather(*(_flushed(worker) for worker in workers))
        failed = [worker.url for worker, well in zip(workers, flushed, strict=True) if not well]
        message = f"{', '.join(failed)} did not flush" if failed else f"all {len(workers)} workers flushed"
        answer = {
            "status": "partial" if failed else "success",
            "message": message,
            "workers_flushed": len(workers) - len(failed),
            "total_workers": len(workers),
        }
        await request.send_json(answer, 502 if failed else 200)

    async def loads(self, request: ClientRequest) -> None:
        """Tokens that each worker holds, by its own word; -1 where it does not say."""
        workers = self._registry.workers
        loads = await asyncio.gather(*(_load(worker) for worker in workers))
        await request.send_json(
            {"workers": [{"worker": w.url, "load": load} for w, load in zip(workers, loads, strict=True)]}
        )

    async def metrics(self, request: ClientRequest) -> None:
        """Prometheus's text format."""
        await request.send_response(200, metrics_text(self._metrics), [(b"content-type", CONTENT_TYPE)])

    def _any_decode(self) -> Worker:
        for worker in self._registry.workers:
            if worker.usable and worker.role == "decode":
                return worker
        raise NoWorker("no decode server is healthy yet.", retry_after=1.0)

    async def _pass_on(self, request: ClientRequest, path: str) -> None:
        body = await request.json()
        refuse_reserved(body)
        worker = self._registry.usable(self._proxy.model(body), "decode")[0]
        status, answer, kind = await fetch_response(worker, "POST", path, orjson.dumps(body))
        await request.send_response(status, answer, [(b"content-type", kind or b"application/json")])


async def _flushed(worker: Worker) -> bool:
    try:
        await fetch_body(worker, "POST", "/flush_cache")
    except RouterError:
        return False
    return True


async def _load(worker: Worker) -> int:
    try:
        told = orjson.loads(await fetch_body(worker, "GET", "/get_load"))
        return sum(int(rank["num_tokens"]) for rank in told)
    except (RouterError, ValueError, KeyError, TypeError):
        return -1
