"""Builds all parts of a router from its settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from router.access.key_ring import KeyRing
from router.agent_runs.service import AgentRuns
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.pair_times import PairTimes
from router.early_exit import AgreementJudge, Judge
from router.endpoints.drain import DrainEndpoints
from router.endpoints.route_table import all_routes
from router.endpoints.routes import RouteTable
from router.endpoints.services import EndpointServices
from router.endpoints.trees import TreeEndpoint
from router.endpoints.workers import WorkerEndpoints
from router.endpoints.workers_file import Bodies, WorkersFile, read_workers_file, workers_of
from router.forwarding.forwarder import Forwarder
from router.forwarding.metrics import ForwardingMetrics
from router.http.client_request import ClientRequest
from router.load_balancing import Policy, make_policy
from router.load_balancing.metrics import PolicyMetrics
from router.moa.run_context import RunContext
from router.moa.run_limits import RunLimits
from router.moa.tree_files import Trees, is_shipped, load_trees
from router.observability.duration_histogram import DURATION_BUCKETS
from router.observability.run_store import RunStore
from router.server.admission import AdmissionLimits
from router.server.connection_timeouts import ConnectionTimeouts
from router.server.event_loop import EventLoopWatch
from router.server.memory_metrics import MemoryMetrics
from router.server.metrics import RequestMetrics
from router.server.processes.limit_shares import client_share
from router.server.processes.peers import Peers
from router.server.processes.process_routing import ProcessRouting
from router.server.processes.worker_changes import WorkerChanges
from router.server.settings import RouterSettings
from router.server.watched_files import Signature, WatchedFile, WatchedFiles, signature
from router.service_discovery.metrics import DiscoveryMetrics
from router.service_discovery.pod_workers import PodWorkers
from router.service_discovery.settings import DiscoverySettings
from router.service_discovery.watcher import PodWatcher
from router.speculative_prefill.metrics import OpenPromptMetrics
from router.tls.contexts import WorkerTls
from router.worker_selection.overload import OverloadGuard
from router.worker_selection.pair_place_metrics import PairPlaceMetrics
from router.worker_selection.pair_places import PairPlaces
from router.worker_selection.restart_queue import RestartQueue
from router.worker_selection.selector import WorkerSelector
from router.worker_supervision.supervisor import WorkerSupervisor
from router.workers.factory import WorkerFactory
from router.workers.kv_event_metrics import KvEventMetrics
from router.workers.kv_event_monitor import KvEventMonitor
from router.workers.load_metrics import LoadMetrics
from router.workers.load_monitor import LoadMonitor
from router.workers.metrics import register_worker_metrics
from router.workers.registry import Registry
from router.workers.wedge_watch import WedgeWatch
from router.workers.worker import Role


@dataclass(frozen=True)
class Components:
    """The parts of a router that the app uses.

    Attributes:
        registry: The workers.
        dispatcher: Chooses workers for each request.
        supervisor: Watches the workers in the background.
        watcher: Watches Kubernetes pods, or None.
        judge: Measures how much answers agree.
        preload_judge: Whether a tree of the trees file needs the judge's embedding model.
        files: Watches files of settings.
        trees: Answers requests to trees.
        agent_runs: The runs of agents that clients name.
        drain: Lets requests in unless the router is being drained.
        worker_changes: What operators changed, for the router's other processes; None with one process.
        routes: All routes.
        keys: The API keys.
        limits: Admission limits.
        requests: The requests in flight; the app adds and removes them.
        request_metrics: Counts finished requests.
        event_loop: Looks at how late the event loop is.
        connection_timeouts: Counts connections of clients that were too slow.
    """

    registry: Registry
    dispatcher: Dispatcher
    supervisor: WorkerSupervisor
    watcher: PodWatcher | None
    judge: AgreementJudge
    preload_judge: bool
    files: WatchedFiles
    trees: TreeEndpoint
    agent_runs: AgentRuns
    drain: DrainEndpoints
    worker_changes: WorkerChanges | None
    routes: RouteTable
    keys: KeyRing
    limits: AdmissionLimits
    requests: set[ClientRequest]
    request_metrics: RequestMetrics
    event_loop: EventLoopWatch
    connection_timeouts: ConnectionTimeouts


def build_components(
    settings: RouterSettings,
    judge: AgreementJudge | None,
    peers: Peers | None,
    keys: KeyRing | None,
    worker_tls: WorkerTls | None,
) -> Components:
    """Build the parts, each after those it needs; nothing runs in the background yet.

    Args:
        settings: What the router serves and how.
        judge: Measures how much answers agree; None for one with the embedding model of the settings.
        peers: The processes of this router, or None when there is one.
        keys: The API keys; None reads those of the settings.
        worker_tls: The certificates towards workers; None reads those of the settings.

    Raises:
        RouterError: A setting cannot be used: a worker's address, a policy, the trees file, the file of keys or one of
            certificates.
    """
    server = settings.server
    prometheus = CollectorRegistry()

    # Clients and their keys. The workers get the key of `--api-key`, and none of the file.
    keys = KeyRing.load(server.api_key, server.api_keys_file) if keys is None else keys

    # Workers, and which of them gets a request.
    factory = WorkerFactory(
        settings.health,
        settings.breaker,
        server.api_key,
        worker_tls or WorkerTls(settings.tls),
        takes_client_keys=not keys.clients,
    )
    seen = {path: signature(path) for path in (settings.trees, settings.workers_file) if path is not None}
    in_file = {} if settings.workers_file is None else read_workers_file(settings.workers_file, factory)
    registry = _registry(settings, factory, in_file)
    register_worker_metrics(prometheus, registry)
    policies: dict[Role, str] = {
        "prefill": settings.prefill_policy or settings.policy,
        "decode": settings.decode_policy or settings.policy,
        "plain": settings.policy,
    }
    process, processes = (0, 1) if peers is None else (peers.index, len(peers.indexes))
    by_role = {
        role: make_policy(name, settings.cache_aware, settings.policies, process) for role, name in policies.items()
    }
    prometheus.register(PolicyMetrics(by_role.values()))
    dispatcher = _dispatcher(settings, registry, by_role, prometheus)
    supervisor = _supervisor(settings, dispatcher, by_role, prometheus)

    # Clients' requests: limits and metrics.
    clients = [client_share(each, process, processes, server.workers) for each in keys.clients]
    limits = AdmissionLimits(settings.limits, clients)
    requests: set[ClientRequest] = set()
    request_metrics = RequestMetrics(prometheus, limits, requests, server.duration_buckets)
    event_loop = EventLoopWatch(prometheus)
    connection_timeouts = ConnectionTimeouts(prometheus)

    # Workers found in Kubernetes.
    watcher = None
    if settings.discovery is not None:
        discovery_metrics = DiscoveryMetrics(prometheus, server.duration_buckets or DURATION_BUCKETS)
        pod_workers = PodWorkers(registry, supervisor, factory, discovery_metrics)
        watcher = _watch_pods(settings.discovery, pod_workers, supervisor, discovery_metrics)

    # Runs: of trees, and of agents that clients name.
    trees = load_trees(settings.trees)
    judge = judge or Judge(settings.runs.embedding_model)
    run_context = RunContext(dispatcher, judge=judge, metrics=OpenPromptMetrics(prometheus))
    if peers is not None:
        run_context.new_run_id = peers.new_run
    run_limits, run_store = (
        RunLimits(settings.runs),
        RunStore(max_bytes=settings.runs.store_bytes, redact_text=server.redact_text),
    )
    tree_endpoint = TreeEndpoint(run_context, trees, run_limits, run_store)
    agent_runs = AgentRuns(run_context, run_limits, run_store)
    prometheus.register(MemoryMetrics(limits, run_limits, run_store, agent_runs.runs, dispatcher.background))

    # Endpoints and their routes.
    forwarder = Forwarder(
        dispatcher.selector.restarts,
        settings.retries,
        ForwardingMetrics(prometheus, policies),
        settings.policies.routing_key_headers,
    )
    worker_endpoints = WorkerEndpoints(registry, supervisor, factory)
    drain = DrainEndpoints(requests)
    services = EndpointServices(
        dispatcher=dispatcher,
        supervisor=supervisor,
        forwarder=forwarder,
        trees=tree_endpoint,
        agent_runs=agent_runs,
        run_store=run_store,
        workers=worker_endpoints,
        drain=drain,
        keys=keys,
        collectors=prometheus,
        judge_state=lambda: judge.state if isinstance(judge, Judge) else "ready",
        request_timeout=server.request_timeout_secs,
        peers=peers,
    )
    routes = all_routes(services)
    worker_changes = None
    if peers is not None:
        worker_changes = WorkerChanges(peers, worker_endpoints)
        worker_endpoints.announce = worker_changes.announce
        routes = [*ProcessRouting(peers).wrap(routes), *worker_changes.routes()]

    return Components(
        registry=registry,
        dispatcher=dispatcher,
        supervisor=supervisor,
        watcher=watcher,
        judge=judge,
        preload_judge=trees.need_judge,
        files=_watched_files(settings, seen, factory, WorkersFile(worker_endpoints, in_file), tree_endpoint, judge),
        trees=tree_endpoint,
        agent_runs=agent_runs,
        drain=drain,
        worker_changes=worker_changes,
        routes=RouteTable(routes),
        keys=keys,
        limits=limits,
        requests=requests,
        request_metrics=request_metrics,
        event_loop=event_loop,
        connection_timeouts=connection_timeouts,
    )


def _watched_files(
    settings: RouterSettings,
    seen: Mapping[Path, Signature],
    factory: WorkerFactory,
    workers: WorkersFile,
    tree_endpoint: TreeEndpoint,
    judge: AgreementJudge,
) -> WatchedFiles:
    """The files that are followed when they change, with their signatures before they were read."""

    def take_trees_over(trees: Trees) -> str:
        if trees.need_judge and isinstance(judge, Judge):
            judge.start_soon()
        tree_endpoint.take_over(trees)
        return f"new runs are of its trees: {', '.join(tree.name for tree in trees.trees)}"

    files = []
    if settings.trees is not None and not is_shipped(settings.trees):
        files.append(WatchedFile(settings.trees, seen[settings.trees], load_trees, take_trees_over))
    if (path := settings.workers_file) is not None:
        read = partial(read_workers_file, factory=factory)
        files.append(WatchedFile(path, seen[path], read, workers.take_over, workers.settle))
    return WatchedFiles(files, settings.server.file_check_secs)


def _registry(settings: RouterSettings, factory: WorkerFactory, in_file: Bodies) -> Registry:
    """The workers that the command line and the workers file name."""
    registry = Registry([], exact_models=settings.igw or settings.trees is not None)
    for url, bootstrap_port in settings.prefill:
        registry.add(factory.make(url, "prefill", bootstrap_port))
    for url in settings.decode:
        registry.add(factory.make(url, "decode"))
    for url in settings.plain:
        registry.add(factory.make(url, "plain"))
    for worker in workers_of(in_file, factory):
        registry.refuse_address(worker.url)
        registry.add(worker)
    return registry


def _dispatcher(
    settings: RouterSettings, registry: Registry, by_role: Mapping[Role, Policy], prometheus: CollectorRegistry
) -> Dispatcher:
    """What chooses workers and sends to them, with what keeps requests from workers that have no room."""
    waiting = settings.limits.queue_size, settings.limits.queue_timeout_secs
    places = PairPlaces(registry, settings.places, *waiting)
    prometheus.register(PairPlaceMetrics(registry, places))
    overload = OverloadGuard(settings.overload, settings.loads.interval_secs) if settings.overload.enabled else None
    if overload is not None:
        prometheus.register(overload)
    selector = WorkerSelector(
        registry,
        by_role,
        balance=settings.cache_aware,
        places=places,
        restarts=RestartQueue(registry, *waiting),
        overload=overload,
    )
    return Dispatcher(selector, PairTimes(settings.server.duration_buckets or DURATION_BUCKETS, prometheus))


def _supervisor(
    settings: RouterSettings, dispatcher: Dispatcher, by_role: Mapping[Role, Policy], prometheus: CollectorRegistry
) -> WorkerSupervisor:
    """What watches the workers, and asks them for what the policies want to know."""
    registry = dispatcher.registry
    asked = [role for role, policy in by_role.items() if policy.uses_server_loads or settings.overload.enabled]
    loads = LoadMonitor(registry, settings.loads, asked)
    prometheus.register(LoadMetrics(loads))
    followed = [role for role, policy in by_role.items() if policy.uses_kv_events]
    kv_events = KvEventMonitor(registry, settings.kv_events, followed)
    prometheus.register(KvEventMetrics(kv_events))
    return WorkerSupervisor(
        dispatcher,
        settings.health.probe_interval_secs,
        [loads, kv_events, WedgeWatch(registry, settings.wedges)],
        warm_up=not settings.health.skip_warm_up,
    )


def _watch_pods(
    settings: DiscoverySettings, pod_workers: PodWorkers, supervisor: WorkerSupervisor, metrics: DiscoveryMetrics
) -> PodWatcher:
    """The watcher of pods, whose problems the router reports as its own."""
    watcher = PodWatcher(settings, pod_workers, metrics)
    supervisor.discovery_problem = lambda: watcher.problem
    return watcher
