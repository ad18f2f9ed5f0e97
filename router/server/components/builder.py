"""Builds all parts of a router from its settings."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from router.access.key_ring import KeyRing
from router.early_exit import AgreementJudge
from router.server.components.clients import ClientComponents, build_clients
from router.server.components.endpoints import EndpointComponents, build_endpoints
from router.server.components.files import build_files, signatures
from router.server.components.runs import RunComponents, build_runs
from router.server.components.workers import WorkerComponents, build_workers
from router.server.event_loop import EventLoopWatch
from router.server.memory_metrics import MemoryMetrics
from router.server.processes.peers import Peers
from router.server.settings import RouterSettings
from router.server.watched_files import WatchedFiles
from router.tls.contexts import WorkerTls


@dataclass(frozen=True)
class Components:
    """The parts of a router.

    Attributes:
        settings: What the router serves and how.
        peers: The processes of this router, or None when there is one.
        workers: The workers, and what sends to them and watches them.
        clients: What is known of clients and their requests.
        runs: Runs of trees and of agents.
        endpoints: What answers requests, by path.
        files: Watches files of settings.
        event_loop: Measures how late the event loop is.
    """

    settings: RouterSettings
    peers: Peers | None
    workers: WorkerComponents
    clients: ClientComponents
    runs: RunComponents
    endpoints: EndpointComponents
    files: WatchedFiles
    event_loop: EventLoopWatch


def build_components(
    settings: RouterSettings,
    judge: AgreementJudge | None = None,
    peers: Peers | None = None,
    keys: KeyRing | None = None,
    worker_tls: WorkerTls | None = None,
) -> Components:
    """Build the parts, each after those it needs; nothing runs in the background yet.

    Args:
        settings: What the router serves and how.
        judge: Measures how much answers agree; None for one with the embedding model of the settings.
        peers: The processes of this router, or None when there is one.
        keys: The API keys, where they are read already; None reads those of the settings.
        worker_tls: The certificates towards workers, where they are read already; None reads those of the settings.

    Raises:
        RouterError: A setting cannot be used: a worker's address, a policy, the trees file, the file of keys or one of
            certificates.
    """
    prometheus = CollectorRegistry()
    if keys is None:
        keys = KeyRing.load(settings.server.api_key, settings.server.api_keys_file)
    before_reading = signatures(settings)
    workers = build_workers(settings, keys, peers, worker_tls, prometheus)
    clients = build_clients(settings, keys, peers, prometheus)
    event_loop = EventLoopWatch(prometheus)
    runs = build_runs(settings, judge, peers, workers, prometheus)
    prometheus.register(
        MemoryMetrics(clients.limits, runs.limits, runs.store, runs.agents.runs, workers.dispatcher.background)
    )
    endpoints = build_endpoints(settings, peers, workers, clients, runs, prometheus)
    files = build_files(settings, before_reading, workers, runs, endpoints)
    return Components(settings, peers, workers, clients, runs, endpoints, files, event_loop)
