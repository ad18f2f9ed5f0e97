"""Every path of the router."""

from router.endpoints.inference import InferenceEndpoints
from router.endpoints.info import InfoEndpoints
from router.endpoints.not_offered import PATHS_NOT_OFFERED, not_offered
from router.endpoints.openapi import openapi_handler
from router.endpoints.routes import Handler, Route
from router.endpoints.runs import RunEndpoints
from router.endpoints.schemas import CHAT, COMPLETION, DETOKENIZE, GENERATE, RERANK, TOKENIZE, Schema
from router.endpoints.workers import WORKER_SCHEMA, WorkerEndpoints


def all_routes(
    proxy: InferenceEndpoints, info: InfoEndpoints, admin: WorkerEndpoints, runs: RunEndpoints
) -> list[Route]:
    """All routes; those that sglang-router has and this router has not answer 501 with the reason."""
    table = [
        _generation("/generate", proxy.generate, "generate", GENERATE),
        _generation("/v1/chat/completions", proxy.chat_completions, "chat", CHAT),
        _generation("/v1/completions", proxy.completions, "completions", COMPLETION),
        _generation("/rerank", proxy.rerank, "rerank", RERANK),
        _generation("/v1/rerank", proxy.rerank, "rerank", RERANK),
        Route("POST", "/v1/tokenize", info.tokenize, "Text to token ids", limited=True, schema=TOKENIZE),
        Route("POST", "/v1/detokenize", info.detokenize, "Token ids to text", limited=True, schema=DETOKENIZE),
        Route("GET", "/v1/models", info.models, "Models and trees", public=True),
        Route("GET", "/health", info.health, "Whether any model can be served", public=True),
        Route("GET", "/health_generate", info.health_generate, "A generation by each model"),
        Route("GET", "/liveness", info.liveness, "Whether the router runs", public=True),
        Route("GET", "/readiness", info.readiness, "Whether requests should come", public=True),
        Route("GET", "/get_server_info", info.server_info, "What stands behind the router", public=True),
        Route("GET", "/server_info", info.server_info, "What stands behind the router", public=True),
        Route("GET", "/get_model_info", info.model_info, "What a server says about its model", public=True),
        Route("GET", "/model_info", info.model_info, "What a server says about its model", public=True),
        Route("POST", "/flush_cache", info.flush_cache, "Empty the workers' KV caches"),
        Route("GET", "/get_loads", info.loads, "Tokens that each worker holds"),
        Route("GET", "/workers", admin.list, "All workers"),
        Route("POST", "/workers", admin.add, "Add a worker", schema=WORKER_SCHEMA),
        Route("GET", "/workers/{id}", admin.show, "One worker"),
        Route("DELETE", "/workers/{id}", admin.remove, "Remove a worker when its requests are over"),
        Route("GET", "/runs", runs.listed, "Runs of trees of late"),
        Route("GET", "/runs/{id}", runs.show, "A run's trace"),
        Route("GET", "/runs/{id}/timeline", runs.timeline, "A run as a page"),
        Route("GET", "/runs/{id}/chrome-trace", runs.chrome_trace, "A run for Perfetto"),
        Route("GET", "/metrics", info.metrics, "Prometheus metrics", public=True),
    ]
    refused = [
        Route(method, path, not_offered(reason), f"Not offered: {reason}", public=True)
        for (method, path), reason in ((name.split(), reason) for name, reason in PATHS_NOT_OFFERED.items())
    ]
    return [*table, Route("GET", "/openapi.json", openapi_handler(table), "This document", public=True), *refused]


def _generation(path: str, handler: Handler, endpoint: str, schema: Schema) -> Route:
    words = {"rerank": "Rank documents"}.get(endpoint, "Generate text")
    return Route("POST", path, handler, words, limited=True, endpoint=endpoint, schema=schema)
