"""What answers clients' requests: the endpoints and their routes."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from router.endpoints.drain import DrainEndpoints
from router.endpoints.route_table import all_routes
from router.endpoints.routes import RouteTable
from router.endpoints.services import EndpointServices
from router.endpoints.workers import WorkerEndpoints
from router.server.components.clients import ClientComponents
from router.server.components.runs import RunComponents
from router.server.components.workers import WorkerComponents
from router.server.processes.peers import Peers
from router.server.processes.process_routing import ProcessRouting
from router.server.processes.worker_changes import WorkerChanges
from router.server.settings import RouterSettings


@dataclass(frozen=True)
class EndpointComponents:
    """What a router answers requests with.

    Attributes:
        workers: Adds, changes and removes workers.
        drain: Lets requests in unless the router is being drained.
        worker_changes: What operators changed, for the router's other processes; None with one process.
        routes: All routes.
    """

    workers: WorkerEndpoints
    drain: DrainEndpoints
    worker_changes: WorkerChanges | None
    routes: RouteTable


def build_endpoints(
    settings: RouterSettings,
    peers: Peers | None,
    workers: WorkerComponents,
    clients: ClientComponents,
    runs: RunComponents,
    prometheus: CollectorRegistry,
) -> EndpointComponents:
    """Build the endpoints; with several processes, some routes ask the others too."""
    worker_endpoints = WorkerEndpoints(workers.registry, workers.supervisor, workers.factory)
    drain = DrainEndpoints(clients.requests)
    services = EndpointServices(
        dispatcher=workers.dispatcher,
        supervisor=workers.supervisor,
        forwarder=workers.forwarder,
        trees=runs.trees,
        agent_runs=runs.agents,
        run_store=runs.store,
        workers=worker_endpoints,
        drain=drain,
        keys=clients.keys,
        collectors=prometheus,
        judge_state=lambda: runs.judge_state,
        request_timeout=settings.server.request_timeout_secs,
        peers=peers,
    )
    routes = all_routes(services)
    if peers is None:
        return EndpointComponents(worker_endpoints, drain, None, RouteTable(routes))
    changes = WorkerChanges(peers, worker_endpoints)
    worker_endpoints.announce = changes.announce
    routes = [*ProcessRouting(peers).wrap(routes), *changes.routes()]
    return EndpointComponents(worker_endpoints, drain, changes, RouteTable(routes))
