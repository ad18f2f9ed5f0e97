"""The ASGI application: from a path to an answer, errors included, and the life of background work."""

import asyncio
import logging
import time
from contextlib import suppress

from prometheus_client import CollectorRegistry

from router.agent_runs.service import AgentRuns
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.metrics import DispatchMetrics
from router.dispatch.pair_forwarding import PairForwarder
from router.dispatch.supervisor import WorkerSupervisor
from router.early_exit import AgreementJudge, Judge, JudgeError
from router.endpoints.access import ApiKey
from router.endpoints.inference import InferenceEndpoints
from router.endpoints.info import InfoEndpoints
from router.endpoints.route_table import all_routes
from router.endpoints.routes import Route, RouteTable
from router.endpoints.runs import RunEndpoints
from router.endpoints.trees import TreeEndpoint
from router.endpoints.workers import WorkerEndpoints
from router.errors import NotFound, RouterError, clear_tracebacks
from router.http.asgi import ClientGone, Receive, Scope, Send
from router.http.body import parse_object
from router.http.client_request import ID_HEADERS, ClientRequest
from router.load_balancing import make_policy
from router.moa.run_context import RunContext
from router.moa.run_limits import RunLimits
from router.moa.tree import load_trees
from router.observability.run_store import RunStore
from router.observability.tracing import start_tracing
from router.server.access_log import log
from router.server.admission import AdmissionLimits
from router.server.cors import Cors
from router.server.metrics import DURATION_BUCKETS, RequestMetrics
from router.server.processes.peers import Peers
from router.server.processes.spread import OperatorChange, ProcessRouting
from router.server.settings import RouterSettings
from router.service_discovery.metrics import DiscoveryMetrics
from router.service_discovery.pod_workers import PodWorkers
from router.service_discovery.settings import DiscoverySettings
from router.service_discovery.watcher import PodWatcher
from router.speculative_prefill.metrics import OpenPromptMetrics
from router.workers.factory import WorkerFactory
from router.workers.metrics import register_worker_metrics
from router.workers.registry import Registry
from router.workers.worker import Role

logger = logging.getLogger(__name__)

STOP_TIMEOUT = 5.0  # seconds


class App:
    """One router.

    Args:
        settings: What it serves and how.
        judge: Measures how much answers agree; its own unless given, which it closes in the end.
        peers: The processes of this router, where it has several.
    """

    def __init__(
        self, settings: RouterSettings, judge: AgreementJudge | None = None, peers: Peers | None = None
    ) -> None:
        self._settings = settings
        server = settings.server
        factory = WorkerFactory(settings.health, settings.breaker, server.api_key)
        self.registry = Registry([])
        for url, port in settings.prefill:
            self.registry.add(factory.make(url, "prefill", port))
        for url in settings.decode:
            self.registry.add(factory.make(url, "decode"))
        for url in settings.plain:
            self.registry.add(factory.make(url, "plain"))
        self._prometheus = CollectorRegistry()
        register_worker_metrics(self._prometheus, self.registry)
        policies: dict[Role, str] = {
            "prefill": settings.prefill_policy or settings.policy,
            "decode": settings.decode_policy or settings.policy,
        }
        prefill, decode = (make_policy(name, settings.cache_aware) for name in policies.values())
        self.dispatcher = Dispatcher(self.registry, prefill, decode, settings.cache_aware)
        warm_up = not settings.health.skip_warm_up
        self.supervisor = WorkerSupervisor(
            self.registry, self.dispatcher, settings.health.probe_interval_secs, warm_up=warm_up
        )
        self.limits = AdmissionLimits(settings.limits)
        self._requests: set[ClientRequest] = set()
        self._metrics = RequestMetrics(self._prometheus, self.limits, self._requests, server.duration_buckets)
        self._watcher = self._discovery(settings.discovery, factory) if settings.discovery is not None else None
        trees = load_trees(settings.trees)
        self.judge = judge or Judge(settings.runs.embedding_model)
        self._judges = any(tree.arm == "exit" and tree.exit.measures for tree in trees.trees)
        self._loading: asyncio.Task[None] | None = None
        context = RunContext(self.dispatcher, judge=self.judge, metrics=OpenPromptMetrics(self._prometheus))
        if peers is not None:
            context.new_run = peers.new_run
        run_limits, runs = RunLimits(settings.runs), RunStore()
        moa = TreeEndpoint(context, trees, run_limits, runs)
        self._clients = AgentRuns(context, run_limits, runs)
        timeout = server.request_timeout_secs
        pairs = PairForwarder(self.dispatcher, settings.retries, DispatchMetrics(self._prometheus, policies))
        proxy = InferenceEndpoints(self.registry, moa, self._clients, pairs, timeout, peers)
        self._key = ApiKey(server.api_key)
        info = InfoEndpoints(self.dispatcher, moa, self.supervisor, proxy, self._key, self._prometheus)
        self._admin = WorkerEndpoints(self.registry, self.supervisor, factory)
        table = all_routes(proxy, info, self._admin, RunEndpoints(runs))
        self._peers = peers
        self._spread = None if peers is None else ProcessRouting(peers)
        self.routes = RouteTable(table if self._spread is None else self._spread.over(table))
        self._cors = Cors(server.cors_origins)
        self._tracing = start_tracing(settings.trace)
        names = server.request_id_headers
        self._id_headers = ID_HEADERS if names is None else tuple(name.lower().encode() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            request = ClientRequest(
                scope,
                receive,
                send,
                max_body=self._settings.server.max_payload_bytes,
                id_headers=self._id_headers,
            )
            request.internal = self._peers is not None and _port(scope) is None
            own_port = self._settings.server.prometheus_port
            await self._answer(request, metrics_only=own_port is not None and _port(scope) == own_port)

    async def _answer(self, request: ClientRequest, *, metrics_only: bool) -> None:
        self._requests.add(request)
        request.extra_headers += self._cors.headers(request)
        route: Route | None = None
        error_code = ""
        try:
            if self._cors.asks(request):
                await self._cors.allow(request)
                return
            route, variable = self.routes.find(request)
            if self._tracing is not None and route.endpoint:
                request.span = self._tracing.start_request(request, route.path, route.endpoint)
            if metrics_only and route.path != "/metrics":
                raise NotFound("this port is for /metrics only.")
            if not (route.public or request.internal):
                self._key.check(request)
            if route.limited and self.limits.on and not request.internal:
                await self._limited(request, route, variable)
            else:
                await route.handler(request, *variable)
        except ClientGone as gone:
            logger.debug("client left: %s %s", request.method, request.path)
            clear_tracebacks(gone)
        except RouterError as error:
            error_code = error.kind
            await self._refuse(request, error)
            clear_tracebacks(error)
        except Exception:
            logger.exception("unexpected error in %s %s", request.method, request.path)
            error_code = RouterError.kind
            await self._refuse(request, RouterError("the router failed on this request; its log has the cause."))
        finally:
            self._requests.discard(request)
            if request.span is not None:
                request.span.end(request, error_code)
            if not request.internal:  # else the process that the client spoke to does
                self._metrics.answered(request, route, error_code)
                log(request)

    async def _limited(self, request: ClientRequest, route: Route, variable: tuple[str, ...]) -> None:
        await self.limits.enter(request)
        try:
            await route.handler(request, *variable)
        finally:
            self.limits.leave()

    @staticmethod
    async def _refuse(request: ClientRequest, error: RouterError) -> None:
        if request.response_started:
            # The status line is out: closing without the last chunk is the only honest signal left.
            raise error
        if error.retry_after is not None:
            request.extra_headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after))))
        await request.send_json(error.body(), error.status)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def start(self) -> None:
        """Look at the workers once and keep looking."""
        if self._spread is not None:
            await self._spread.catch_up(self._apply)
        await self.supervisor.start()
        if self._watcher is not None:
            self._watcher.start()
        if self._judges and isinstance(self.judge, Judge):
            self._loading = asyncio.create_task(_load(self.judge))

    def _apply(self, change: OperatorChange) -> None:
        """What an operator told the other processes before this one began; what does not fit any more is left."""
        with suppress(RouterError):
            if change.method == "POST":
                self._admin.take_in(parse_object(change.body.encode()))
            else:
                # Nothing was asked of it here: gone at once, it is not in the way of one that came there later.
                self.registry.drop(self.registry.by_id(change.path.rpartition("/")[2]))

    async def stop(self) -> None:
        """End background work, let requests that were cancelled tell the workers, and close connections."""
        if self._watcher is not None:
            await self._watcher.close()
        await self.supervisor.close()
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        deadline = time.monotonic() + STOP_TIMEOUT
        while self._requests and time.monotonic() < deadline:  # noqa: ASYNC110 - for the sake of each request
            await asyncio.sleep(0.01)
        self._clients.close()
        if self._peers is not None:
            self._peers.close()
        await self.judge.close()
        await self.dispatcher.close()
        self.registry.close()
        if self._tracing is not None:
            await self._tracing.stop()

    def _discovery(self, settings: DiscoverySettings, factory: WorkerFactory) -> PodWatcher:
        metrics = DiscoveryMetrics(self._prometheus, self._settings.server.duration_buckets or DURATION_BUCKETS)
        watcher = PodWatcher(settings, PodWorkers(self.registry, self.supervisor, factory, metrics), metrics)
        self.supervisor.discovery_problem = lambda: watcher.problem
        return watcher


async def _load(judge: Judge) -> None:
    """Before the first run needs it: the embedding model takes seconds to load."""
    try:
        await judge.start()
    except JudgeError as error:
        logger.warning("early exit waits for its judge: %s", error)


def _port(scope: Scope) -> int | None:
    server = scope.get("server")
    return server[1] if server else None
