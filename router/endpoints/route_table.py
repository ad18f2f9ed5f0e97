"""Every path of the router, with its handler."""

from dataclasses import replace

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
    registry = services.dispatcher.registry
    inference = InferenceEndpoints(
        services.dispatcher,
        services.trees,
        services.agent_runs,
        services.forwarder,
        services.request_timeout,
        services.peers,
    )
    models = ModelEndpoints(registry, services.trees)
    parsing = ParsingEndpoints(registry, services.trees)
    tokenizers = TokenizerEndpoints(registry)
    health = HealthEndpoints(
        services.dispatcher,
        services.supervisor,
        services.judge_state,
        services.drain,
        names_models=not services.keys.from_file,
    )
    state = WorkerStateEndpoints(registry, services.trees)
    workers, drain = services.workers, services.drain
    profiling = ProfilingEndpoints(registry)
    runs = RunEndpoints(services.run_store)
    metrics, engines = MetricsEndpoint(services.collectors), EngineMetricsEndpoint(registry)
    # Without a file of keys these are open to everybody, as in sglang-router.
    data: Right | None = "data" if services.keys.from_file else None
    scrape: Right | None = "admin" if services.keys.from_file else None
    table = [
        _inference("/generate", inference.generate, "generate", GENERATE),
        _inference("/v1/chat/completions", inference.chat_completions, "chat", CHAT),
        _inference("/v1/completions", inference.completions, "completions", COMPLETION),
        *_passed(services),
        _help("/parse/reasoning", parsing.reasoning, "Separate reasoning from a text", REASONING),
        _help("/parse/function_call", parsing.function_call, "Find tool calls in a text", FUNCTION_CALL),
        Route("GET", "/v1/tokenizers", tokenizers.list_all, "The models' tokenizers", "data", cross_origin=True),
        Route("GET", "/v1/tokenizers/{id}", tokenizers.show, "A model's tokenizer", "data", cross_origin=True),
        _told("/v1/models", models.models, "Models and trees", data),
        replace(_told("/v1/models/{id}", models.model, "A model or tree", data), spans_segments=True),
        _open("/health", health.health, "Whether the router runs, and its models"),
        Route("GET", "/health_generate", health.health_generate, "A generation by each model", "admin"),
        replace(_open("/liveness", health.liveness, "Whether the router runs"), content_type=TEXT),
        _open("/readiness", health.readiness, "Whether requests should come"),
        Route("GET", "/get_server_info", state.server_info, "What stands behind the router", data),
        Route("GET", "/server_info", state.server_info, "What stands behind the router", data),
        _told("/get_model_info", models.model_info, "What a server says about its model", data),
        _told("/model_info", models.model_info, "What a server says about its model", data),
        Route("POST", "/flush_cache", state.flush_cache, "Empty the workers' KV caches", "admin"),
        Route("GET", "/get_loads", state.loads, "Tokens that each worker holds", "admin"),
        Route("GET", "/workers", workers.list, "All workers", "admin"),
        Route("POST", "/workers", workers.add, "Add a worker", "admin", status=202, schema=WORKER_SCHEMA),
        Route("GET", "/workers/{id}", workers.show, "One worker", "admin"),
        Route(
            "PUT",
            "/workers/{id}",
            workers.replace,
            "All settings of a worker",
            "admin",
            status=202,
            schema=WORKER_SCHEMA,
        ),
        Route(
            "PATCH",
            "/workers/{id}",
            workers.change,
            "Some settings of a worker",
            "admin",
            status=202,
            schema=CHANGE_SCHEMA,
        ),
        Route(
            "DELETE", "/workers/{id}", workers.remove, "Remove a worker when its requests are over", "admin", status=202
        ),
        Route(
            "POST",
            "/start_profile",
            profiling.start,
            "Profile the workers",
            "admin",
            schema=PROFILE_SCHEMA,
            partial=True,
        ),
        Route(
            "POST",
            "/stop_profile",
            profiling.stop,
            "End the workers' profiles",
            "admin",
            schema=PROFILE_SCHEMA,
            partial=True,
        ),
        Route("GET", "/drain", drain.show, "How many requests are left", "admin"),
        Route("POST", "/drain", drain.start, "Take no new requests", "admin"),
        Route("DELETE", "/drain", drain.end, "Take requests again", "admin"),
        Route("GET", "/runs", runs.list, "Runs of trees of late", "runs"),
        Route("GET", "/runs/{id}", runs.show, "A run's trace", "runs"),
        Route("GET", "/runs/{id}/timeline", runs.timeline, "A run as a page", "runs", content_type=HTML),
        Route("GET", "/runs/{id}/chrome-trace", runs.chrome_trace, "A run for Perfetto", "runs"),
        Route("GET", "/metrics", metrics.metrics, "Prometheus metrics", scrape, content_type=TEXT),
        Route("GET", "/engine_metrics", engines.engine_metrics, "The workers' metrics", "admin", content_type=TEXT),
    ]
    refused = [
        Route(method, path, not_offered(reason), f"Not offered: {reason}", None, cross_origin=True)
        for (method, path), reason in ((name.split(), reason) for name, reason in PATHS_NOT_OFFERED.items())
    ]
    refused.append(Route("GET", "/ha/status", no_mesh, "Not offered: there is no mesh", None, cross_origin=True))
    return [*table, _open("/openapi.json", openapi_handler(table), "This document"), *refused]


def _passed(services: EndpointServices) -> list[Route]:
    """What is passed to servers as it is."""
    passed = PassedEndpoints(services.dispatcher, services.trees, services.forwarder, services.request_timeout)
    responses = ResponsesEndpoints(services.dispatcher, passed)
    stored = _inference("/v1/responses/{id}", responses.show, "responses", None, "A response that a server has stored")
    ended = "End a response that is made in the background"
    return [
        *(
            _inference(path, passed.handler(each), each.name, each.schema, each.summary)
            if each.needs_engine
            else _help(path, passed.handler(each), each.summary, each.schema)
            for each in PASSED_PATHS
            for path in each.paths
        ),
        _inference("/v1/responses", responses.create, "responses", RESPONSES_PATH.schema, RESPONSES_PATH.summary),
        replace(stored, method="GET"),
        _inference("/v1/responses/{id}/cancel", responses.cancel, "responses", None, ended),
    ]


def _inference(
    path: str, handler: Handler, endpoint: str, schema: Schema | None, summary: str = "Generate text"
) -> Route:
    return Route(
        "POST", path, handler, summary, "data", cross_origin=True, limited=True, endpoint=endpoint, schema=schema
    )


def _help(path: str, handler: Handler, summary: str, schema: Schema) -> Route:
    """A path that a server answers without its engine."""
    return Route("POST", path, handler, summary, "data", cross_origin=True, limited=True, schema=schema)


def _open(path: str, handler: Handler, summary: str) -> Route:
    """A path that tells everybody something."""
    return _told(path, handler, summary, None)


def _told(path: str, handler: Handler, summary: str, right: Right | None) -> Route:
    """A path that tells something to those who use the models."""
    return Route("GET", path, handler, summary, right, cross_origin=True)
