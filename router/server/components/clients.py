"""Clients: their keys, limits and requests."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from router.access.key_ring import KeyRing
from router.http.client_request import ClientRequest
from router.server.admission import AdmissionLimits
from router.server.connection_timeouts import ConnectionTimeouts
from router.server.metrics import RequestMetrics
from router.server.processes.limit_shares import client_share
from router.server.processes.peers import Peers
from router.server.settings import RouterSettings


@dataclass(frozen=True)
class ClientComponents:
    """What a router has for its clients.

    Attributes:
        keys: The API keys.
        limits: Admission limits.
        requests: The requests in flight; the app adds and removes them.
        metrics: Counts finished requests.
        connection_timeouts: Counts connections of clients that were too slow.
    """

    keys: KeyRing
    limits: AdmissionLimits
    requests: set[ClientRequest]
    metrics: RequestMetrics
    connection_timeouts: ConnectionTimeouts


def build_clients(
    settings: RouterSettings, keys: KeyRing, peers: Peers | None, prometheus: CollectorRegistry
) -> ClientComponents:
    """Build what a router, or one of its processes, has for its clients."""
    server = settings.server
    index, count = (0, 1) if peers is None else (peers.index, len(peers.indexes))
    limits = AdmissionLimits(
        settings.limits, [client_share(each, index, count, server.workers) for each in keys.clients]
    )
    requests: set[ClientRequest] = set()
    metrics = RequestMetrics(prometheus, limits, requests, server.duration_buckets)
    return ClientComponents(keys, limits, requests, metrics, ConnectionTimeouts(prometheus))
