"""Every path of the router, with its handler."""

from dataclasses import replace
from functools import partial

from router.access.client import Right
from router.endpoints.engine_metrics import EngineMetricsEndpoint
from router.endpoints.health import HealthEndpoints
from router.endpoints.inference import InferenceEndpoints
from router.endpoints.metrics import MetricsEndpoint
from router.endpoints.models import ModelEndpoints
from router.endpoints.not_offered import PATHS_NOT_OFFERED, no_mesh, not_offered
from router.endpoints.openapi import openapi_handler
from router.endpoints.parsing import ParsingEndpoints
from router.endpoints.passed import PassedEndpoints
from router.endpoints.passed_paths import PASSED_PATHS, RESPONSES_PATH
from router.endpoints.profiling import PROFILE_SCHEMA, ProfilingEndpoints
from router.endpoints.responses import ResponsesEndpoints
from router.endpoints.routes import Handler, Route
from router.endpoints.runs import RunEndpoints
from router.endpoints.schemas import CHAT, COMPLETION, FUNCTION_CALL, GENERATE, REASONING, Schema
from router.endpoints.services import EndpointServices
from router.endpoints.tokenizers import TokenizerEndpoints
from router.endpoints.worker_body import CHANGE_SCHEMA, WORKER_SCHEMA
from router.endpoints.worker_state import WorkerStateEndpoints

TEXT, HTML = "text/plain", "text/html"


def all_routes(services: EndpointServices) -> list[Route]:
    """All routes; paths that only sglang-router has answer 501 with the reason."""
    offered = [
        *_inference_routes(services),
        *_passed_routes(services),
        *_text_routes(services),
        *_model_routes(services),
        *_health_routes(services),
        *_server_routes(services),
        *_worker_routes(services),
        *_profiling_routes(services),
        *_drain_routes(services),
        *_run_routes(services),
        *_metric_routes(services),
    ]
    return [*offered, _public_get("/openapi.json", openapi_handler(offered), "This document"), *_refused_routes()]


def _inference_routes(services: EndpointServices) -> list[Route]:
    inference = InferenceEndpoints(
        services.dispatcher,
        services.trees,
        services.agent_runs,
        services.forwarder,
        services.request_timeout,
        services.peers,
    )
    return [
        _inference_post("/generate", inference.generate, "generate", GENERATE),
        _inference_post("/v1/chat/completions", inference.chat_completions, "chat", CHAT),
        _inference_post("/v1/completions", inference.completions, "completions", COMPLETION),
    ]


def _passed_routes(services: EndpointServices) -> list[Route]:
    """What is passed to servers as it is."""
    passed = PassedEndpoints(services.dispatcher, services.trees, services.forwarder, services.request_timeout)
    responses = ResponsesEndpoints(services.dispatcher, passed)
    stored = _inference_post(
        "/v1/responses/{id}", responses.show, "responses", None, "A response that a server has stored"
    )
    ended = "End a response that is made in the background"
    return [
        *(
            _inference_post(path, passed.handler(each), each.name, each.schema, each.summary)
            if each.needs_engine
            else _engineless_post(path, passed.handler(each), each.summary, each.schema)
            for each in PASSED_PATHS
            for path in each.paths
        ),
        _inference_post("/v1/responses", responses.create, "responses", RESPONSES_PATH.schema, RESPONSES_PATH.summary),
        replace(stored, method="GET"),
        _inference_post("/v1/responses/{id}/cancel", responses.cancel, "responses", None, ended),
    ]


def _text_routes(services: EndpointServices) -> list[Route]:
    """What is done with texts and token ids without generating any."""
    registry = services.dispatcher.registry
    parsing, tokenizers = ParsingEndpoints(registry, services.trees), TokenizerEndpoints(registry)
    return [
        _engineless_post("/parse/reasoning", parsing.reasoning, "Separate reasoning from a text", REASONING),
        _engineless_post("/parse/function_call", parsing.function_call, "Find tool calls in a text", FUNCTION_CALL),
        _data_get("/v1/tokenizers", tokenizers.list_all, "The models' tokenizers", "data"),
        _data_get("/v1/tokenizers/{id}", tokenizers.show, "A model's tokenizer", "data"),
    ]


def _model_routes(services: EndpointServices) -> list[Route]:
    models = ModelEndpoints(services.dispatcher.registry, services.trees)
    right = _right_with_key_file(services, "data")
    return [
        _data_get("/v1/models", models.models, "Models and trees", right),
        replace(_data_get("/v1/models/{id}", models.model, "A model or tree", right), spans_segments=True),
        _data_get("/get_model_info", models.model_info, "What a server says about its model", right),
        _data_get("/model_info", models.model_info, "What a server says about its model", right),
    ]


def _health_routes(services: EndpointServices) -> list[Route]:
    health = HealthEndpoints(
        services.dispatcher,
        services.supervisor,
        services.judge_state,
        services.drain,
        names_models=not services.keys.from_file,
    )
    return [
        _public_get("/health", health.health, "Whether the router runs, and its models"),
        Route("GET", "/health_generate", health.health_generate, "A generation by each model", "admin"),
        replace(_public_get("/liveness", health.liveness, "Whether the router runs"), content_type=TEXT),
        _public_get("/readiness", health.readiness, "Whether requests should come"),
    ]


def _server_routes(services: EndpointServices) -> list[Route]:
    """What SGLang's servers answer about themselves, for all workers together."""
    state = WorkerStateEndpoints(services.dispatcher.registry, services.trees)
    right = _right_with_key_file(services, "data")
    return [
        Route("GET", "/get_server_info", state.server_info, "What stands behind the router", right),
        Route("GET", "/server_info", state.server_info, "What stands behind the router", right),
        Route("POST", "/flush_cache", state.flush_cache, "Empty the workers' KV caches", "admin"),
        Route("GET", "/get_loads", state.loads, "Tokens that each worker holds", "admin"),
    ]


def _worker_routes(services: EndpointServices) -> list[Route]:
    workers = services.workers
    changed = partial(Route, right="admin", status=202)
    return [
        Route("GET", "/workers", workers.list, "All workers", "admin"),
        changed("POST", "/workers", workers.add, "Add a worker", schema=WORKER_SCHEMA),
        Route("GET", "/workers/{id}", workers.show, "One worker", "admin"),
        changed("PUT", "/workers/{id}", workers.replace, "All settings of a worker", schema=WORKER_SCHEMA),
        changed("PATCH", "/workers/{id}", workers.change, "Some settings of a worker", schema=CHANGE_SCHEMA),
        changed("DELETE", "/workers/{id}", workers.remove, "Remove a worker when its requests are over"),
    ]


def _profiling_routes(services: EndpointServices) -> list[Route]:
    profiling = ProfilingEndpoints(services.dispatcher.registry)
    post = partial(Route, "POST", right="admin", schema=PROFILE_SCHEMA, partial=True)
    return [
        post("/start_profile", profiling.start, "Profile the workers"),
        post("/stop_profile", profiling.stop, "End the workers' profiles"),
    ]


def _drain_routes(services: EndpointServices) -> list[Route]:
    drain = services.drain
    return [
        Route("GET", "/drain", drain.show, "How many requests are left", "admin"),
        Route("POST", "/drain", drain.start, "Take no new requests", "admin"),
        Route("DELETE", "/drain", drain.end, "Take requests again", "admin"),
    ]


def _run_routes(services: EndpointServices) -> list[Route]:
    runs = RunEndpoints(services.run_store)
    return [
        Route("GET", "/runs", runs.list, "Runs of trees of late", "runs"),
        Route("GET", "/runs/{id}", runs.show, "A run's trace", "runs"),
        Route("GET", "/runs/{id}/timeline", runs.timeline, "A run as a page", "runs", content_type=HTML),
        Route("GET", "/runs/{id}/chrome-trace", runs.chrome_trace, "A run for Perfetto", "runs"),
    ]


def _metric_routes(services: EndpointServices) -> list[Route]:
    metrics, engines = MetricsEndpoint(services.collectors), EngineMetricsEndpoint(services.dispatcher.registry)
    right = _right_with_key_file(services, "admin")
    return [
        Route("GET", "/metrics", metrics.metrics, "Prometheus metrics", right, content_type=TEXT),
        Route("GET", "/engine_metrics", engines.engine_metrics, "The workers' metrics", "admin", content_type=TEXT),
    ]


def _refused_routes() -> list[Route]:
    refused = [
        Route(method, path, not_offered(reason), f"Not offered: {reason}", None, cross_origin=True)
        for (method, path), reason in ((name.split(), reason) for name, reason in PATHS_NOT_OFFERED.items())
    ]
    return [*refused, Route("GET", "/ha/status", no_mesh, "Not offered: there is no mesh", None, cross_origin=True)]


def _right_with_key_file(services: EndpointServices, right: Right) -> Right | None:
    """A right that a file of keys gives; without such a file the path is open to everybody, as in sglang-router."""
    return right if services.keys.from_file else None


def _inference_post(
    path: str, handler: Handler, endpoint: str, schema: Schema | None, summary: str = "Generate text"
) -> Route:
    """A POST that a server's engine answers."""
    return Route(
        "POST", path, handler, summary, "data", cross_origin=True, limited=True, endpoint=endpoint, schema=schema
    )


def _engineless_post(path: str, handler: Handler, summary: str, schema: Schema) -> Route:
    """A POST that a server answers without its engine."""
    return Route("POST", path, handler, summary, "data", cross_origin=True, limited=True, schema=schema)


def _public_get(path: str, handler: Handler, summary: str) -> Route:
    """A GET for everybody."""
    return _data_get(path, handler, summary, None)


def _data_get(path: str, handler: Handler, summary: str, right: Right | None) -> Route:
    """A GET for those who use the models, also from web pages."""
    return Route("GET", path, handler, summary, right, cross_origin=True)
