"""Prometheus metrics of clients' requests, with sglang-router's names and labels where the meaning is the same."""

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
ROUTER_LABELS = ("http", "pd", "http")  # values of the labels for router, backend and connection


class RequestMetrics:
    """Counts finished requests, and reports those in flight at each scrape.

    Args:
        registry: Where the metrics are registered.
        limits: Their decisions and queue are reported.
        requests: The requests in flight.
        buckets: Upper bounds of the duration histograms in seconds; None for `DURATION_BUCKETS`.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        limits: AdmissionLimits,
        requests: set[ClientRequest],
        buckets: tuple[float, ...] | None,
    ) -> None:
        self._statistics = RequestStatistics(buckets or DURATION_BUCKETS, ROUTER_LABELS)
        registry.register(self._statistics)
        registry.register(_ScrapedMetrics(limits, requests))

    def record(self, request: ClientRequest, route: Route | None, error_code: str) -> None:
        """Count a finished request."""
        duration = time.monotonic() - request.started_at
        # The path of the route: paths that clients make up would each be a new time series.
        method, path, endpoint = ("other", "other", "")
        if route is not None:
            method, path, endpoint = request.method, route.path, route.endpoint
        model = request.model if endpoint and request.model is not None else ""
        outcome = RequestOutcome(method, path, request.status, error_code, model, endpoint, request.streaming)
        ttft = (
            request.first_chunk_at - request.started_at
            if request.streaming and request.first_chunk_at is not None
            else None
        )
        self._statistics.count(outcome, duration, ttft)


class _ScrapedMetrics(Collector):
    """Metrics that are computed when Prometheus scrapes them."""

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
            upper = "+Inf" if high == float("inf") else str(high)
            count.add_metric((str(low), upper), sum(low < age <= high for age in ages))
        yield count
        decisions = CounterMetricFamily("smg_http_rate_limit", "Decisions of the limits", labels=("result",))
        for result in ("allowed", "rejected"):
            decisions.add_metric((result,), self._limits.decisions[result])
        yield decisions
        gate = self._limits.gate
        yield GaugeMetricFamily("moa_queue_length", "Requests that wait for their turn", gate.waiting if gate else 0)
