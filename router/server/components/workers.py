"""The workers, and what chooses among them, sends to them and watches them."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from router.access.key_ring import KeyRing
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.pair_times import PairTimes
from router.endpoints.workers_file import Bodies, read_workers_file, workers_of
from router.forwarding.forwarder import Forwarder
from router.forwarding.metrics import ForwardingMetrics
from router.load_balancing import Policy, make_policy
from router.load_balancing.metrics import PolicyMetrics
from router.observability.duration_histogram import DURATION_BUCKETS
from router.server.processes.peers import Peers
from router.server.processes.shared_choices import SharedChoices
from router.server.processes.shared_choices_metrics import SharedChoicesMetrics
from router.server.settings import RouterSettings
from router.service_discovery.metrics import DiscoveryMetrics
from router.service_discovery.pod_workers import PodWorkers
from router.service_discovery.watcher import PodWatcher
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
class WorkerComponents:
    """What a router has for its workers.

    Attributes:
        factory: Creates workers with the router's settings.
        file_bodies: What the workers file said at the start.
        registry: The workers.
        dispatcher: Chooses workers for each request, and sends it to them.
        forwarder: Forwards clients' requests, with retries.
        supervisor: Watches the workers in the background.
        watcher: Watches Kubernetes pods, or None.
        shared: Tells other processes what is sent where; None where there are none, or no policy wants to know.
    """

    factory: WorkerFactory
    file_bodies: Bodies
    registry: Registry
    dispatcher: Dispatcher
    forwarder: Forwarder
    supervisor: WorkerSupervisor
    watcher: PodWatcher | None
    shared: SharedChoices | None


def build_workers(
    settings: RouterSettings,
    keys: KeyRing,
    peers: Peers | None,
    tls: WorkerTls | None,
    prometheus: CollectorRegistry,
) -> WorkerComponents:
    """Build what a router has for its workers; they get the key of `--api-key`, and none of the file of keys."""
    factory = WorkerFactory(
        settings.health,
        settings.breaker,
        settings.server.api_key,
        tls or WorkerTls(settings.tls),
        takes_client_keys=not keys.clients,
        splits_ranks=settings.data_parallel.dp_aware,
    )
    file_bodies = {} if settings.workers_file is None else read_workers_file(settings.workers_file, factory)
    registry = _registry(settings, factory, file_bodies)
    register_worker_metrics(prometheus, registry)
    names = _policy_names(settings)
    policies = {
        role: make_policy(name, settings.cache_aware, settings.policies, 0 if peers is None else peers.index)
        for role, name in names.items()
    }
    prometheus.register(PolicyMetrics(policies.values()))
    dispatcher = _dispatcher(settings, registry, policies, prometheus)
    supervisor = _supervisor(settings, dispatcher, policies, prometheus)
    return WorkerComponents(
        factory,
        file_bodies,
        registry,
        dispatcher,
        Forwarder(
            dispatcher.selector.restarts,
            settings.retries,
            ForwardingMetrics(prometheus, names),
            settings.policies.routing_key_headers,
        ),
        supervisor,
        _pod_watcher(settings, registry, supervisor, factory, prometheus),
        _shared_choices(peers, registry, policies, prometheus),
    )


def _registry(settings: RouterSettings, factory: WorkerFactory, file_bodies: Bodies) -> Registry:
    """The workers that the command line and the workers file name."""
    registry = Registry([], exact_models=settings.igw or settings.trees is not None)
    for url, bootstrap_port in settings.prefill:
        registry.add(factory.make(url, "prefill", bootstrap_port))
    for url in settings.decode:
        registry.add(factory.make(url, "decode"))
    for url in settings.plain:
        registry.add(factory.make(url, "plain"))
    for worker in workers_of(file_bodies, factory):
        registry.refuse_address(worker.url)
        registry.add(worker)
    return registry


def _policy_names(settings: RouterSettings) -> dict[Role, str]:
    """The name of the policy for each role."""
    return {
        "prefill": settings.prefill_policy or settings.policy,
        "decode": settings.decode_policy or settings.policy,
        "plain": settings.policy,
    }


def _dispatcher(
    settings: RouterSettings, registry: Registry, policies: Mapping[Role, Policy], prometheus: CollectorRegistry
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
        policies,
        balance=settings.cache_aware,
        places=places,
        restarts=RestartQueue(registry, *waiting),
        overload=overload,
    )
    return Dispatcher(selector, PairTimes(settings.server.duration_buckets or DURATION_BUCKETS, prometheus))


def _supervisor(
    settings: RouterSettings, dispatcher: Dispatcher, policies: Mapping[Role, Policy], prometheus: CollectorRegistry
) -> WorkerSupervisor:
    """What watches the workers, and asks them for what the policies want to know."""
    registry = dispatcher.registry
    asked = [role for role, policy in policies.items() if policy.uses_server_loads or settings.overload.enabled]
    loads = LoadMonitor(registry, settings.loads, asked)
    prometheus.register(LoadMetrics(loads))
    followed = [role for role, policy in policies.items() if policy.uses_kv_events]
    kv_events = KvEventMonitor(registry, settings.kv_events, followed)
    prometheus.register(KvEventMetrics(kv_events))
    return WorkerSupervisor(
        dispatcher,
        settings.health.probe_interval_secs,
        [loads, kv_events, WedgeWatch(registry, settings.wedges)],
        warm_up=not settings.health.skip_warm_up,
    )


def _shared_choices(
    peers: Peers | None, registry: Registry, policies: Mapping[Role, Policy], prometheus: CollectorRegistry
) -> SharedChoices | None:
    """What tells other processes of choices."""
    if peers is None or all(policy.in_processes == "alike" for policy in policies.values()):
        return None
    shared = SharedChoices(peers.index, peers.paths, registry, policies)
    prometheus.register(SharedChoicesMetrics(shared))
    return shared


def _pod_watcher(
    settings: RouterSettings,
    registry: Registry,
    supervisor: WorkerSupervisor,
    factory: WorkerFactory,
    prometheus: CollectorRegistry,
) -> PodWatcher | None:
    """The watcher of pods, whose problems the router reports as its own; None without service discovery."""
    if settings.discovery is None:
        return None
    metrics = DiscoveryMetrics(prometheus, settings.server.duration_buckets or DURATION_BUCKETS)
    watcher = PodWatcher(settings.discovery, PodWorkers(registry, supervisor, factory, metrics), metrics)
    supervisor.discovery_problem = lambda: watcher.problem
    return watcher
