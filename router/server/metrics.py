"""Prometheus metrics of clients' requests. Names and labels are sglang-router's where they mean the same."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.endpoints.routes import Route
from router.http.client_request import ClientRequest
from router.observability.request_statistics import RequestOutcome, RequestStatistics
from router.server.admission import AdmissionLimits

DURATION_BUCKETS = (
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 45.0, 60.0, 90.0,
    120.0, 180.0, 240.0,
)  # fmt: skip
AGE_BUCKETS = (30, 60, 180, 300, 600, 1200, 3600, 7200, 14400, 28800, 86400)
ROUTER_LABELS = ("http", "pd", "http")  # of routers, backends and connections


class RequestMetrics:
    """Counts requests when they are over, and shows those in flight when Prometheus asks."""

    def __init__(
        self,
        registry: CollectorRegistry,
        limits: AdmissionLimits,
        requests: set[ClientRequest],
        buckets: tuple[float, ...] | None,
    ) -> None:
        self._tally = RequestStatistics(buckets or DURATION_BUCKETS, ROUTER_LABELS)
        registry.register(self._tally)
        registry.register(_InFlight(limits, requests))

    def answered(self, request: ClientRequest, route: Route | None, error_code: str) -> None:
        """A request whose answer is over."""
        took = time.monotonic() - request.started_at
        # The path as it was routed: one that a client made up would be a new series for ever.
        method, path, endpoint = ("other", "other", "")
        if route is not None:
            method, path, endpoint = request.method, route.path, route.endpoint
        model = request.model if endpoint and request.model is not None else ""
        answered = RequestOutcome(method, path, request.status, error_code, model, endpoint, request.streaming)
        first = (
            request.first_chunk_at - request.started_at
            if request.streaming and request.first_chunk_at is not None
            else None
        )
        self._tally.count(answered, took, first)


class _InFlight(Collector):
    """What can be read off at the moment that Prometheus asks."""

    def __init__(self, limits: AdmissionLimits, requests: set[ClientRequest]) -> None:
        self._limits = limits
        self._requests = requests

    def collect(self) -> Iterator[Metric]:
        now = time.monotonic()
        ages = [now - request.started_at for request in self._requests]
        yield GaugeMetricFamily("smg_http_connections_active", "Requests that are being answered", len(ages))
        count = GaugeMetricFamily(
            "smg_http_inflight_request_age_count", "Requests in flight by age in seconds", labels=("gt", "le")
        )
        for low, high in zip((0, *AGE_BUCKETS), (*AGE_BUCKETS, float("inf")), strict=True):
            told = "+Inf" if high == float("inf") else str(high)
            count.add_metric((str(low), told), sum(low < age <= high for age in ages))
        yield count
        limited = CounterMetricFamily("smg_http_rate_limit", "Decisions of the limits", labels=("result",))
        for result in ("allowed", "rejected"):
            limited.add_metric((result,), self._limits.decisions[result])
        yield limited
        gate = self._limits.gate
        yield GaugeMetricFamily("moa_queue_length", "Requests that wait for their turn", gate.waiting if gate else 0)
